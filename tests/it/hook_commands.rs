//! Gates that are commands: every way in which one can end, what it is given, and what is left of it.

use std::{fs, path::Path};

use heddle_agent::grpc_local_impl::proto::v1::RegisterHookRequest;
use serde_json::Value;

use crate::{
    harness::{TestRepo, eventually},
    listening::{change, gate, on, outcome, register, start_thread, try_capture, veto},
    states::capture,
};

#[tokio::test]
async fn exit_status_output_and_errors_decide_as_the_contract_says() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    for passes in [
        "true",
        // Nobody has to read the payload, nor to answer in JSON.
        "exec 0<&- 1>&- 2>&-",
        "echo all is well",
        "echo oh well >&2",
        "echo '{}'",
        r#"echo '{"abort": ""}'"#,
        r#"printf '  {"abort": null, "more": [1]}\n'"#,
    ] {
        assert_eq!(outcome(&repo, gate("it", passes)).await, None, "{passes}");
    }
    for (vetoes, why) in [
        ("echo no tests >&2; exit 1", "no tests"),
        ("exit 3", "it ended with exit status 3"),
        ("echo a.py:1: bad; exit 1", "a.py:1: bad"),
        ("echo out; echo err >&2; exit 1", "err"),
        // As a shell tells of signals.
        ("kill -9 $$", "exit status 137"),
        (r#"echo '{"abort": "not on Fridays"}'"#, "not on Fridays"),
        ("echo '{'", "its response is not the JSON"),
        (r#"echo '{"abort": 7}'"#, "its response is not the JSON"),
        (
            r#"echo '{"extra_signals": [{"kind": "k"}]}'"#,
            "extra_signals cannot be kept",
        ),
        ("./is-gone", "not found"),
        ("/etc/passwd", "ermission denied"),
        (
            "echo ' { ' ; head -c 70000 /dev/zero | tr '\\0' ' '",
            "longer than 64 KiB",
        ),
    ] {
        let reason = outcome(&repo, gate("it", vetoes)).await;
        let reason = reason.unwrap_or_else(|| panic!("{vetoes} passed"));
        assert!(reason.contains(why), "{vetoes}: {reason}");
    }
}

#[tokio::test]
async fn fail_open_lets_pass_what_cannot_be_run_or_takes_too_long_and_nothing_else() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let open = |command: &str| RegisterHookRequest {
        fail_open: true,
        timeout_ms: 300,
        ..gate("open", command)
    };
    assert_eq!(outcome(&repo, open("./is-gone")).await, None);
    assert_eq!(outcome(&repo, open("sleep 600")).await, None);
    let reason = outcome(&repo, open("exit 1")).await.unwrap();
    assert!(reason.contains("exit status 1"), "{reason}");
    assert!(outcome(&repo, open("echo '{'")).await.is_some());
    let closed = RegisterHookRequest {
        fail_open: false,
        ..open("sleep 600")
    };
    let reason = outcome(&repo, closed).await.unwrap();
    assert!(reason.contains("did not end within 300 ms"), "{reason}");
}

#[tokio::test]
async fn a_command_gets_the_payload_and_its_place_in_the_environment() {
    let repo = TestRepo::new();
    // What Git gave to somebody else is not for hooks.
    let mut command = repo.command(crate::harness::HEDDLE);
    command.args(["agent", "serve"]).env("GIT_DIR", "/nowhere");
    let daemon = crate::harness::Daemon::spawn(command);
    daemon.wait_for_line("serving");
    let channel = repo.channel().await;
    let told = "cat > ../payload; env > ../environment; pwd > ../cwd; ps -o pgid= -p $$ > ../group";
    register(&channel, gate("tell", told)).await;
    fs::create_dir(repo.path("secrets")).unwrap();
    fs::write(repo.path("secrets/k"), "1").unwrap();
    change(&repo, "1");
    let base = repo.git(&["rev-parse", "HEAD"]);
    capture(&channel, "an \"intent\"").await.unwrap();

    let read = |name: &str| fs::read_to_string(repo.around().join(name)).unwrap();
    let payload: Value = serde_json::from_str(&read("payload")).unwrap();
    assert_eq!(payload["thread"], "main");
    assert_eq!(payload["intent"], "an \"intent\"");
    assert_eq!(payload["base_state"], base.trim());
    let paths = serde_json::json!(["changed", "secrets/k"]);
    assert_eq!(payload["changed_paths"], paths);
    let tree = payload["tree"].as_str().unwrap();
    let shown = repo.git(&["show", &format!("{tree}:secrets/k")]);
    assert_eq!(shown, "1", "what is asked about can be read");

    let environment = read("environment");
    let value = |name: &str| {
        let line = environment.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {environment}"))
            .to_owned()
    };
    assert_eq!(value("HEDDLE_EVENT="), "pre_capture");
    assert_eq!(value("HEDDLE_REPOSITORY="), repo.root().to_str().unwrap());
    assert!(uuid::Uuid::parse_str(&value("HEDDLE_HOOK_EVENT_ID=")).is_ok());
    assert!(!value("HEDDLE_HOOK_TOKEN=").is_empty());
    assert!(!environment.contains("GIT_DIR="), "{environment}");
    assert_eq!(Path::new(read("cwd").trim()), repo.root());
    let group: i32 = read("group").trim().parse().unwrap();
    let own = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(daemon.pid()))).unwrap();
    assert_ne!(group, own.as_raw(), "a group of its own");
}

