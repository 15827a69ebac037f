//! What is left of a hook: no process of it, whatever it did to get away.

use std::{
    fs,
    time::{Duration, Instant},
};

use heddle_agent::{grpc_local_impl::proto::v1::RegisterHookRequest, local_daemon::has_ended};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    harness::{Daemon, HEDDLE, TestRepo, eventually},
    listening::{change, gate, outcome, register},
    states::capture,
};

/// Whom a hook of [`FAMILY`] starts, and itself.
const NAMES: &[&str] = &["child", "grandchild", "orphan", "session", "daemon"];

/// Processes that hold the hook's outputs open: in its group, with and without a parent; in a session
/// of their own, and there without a parent and with nothing in the environment.
const FAMILY: &str = r#"
    sh -c 'echo $$ > ../grandchild; trap "" TERM HUP INT; while :; do sleep 600; done' &
    sh -c 'sh -c "echo \$\$ > ../orphan; exec sleep 600" &' ;
    setsid sh -c 'echo $$ > ../session; exec sleep 600' &
    ( ( env -i "$(command -v setsid)" sh -c 'echo $$ > ../daemon; exec sleep 600' & ) & ) ;
    for name in grandchild orphan session daemon; do
        while [ ! -s ../$name ]; do :; done;
    done;
    echo $$ > ../child;"#;

/// A hook that takes longer than its time.
fn hang(command: &str, timeout_ms: u32) -> RegisterHookRequest {
    RegisterHookRequest {
        timeout_ms,
        ..gate("hang", command)
    }
}

fn pid_of(repo: &TestRepo, name: &str) -> i32 {
    let pid = fs::read_to_string(repo.around().join(name)).unwrap();
    pid.trim().parse().unwrap()
}

/// Waits until all that wrote their numbers to files have ended.
#[track_caller]
fn all_are_gone(repo: &TestRepo, names: &[&str]) {
    for name in names {
        let pid = pid_of(repo, name);
        eventually(name, || has_ended(pid).then_some(()));
    }
}

/// Captures in the background, and waits until the hook's family is there.
async fn hanging(
    repo: &TestRepo,
    timeout_ms: u32,
) -> tokio::task::JoinHandle<Result<(), tonic::Status>> {
    let channel = repo.channel().await;
    let command = format!("{FAMILY} exec sleep 600");
    register(&channel, hang(&command, timeout_ms)).await;
    change(repo, "1");
    let call = tokio::spawn(async move { capture(&channel, "").await.map(drop) });
    let child = repo.around().join("child");
    eventually("the hook runs", || {
        fs::read_to_string(&child)
            .ok()
            .filter(|pid| pid.ends_with('\n'))
    });
    call
}

#[tokio::test]
async fn no_process_of_a_hook_outlives_its_timeout() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let began = Instant::now();
    let reason = outcome(&repo, hang(&format!("{FAMILY} exec sleep 600"), 5_000)).await;
    let reason = reason.unwrap();
    assert!(reason.contains("did not end within 5000 ms"), "{reason}");
    // Those that left the group had its outputs open: nobody waits for them.
    assert!(began.elapsed() < Duration::from_secs(20));
    all_are_gone(&repo, NAMES);
}

#[tokio::test]
async fn what_a_hook_leaves_behind_is_killed_when_it_ends() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let began = Instant::now();
    let leaves = gate("leave", &format!("{FAMILY} exit 0"));
    assert_eq!(outcome(&repo, leaves).await, None);
    assert!(began.elapsed() < Duration::from_secs(20));
    all_are_gone(&repo, NAMES);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_of_a_hook_outlives_the_daemon() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let call = hanging(&repo, 0).await;
    daemon.crash();
    assert!(call.await.unwrap().is_err());
    all_are_gone(&repo, NAMES);
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_a_stop_does_not_wait_for_a_hook_that_hangs_longer_than_its_drain() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve_with(&["--drain-timeout", "1s"]);
    let call = hanging(&repo, 600_000).await;
    let began = Instant::now();
    assert!(daemon.stop().success());
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(call.await.unwrap().is_err());
    all_are_gone(&repo, NAMES);
}

/// The processes with this argument.
fn running(argument: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|part| part == argument.as_bytes())
        })
        .count()
}

#[tokio::test]
async fn a_hook_that_never_stops_to_start_others_is_ended_with_all_of_them() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    // Nobody else sleeps as long.
    let length = format!("600.{}", std::process::id());
    let starts = format!(
        "sh -c 'while :; do setsid sleep {length} & sleep 0.01; done' &
         while :; do (setsid sleep {length} &) ; sleep 0.01; done"
    );
    let reason = outcome(&repo, hang(&starts, 1_000)).await.unwrap();
    assert!(reason.contains("did not end within 1000 ms"), "{reason}");
    assert_eq!(running(&length), 0, "all had ended before the answer");
}

#[tokio::test]
async fn a_hook_that_stops_its_parent_gains_nothing_by_it() {
    let repo = TestRepo::new();
    let daemon = repo.serve();
    for (stops, why, timeout_ms) in [
        ("kill -STOP $PPID", "did not end within", 5_000),
        ("kill -TERM $PPID", "did not end within", 5_000),
        ("kill 0", "did not end within", 5_000),
        ("kill -KILL $PPID", "ended by signal 9", 60_000),
    ] {
        // A family waits for the numbers of its own.
        for name in NAMES {
            let _ = fs::remove_file(repo.around().join(name));
        }
        let command = format!("{FAMILY} trap '' TERM; {stops}; exec sleep 600");
        let command = command.replace("env -i", "");
        let reason = outcome(&repo, hang(&command, timeout_ms)).await.unwrap();
        assert!(reason.contains(why), "{stops}: {reason}");
        all_are_gone(&repo, NAMES);
    }
    assert!(is_alive(&daemon));
}

#[tokio::test]
async fn a_hook_gets_signals_as_any_command_does() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let terminates = gate("it", "kill -TERM $$; exit 0");
    let reason = outcome(&repo, terminates).await.unwrap();
    assert!(reason.contains("exit status 143"), "{reason}");
    let cut_off = "yes 2>../said | head -n1; [ ! -s ../said ]";
    assert_eq!(outcome(&repo, gate("it", cut_off)).await, None);
}

#[tokio::test]
async fn a_daemon_whose_parent_ignores_how_children_end_tells_it_all_the_same() {
    let repo = TestRepo::new();
    let ignore = "import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])";
    let mut command = repo.command("python3");
    command.args(["-c", ignore, HEDDLE, "agent", "serve"]);
    let daemon = Daemon::spawn(command);
    daemon.wait_for_line("serving");
    assert_eq!(outcome(&repo, gate("it", "true")).await, None);
    let reason = outcome(&repo, gate("it", "exit 3")).await.unwrap();
    assert!(reason.contains("exit status 3"), "{reason}");
}

fn is_alive(daemon: &Daemon) -> bool {
    kill(Pid::from_raw(daemon.pid()), None::<Signal>).is_ok()
}
