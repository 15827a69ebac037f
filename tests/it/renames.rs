//! `git branch -m` and `-c` move a branch's log and then say so, in many steps. Whatever step a look
//! of the daemon falls on, each line is told once and in order. Git is held before each of its calls
//! that change a file in turn.

use std::process::{Child, Command, Stdio};

use crate::{
    checkpoints::{git_in, told},
    fault::{Act, Fault, kinds},
    harness::{TestRepo, eventually},
};

/// Calls that change what is there.
const STEPS: u32 = kinds::NAME | kinds::CREATE | kinds::WRITE;

/// A command that moves logs, and what is to be told of it and of what was done before.
struct Scene {
    name: &'static str,
    /// Done first, and told while a daemon runs.
    before: &'static [&'static str],
    /// Done then, while none does.
    unlooked: &'static [&'static str],
    /// Held at each of its steps.
    command: &'static str,
    /// What is told of the last two.
    told: &'static [&'static str],
    /// What may be told as well, where a look sees it happen.
    seen: &'static str,
}

const SET_AND_RENAMED: &[&str] = &[
    "set:b on old, #..#",
    "Branch on new, #: renamed refs/heads/old to refs/heads/new",
];

const SCENES: &[Scene] = &[
    Scene {
        name: "a branch is renamed",
        before: &["branch old", "update-ref -m set:a refs/heads/old HEAD~1"],
        unlooked: &["update-ref -m set:b refs/heads/old HEAD"],
        command: "branch -m old new",
        told: SET_AND_RENAMED,
        seen: "",
    },
    Scene {
        name: "the branch that HEAD is on is renamed",
        before: &["checkout -q -b old", "commit -q --allow-empty -m two"],
        unlooked: &["commit -q --allow-empty -m three"],
        command: "branch -m new",
        told: &[
            "commit on old, #..#: three",
            "Branch on new, #: renamed refs/heads/old to refs/heads/new",
        ],
        seen: "",
    },
    Scene {
        name: "a packed branch that HEAD was on is renamed to one below it",
        before: &["checkout -q -b old", "commit -q --allow-empty -m two"],
        unlooked: &[
            "commit -q --allow-empty -m three",
            "checkout -q main",
            "pack-refs --all",
        ],
        command: "branch -m old old/deep",
        told: &[
            "commit on old, #..#: three",
            "Branch on old/deep, #: renamed refs/heads/old to refs/heads/old/deep",
        ],
        seen: "",
    },
    Scene {
        name: "a branch is renamed to its former name",
        before: &["branch new", "branch -m new old"],
        unlooked: &["update-ref -m set:b refs/heads/old HEAD~1"],
        command: "branch -m old new",
        told: SET_AND_RENAMED,
        seen: "",
    },
    Scene {
        name: "a branch is renamed to one that there is",
        before: &["branch old", "branch new HEAD~1"],
        unlooked: &["update-ref -m set:b refs/heads/old HEAD~1"],
        command: "branch -M old new",
        told: SET_AND_RENAMED,
        seen: "deleted new, which was at #",
    },
    Scene {
        name: "the branch of a linked worktree is renamed",
        before: &["worktree add -q -b old ../linked"],
        unlooked: &["-C ../linked commit -q --allow-empty -m three"],
        command: "-C ../linked branch -m new",
        told: &[
            "commit on old, #..#: three",
            "Branch on new, #: renamed refs/heads/old to refs/heads/new",
        ],
        seen: "",
    },
    Scene {
        name: "a branch is copied",
        before: &["checkout -q -b old", "commit -q --allow-empty -m two"],
        unlooked: &["commit -q --allow-empty -m three"],
        command: "branch -c old new",
        told: &[
            "commit on old, #..#: three",
            "Branch on new, #: copied refs/heads/old to refs/heads/new",
        ],
        seen: "",
    },
    Scene {
        name: "a branch is copied over one that leads to the same",
        before: &[
            "branch old",
            "update-ref -m set:a refs/heads/old HEAD~1",
            "branch new",
        ],
        unlooked: &["update-ref -m set:b refs/heads/old HEAD"],
        command: "branch -C old new",
        told: &[
            "set:b on old, #..#",
            "Branch on new, #: copied refs/heads/old to refs/heads/new",
        ],
        seen: "",
    },
];

/// A scene under way, up to where its command is.
struct Stage {
    repo: TestRepo,
    fault: Fault,
    moment: i64,
}

impl Stage {
    fn new(test: &str) -> Option<Self> {
        let repo = TestRepo::new();
        git_in(
            &repo,
            repo.root(),
            0,
            &["commit", "-q", "--allow-empty", "-m", "one"],
        );
        let fault = Fault::beside(test, &repo.around(), repo.root())?;
        Some(Self {
            repo,
            fault,
            moment: 0,
        })
    }

    fn git(&mut self, commands: &[&str]) {
        for command in commands {
            self.moment += 1;
            let args: Vec<&str> = command.split(' ').collect();
            git_in(&self.repo, self.repo.root(), self.moment, &args);
        }
    }

    /// Runs it up to its call number `step`.
    fn hold(&self, command: &str, step: u32) -> Held<'_> {
        self.fault.arm(Act::Hold, step, STEPS);
        let git = self.repo.command("git");
        let mut git: Command = self.fault.over(git);
        git.args(command.split(' ')).stdin(Stdio::null());
        let mut held = Held {
            fault: &self.fault,
            git: git.spawn().unwrap(),
        };
        held.wait();
        held
    }
}