#[tokio::test]
async fn commands_are_asked_in_the_order_of_registration_and_the_first_veto_ends_it() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let note = |name: &str| format!("echo {name} >> ../order");
    register(&channel, gate("one", &note("one"))).await;
    register(&channel, gate("two", &format!("{}; exit 1", note("two")))).await;
    register(&channel, gate("three", &note("three"))).await;
    let (hook, _) = veto(try_capture(&repo, &channel, "1").await);
    assert_eq!(hook, "two");
    let order = || fs::read_to_string(repo.around().join("order")).unwrap();
    assert_eq!(order(), "one\ntwo\n");
    // One that is replaced keeps its place.
    register(&channel, gate("two", &note("2"))).await;
    try_capture(&repo, &channel, "2").await.unwrap();
    assert_eq!(order(), "one\ntwo\none\n2\nthree\n");
}

#[tokio::test]
async fn a_vetoed_call_changes_nothing_and_can_be_made_again_with_its_key() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    register(
        &channel,
        on("no", "exit 1", &["pre_capture", "pre_thread_create"]),
    )
    .await;
    let before = || {
        let refs = repo.git(&["for-each-ref"]);
        let log = repo.heddle(["log", "--output", "json"]).ok();
        (refs, log, repo.git(&["status", "--porcelain"]))
    };
    change(&repo, "1");
    let was = before();
    veto(capture(&channel, "").await.map(drop));
    veto(start_thread(&channel, "other").await);
    assert_eq!(before(), was);

    let request = heddle_agent::grpc_local_impl::proto::v1::CaptureThreadRequest {
        client_operation_id: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let mut threads = crate::states::threads(&channel);
    veto(threads.capture_thread(request.clone()).await.map(drop));
    register(&channel, on("no", "true", &["pre_capture"])).await;
    threads.capture_thread(request).await.unwrap();
}

/// The most memory that a process ever had (proc_pid_status(5)), in KiB.
fn peak_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn g8_a_gigabyte_of_output_takes_no_memory_and_changes_no_outcome() {
    let repo = TestRepo::new();
    let daemon = repo.serve();
    let before = peak_kib(daemon.pid());
    let flood = |to: &str, status: &str| {
        let command = format!("head -c 1000000000 /dev/zero {to}; exit {status}");
        RegisterHookRequest {
            timeout_ms: 60_000,
            ..gate("flood", &command)
        }
    };
    assert_eq!(outcome(&repo, flood("", "0")).await, None);
    let reason = outcome(&repo, flood(">&2", "1")).await.unwrap();
    assert!(reason.len() <= 1_100, "{} bytes", reason.len());
    let grown = peak_kib(daemon.pid()) - before;
    assert!(grown < 16 * 1024, "{grown} KiB more than before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_holds_up_only_the_calls_that_it_is_about() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    // It lasts until it is told to end.
    let wait = "touch ../asked; while [ ! -e ../go ]; do sleep 0.01; done";
    register(&channel, gate("wait", wait)).await;
    change(&repo, "1");
    let capturing = tokio::spawn({
        let channel = channel.clone();
        async move { capture(&channel, "").await.map(drop) }
    });
    let asked = repo.around().join("asked");
    eventually("the gate is asked", || asked.exists().then_some(()));
    // Reads, writes, other threads, and looks at the very worktree go on.
    start_thread(&channel, "other").await.unwrap();
    repo.heddle(["hook", "list"]).ok();
    let request = crate::states::to_state("HEAD");
    crate::states::preview(&channel, request).await.unwrap();
    assert!(!capturing.is_finished());
    fs::write(repo.around().join("go"), "").unwrap();
    capturing.await.unwrap().unwrap();
}

#[tokio::test]
async fn extra_signals_are_kept_with_the_state() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let raise = r#"echo '{"extra_signals": [
        {"kind": "secret", "reason": "a key", "anchor": {"file": "changed", "start_line": 1}}]}'"#;
    register(&channel, gate("raise", raise)).await;
    change(&repo, "1");
    let state = capture(&channel, "").await.unwrap().state_id;
    assert!(daemon.stop().success());
    let database = rusqlite::Connection::open(repo.store_dir().join("heddle.db")).unwrap();
    let kept: (Vec<u8>, String, String, String) = database
        .query_row(
            "SELECT state_id, hook, kind, body FROM extra_signal",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    assert_eq!(
        (kept.0, kept.1.as_str(), kept.2.as_str()),
        (state, "raise", "secret")
    );
    let body: Value = serde_json::from_str(&kept.3).unwrap();
    assert_eq!(body["anchor"]["file"], "changed");
}
