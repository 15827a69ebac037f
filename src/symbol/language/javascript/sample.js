// A queue of jobs, and the page that shows it.
import { log } from "./log.js";

export const LIMIT = 8;
let running = 0;
var legacy = true;

/** One job. */
export class Job extends Base {
  #started = false;
  static count = 0;

  constructor(name) {
    super(name);
    Job.count += 1;
  }

  get done() {
    return this.#check();
  }

  #check() {
    return !this.#started;
  }

  run = async () => {
    running += 1;
    await this.work(new Timer(LIMIT));
  };
}

export function start(jobs) {
  const next = () => jobs.shift();
  for (let job = next(); job; job = next()) {
    job.run();
  }
}

function* numbers() {
  yield* other.numbers();
}

export const double = (x) => multiply(x, 2);
const triple = function (x) {
  return multiply(x, 3);
};
const Anonymous = class {
  speak() {
    return `${log("hi")} there`;
  }
};

function Old() {}
Old.prototype.shout = function () {
  return this.text.toUpperCase();
};
exports.stop = function (job) {
  job.stop();
};
module.exports.pause = () => wait();

export default function Page({ jobs }) {
  return (
    <Layout title="jobs">
      <ui.List items={jobs.map((job) => describe(job))} />
    </Layout>
  );
}

test("doubles", () => {
  expect(double(2)).toBe(4);
});
