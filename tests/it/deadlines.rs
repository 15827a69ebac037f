//! Calls that take their time end by their caller's deadline, and for callers who are gone: what they
//! have by then is the answer, and what they held is free for others.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::{
        PAGES, code,
        proto::v1::{
            ComputeStateSignalsRequest, ComputeStateSignalsResponse, GetReviewPayloadRequest,
            QueryOperationsRequest, ReviewPayload, signal_service_client::SignalServiceClient,
            state_review_service_client::StateReviewServiceClient,
        },
    },
};
use nix::{
    sys::{signal::kill, stat::Mode},
    unistd::{Pid, mkfifo},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tonic::{Request, Status, transport::Channel};

use crate::{
    discussions::commit,
    fault::{Act, Fault, kinds},
    harness::{DEADLINE, Daemon, HEDDLE, TestRepo, channel_at, eventually},
    left_out::write,
    review_page::{numbers, of_git, order, page},
    review_required::require,
    review_ssh::program,
    rpc::{assert_refused, patient, status},
    signal_states::annotate,
    signal_updates::{by, next},
    signals::{CACHE, FILE, client, compute},
    signing::{Draft, Key, check, reviews},
    trees::Served,
    warm_up::{filled, index_when, with_files},
};

/// How long those wait who say nothing of it, but for time to tell that others need not wait for them.
const OTHERS_WAIT: Duration = Duration::from_secs(45);

fn within<T>(time: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(time);
    request
}

const SOON: Duration = Duration::from_secs(1);

async fn signals_soon(channel: &Channel) -> Result<ComputeStateSignalsResponse, Status> {
    let asked = within(SOON, ComputeStateSignalsRequest::default());
    let answer = client(channel).compute_state_signals(asked).await?;
    Ok(answer.into_inner())
}

async fn page_soon(channel: &Channel) -> Result<ReviewPayload, Status> {
    let asked = within(SOON, GetReviewPayloadRequest::default());
    let answer = reviews(channel).get_review_payload(asked).await?;
    Ok(answer.into_inner())
}

/// A daemon in which a capture is held while it is taken into the index: whoever asks what is risky in it
/// waits for that.
struct Held {
    fault: Fault,
    served: Served,
}

impl Held {
    async fn new(test: &str) -> Option<Self> {
        let repo = with_files(20);
        commit(&repo, "All");
        let (fault, served) = filled(test, repo).await?;
        fault.arm(Act::Hold, 1, kinds::WRITE);
        served.write("src/new.rs", "fn new() {}\n");
        served.capture().await.unwrap();
        eventually("held", || fault.hit());
        Some(Self { fault, served })
    }

    /// Waits until others have every turn; answers how a call is refused then.
    async fn refused(&self) -> Status {
        let refused = async {
            loop {
                match signals_soon(&self.served.channel).await {
                    Ok(answer) => assert!(answer.partial),
                    Err(status) => return status,
                }
            }
        };
        timeout(DEADLINE, refused).await.unwrap()
    }
}

fn ask_for_signals(channel: &Channel) -> JoinHandle<Result<ComputeStateSignalsResponse, Status>> {
    let channel = channel.clone();
    tokio::spawn(async move { compute(&channel, &[], &[]).await })
}

#[tokio::test]
async fn g8_a_call_that_gets_no_turn_by_its_deadline_is_refused_and_those_that_have_one_go_on() {
    let Some(held) = Held::new("deadlines::g8_a_call_that_gets_no_turn").await else {
        return;
    };
    let channel = &held.served.channel;
    let calls: Vec<_> = (0..PAGES).map(|_| ask_for_signals(channel)).collect();
    let status = held.refused().await;
    let reason = Reason::TooManyPages;
    assert_refused(&status, code(reason), reason);
    assert!(status.message().contains("call again"), "{status:?}");
    let status = page_soon(channel).await.unwrap_err();
    assert_refused(&status, code(reason), reason);
    held.fault.disarm();
    for call in calls {
        assert!(!call.await.unwrap().unwrap().partial);
    }
}

/// A command that asks, in a process of its own.
fn run(served: &Served) -> Child {
    let mut command = served.command(HEDDLE);
    command.arg("signals");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[tokio::test]
async fn g8_callers_who_are_gone_give_their_turns_back() {
    let Some(held) = Held::new("deadlines::g8_callers_who_are_gone").await else {
        return;
    };
    let served = &held.served;
    let others = channel_at(served.repo.socket()).await.unwrap();
    let others_wait = Instant::now() + OTHERS_WAIT;
    let cancelled = ask_for_signals(&served.channel);
    let page = tokio::spawn({
        let channel = served.channel.clone();
        async move { page(&channel, &[]).await }
    });
    let disconnected = ask_for_signals(&others);
    let mut killed = run(served);
    held.refused().await;
    // Two calls of a connection that stays, a connection, and a process.
    cancelled.abort();
    page.abort();
    disconnected.abort();
    drop((disconnected, others));
    killed.kill().unwrap();
    killed.wait().unwrap();
    // As many as there are turns get one.
    let answered = async {
        loop {
            let calls: Vec<_> = (0..PAGES)
                .map(|_| {
                    let channel = served.channel.clone();
                    tokio::spawn(async move { signals_soon(&channel).await })
                })
                .collect();
            let mut answered = 0;
            for call in calls {
                answered += usize::from(call.await.unwrap().is_ok_and(|it| it.partial));
            }
            if answered == PAGES {
                return;
            }
        }
    };
    timeout_at(others_wait, answered).await.unwrap();
    held.fault.disarm();
    assert!(!compute(&served.channel, &[], &[]).await.unwrap().partial);
}

#[tokio::test]
async fn g8_what_is_taken_in_for_a_caller_who_is_gone_is_taken_in_no_further() {
    const MANY: u64 = 2_000;
    let repo = TestRepo::new();
    for at in 0..MANY {
        let text: String = (0..40)
            .map(|one| format!("fn f{at}_{one}() {{}}\n"))
            .collect();
        write(&repo, &format!("src/m{}/f{at}.rs", at % 9), text);
    }
    let many = commit(&repo, "Many");
    // What is worked on has none of it.
    let [other, _] = ["other", "now"].map(|name| {
        repo.git(&["rm", "-rq", "."]);
        write(&repo, &format!("{name}.rs"), format!("fn {name}() {{}}\n"));
        commit(&repo, name)
    });
    let Some((fault, served)) = filled("deadlines::g8_what_is_taken_in", repo).await else {
        return;
    };
    // Not what it writes when it begins, but what it has no room for in memory.
    fault.arm(Act::Hold, 50, kinds::WRITE);
    let channel = served.channel.clone();
    let call = tokio::spawn(async move { compute(&channel, &many, &many).await });
    let held = index_when(&served, "held", |_| fault.hit().is_some()).await;
    assert!((2..MANY / 2).contains(&held.parsed), "{held:?}");
    call.abort();
    let gone = async { while status(&served.channel).await.calls_in_flight > 1 {} };
    timeout(DEADLINE, gone).await.unwrap();
    fault.disarm();
    // Who comes next has its turn when the other has ended.
    let answer = compute(&served.channel, &other, &other).await;
    assert!(!answer.unwrap().partial);
    let now = index_when(&served, "there", |_| true).await;
    assert!(now.parsed < MANY, "{held:?} {now:?}");
}

#[tokio::test]
async fn g8_a_large_change_is_told_in_part_when_there_is_no_time_to_look_into_it() {
    let repo = with_files(300);
    commit(&repo, "All");
    for at in 0..300 {
        let path = format!("src/m{}/f{at}.rs", at % 9);
        write(&repo, &path, format!("fn f{at}() {{ other() }}\n"));
    }
    commit(&repo, "All");
    let served = Served::new(repo).await;
    let served_at = patient(&served.repo.socket()).await;
    let origin = http::Uri::from_static("http://localhost");
    let mut signals = SignalServiceClient::with_origin(served_at.clone(), origin.clone());
    let mut reviews = StateReviewServiceClient::with_origin(served_at, origin);
    // It is over when the call begins.
    let at_once = Duration::from_millis(1);
    let asked = within(at_once, ComputeStateSignalsRequest::default());
    let answer = signals.compute_state_signals(asked).await;
    assert!(answer.unwrap().into_inner().partial);
    let asked = within(at_once, GetReviewPayloadRequest::default());
    let answer = reviews.get_review_payload(asked).await;
    let answer = answer.unwrap().into_inner();
    assert!(answer.truncated && answer.signals_partial && answer.counts_partial);
    assert_eq!(numbers(&answer), (300, 0, 0));
    let steps = order(&answer);
    assert_eq!(steps.matches(".rs body\n").count(), 300, "{steps}");

    let answer = page(&served.channel, &[]).await;
    assert!(!answer.truncated && !answer.signals_partial && !answer.counts_partial);
    assert_eq!(numbers(&answer), of_git(&served.repo));
    let steps = order(&answer);
    assert_eq!(steps.matches(" body function ").count(), 300, "{steps}");
}

/// A repository with a small change.
fn with_change() -> (TestRepo, Vec<u8>) {
    let repo = with_files(3);
    require(&repo, "\"every file reviewed\"");
    commit(&repo, "All");
    write(&repo, "src/m0/f0.rs", "fn f0() { other() }\n");
    let state = commit(&repo, "Change");
    (repo, state)
}

/// A daemon whose Git does not come to an end of telling trees apart, and says by a pipe that it has begun.
async fn with_git_that_hangs(repo: TestRepo) -> (Served, PathBuf) {
    let (programs, begun) = (repo.around().join("programs"), repo.around().join("begun"));
    mkfifo(&begun, Mode::S_IRWXU).unwrap();
    let script = format!(
        "case \" $* \" in *' --numstat '*) echo $$ >'{}'; sleep 1000 & wait;; esac\nPATH=${{PATH#*:}} exec git \"$@\"",
        begun.display()
    );
    program(&programs, "git", &script);
    let path = std::env::var("PATH").unwrap();
    let mut command = repo.command(HEDDLE);
    command.args(["agent", "serve"]);
    command.env("PATH", format!("{}:{path}", programs.display()));
    let daemon = Daemon::spawn(command);
    daemon.wait_for_line("serving");
    let served = Served::by(repo, daemon).await;
    index_when(&served, "whole", |it| it.whole).await;
    (served, begun)
}

/// Waits until Git has begun; answers its process.
async fn begun(pipe: &Path) -> Pid {
    let pipe = pipe.to_owned();
    let said = tokio::task::spawn_blocking(move || fs::read_to_string(pipe).unwrap());
    Pid::from_raw(said.await.unwrap().trim().parse().unwrap())
}

/// Waits until a process has ended. What it is asked of goes on meanwhile.
async fn ended(process: Pid) {
    let ended = async {
        while kill(process, None).is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(OTHERS_WAIT, ended).await.unwrap();
}

#[tokio::test]
async fn g8_a_git_that_does_not_end_is_ended_at_the_deadline_and_the_page_says_what_it_lacks() {
    let (repo, state) = with_change();
    let (served, pipe) = with_git_that_hangs(repo).await;
    let draft = Draft {
        word: "file_reviewed",
        text: "src/m0/f0.rs".into(),
        ..Draft::read(&state)
    };
    let ticked = draft.checked(&Key::ed25519());
    check(&served.channel, ticked).await.unwrap();
    let (answer, git) = tokio::join!(page_soon(&served.channel), begun(&pipe));
    let answer = answer.unwrap();
    assert!(answer.counts_partial && !answer.truncated && !answer.signals_partial);
    assert_eq!(numbers(&answer), (1, 0, 0));
    assert!(order(&answer).contains("src/m0/f0.rs:f0 body function 1-1\n"));
    let [required] = &answer.merge_requirements[..] else {
        panic!("{answer:?}");
    };
    let said = "every changed file reviewed: 1 of 1 so far; not all of them were looked for";
    assert_eq!((required.satisfied, &*required.description), (false, said));
    ended(git).await;
}

#[tokio::test]
async fn g8_a_git_that_does_not_end_is_ended_when_its_caller_is_gone() {
    let (served, pipe) = with_git_that_hangs(with_change().0).await;
    let channel = served.channel.clone();
    let call = tokio::spawn(async move { page(&channel, &[]).await });
    let git = begun(&pipe).await;
    call.abort();
    ended(git).await;
}

#[tokio::test]
async fn g7_what_is_computed_of_a_capture_ends_with_the_daemon_and_is_left_to_the_next() {
    let repo = TestRepo::new();
    write(&repo, FILE, CACHE);
    commit(&repo, "All");
    let (mut served, pipe) = with_git_that_hangs(repo).await;
    annotate(&served.channel, "Cache::push", 2, "rows are never dropped").await;
    // Only Git can tell where it went.
    fs::rename(served.path(FILE), served.path("src/rows.rs")).unwrap();
    served.write(
        "src/rows.rs",
        CACHE.replace("rows.push(row);", "rows.push(row + 1);"),
    );
    let state = served.capture().await.unwrap().state_id;
    let git = begun(&pipe).await;
    assert!(served.daemon.stop().success());
    ended(git).await;
    served = Served::new(served.repo).await;
    let query = QueryOperationsRequest {
        signal_kind: "invariant_adjacency".into(),
        ..Default::default()
    };
    let mut hits = by(&served.channel, query).await;
    assert_eq!(next(&mut hits).await.unwrap().state_id, state);
}