/// A Git that is held before one of its steps, or is done.
struct Held<'a> {
    fault: &'a Fault,
    git: Child,
}

impl Held<'_> {
    /// Which file the step is about; `None` when it is done.
    fn wait(&mut self) -> Option<String> {
        eventually("a step of Git", || {
            let done = self.git.try_wait().unwrap();
            if let Some(status) = done {
                assert!(status.success());
                return Some(None);
            }
            self.fault.hit().map(|hit| Some(hit.path))
        })
    }

    fn go_on(&mut self) -> Option<String> {
        self.fault.let_go();
        self.wait()
    }

    /// Lets it come to its end.
    fn finish(mut self) {
        self.fault.disarm();
        assert!(self.git.wait().unwrap().success());
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _ = self.git.kill();
        let _ = self.git.wait();
    }
}

/// What was told since, but for what only a look in between can see.
async fn told_since(stage: &Stage, scene: &Scene, before: usize) -> Vec<String> {
    let mut told = told(&stage.repo).await.split_off(before);
    if let Some(seen) = told.iter().position(|text| *text == scene.seen) {
        told.remove(seen);
    }
    told
}

#[tokio::test]
async fn g3_a_look_at_every_step_of_a_rename_tells_everything_once() {
    for scene in SCENES {
        let Some(mut stage) = Stage::new("g3_a_look_at_every_step") else {
            return;
        };
        let mut daemon = stage.repo.serve();
        stage.git(scene.before);
        let before = told(&stage.repo).await.len();
        stage.git(scene.unlooked);
        let mut git = stage.hold(scene.command, 1);
        let mut steps = 0;
        while let Some(path) = git.wait() {
            steps += 1;
            let told = told_since(&stage, scene, before).await;
            assert!(
                scene.told.starts_with(&strs(&told)),
                "{}, at {path}: {told:#?}",
                scene.name
            );
            if git.go_on().is_none() {
                break;
            }
        }
        assert!(steps > 8, "{}: Git was held {steps} times", scene.name);
        assert_eq!(
            told_since(&stage, scene, before).await,
            scene.told,
            "{}",
            scene.name
        );
        drop(git);
        daemon.stop();
        daemon = stage.repo.serve();
        assert_eq!(
            told_since(&stage, scene, before).await,
            scene.told,
            "{}",
            scene.name
        );
        daemon.stop();
    }
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Which work the daemon that looks knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// All but the last.
    Before,
    /// Nothing but the repository.
    Repository,
    /// It is the first one that there is.
    Nothing,
}

/// Has a daemon look once while the command is held before its call number `step`, and another when
/// it is done. False where there is no such step any more.
async fn look_once(scene: &Scene, known: Known, step: u32) -> Option<bool> {
    let mut stage = Stage::new(&format!("g3_one_look_{known:?}"))?;
    let mut before = 0;
    if known != Known::Nothing {
        let mut daemon = stage.repo.serve();
        if known == Known::Before {
            stage.git(scene.before);
        }
        before = told(&stage.repo).await.len();
        daemon.crash();
    }
    if known != Known::Before {
        stage.git(scene.before);
    }
    stage.git(scene.unlooked);
    let mut git = stage.hold(scene.command, step);
    // What comes after is nothing that is told.
    let Some(path) = git.wait().filter(|path| !path.ends_with("config.lock")) else {
        assert!(step > 8, "{}: Git was held {step} times", scene.name);
        return Some(false);
    };
    let mut daemon = stage.repo.serve();
    let first = told_since(&stage, scene, before).await;
    daemon.crash();
    git.finish();
    let _daemon = stage.repo.serve();
    let told = told_since(&stage, scene, before).await;
    let place = format!("{}, before step {step}, at {path}: {told:#?}", scene.name);
    assert!(told.starts_with(&first), "{place}, but first {first:#?}");
    let last = scene.told.len() - 1;
    match known {
        Known::Before => assert_eq!(told, scene.told, "{place}"),
        // Whose log it is that lies between two names cannot be known then.
        Known::Repository => {
            let said = |text: &str| text.split_once(" on ").unwrap().0.to_owned();
            let told: Vec<_> = told.iter().map(|text| said(text)).collect();
            let earlier = told.len() - scene.told.len();
            let expected: Vec<_> = scene.told.iter().map(|text| said(text)).collect();
            assert_eq!(told[earlier..], expected, "{place}");
            assert_eq!(earlier, scene.before.len(), "{place}");
        }
        Known::Nothing => {
            assert!(first.is_empty(), "{place}");
            assert!(scene.told[last..].ends_with(&strs(&told)), "{place}");
        }
    }
    Some(true)
}

/// The same at each of its steps.
async fn look_once_at_each_step(scene: &'static Scene, known: Known) {
    let mut step = 1;
    while let Some(true) = look_once(scene, known, step).await {
        step += 1;
    }
}

async fn in_each(scenes: &'static [Scene], known: Known) {
    let walks: Vec<_> = scenes
        .iter()
        .map(|scene| tokio::spawn(look_once_at_each_step(scene, known)))
        .collect();
    for walk in walks {
        walk.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn g3_one_look_at_any_step_of_a_rename_tells_everything_once() {
    in_each(SCENES, Known::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn g3_a_rename_that_was_under_way_when_a_daemon_came_is_told_once() {
    in_each(&SCENES[..3], Known::Repository).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_rename_that_was_under_way_when_the_first_daemon_came_tells_nothing_of_before() {
    in_each(SCENES, Known::Nothing).await;
}
