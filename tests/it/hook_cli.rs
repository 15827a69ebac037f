//! `heddle hook run`, `test` and `listen`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::{
    harness::{HEDDLE, TestRepo, run},
    listening::{change, gate, on, register, veto},
    states::capture,
};

#[tokio::test]
async fn run_tells_a_veto_by_its_exit_status_and_passes_the_payload_on() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    repo.heddle(["hook", "run", "pre_push"]).ok();
    let heard = repo
        .heddle(["hook", "run", "pre_push", "--output", "json"])
        .json();
    assert_eq!(heard["heard"], false);

    let command = "cat > ../payload; echo frozen >&2; exit 1";
    register(&channel, on("freeze", command, &["pre_push"])).await;
    let payload = r#"{"remote": "origin", "refs": ["a"]}"#;
    let said = repo
        .heddle(["hook", "run", "pre_push", "--payload", payload])
        .fails_with(1);
    assert!(said.contains("error[HOOK_VETOED]"), "{said}");
    assert!(
        said.contains("`freeze`") && said.contains("frozen"),
        "{said}"
    );
    let told = fs::read_to_string(repo.around().join("payload")).unwrap();
    assert_eq!(told, r#"{"remote":"origin","refs":["a"]}"#);

    for (event, payload, reason) in [
        ("pre_capture", "{}", "INVALID_FIELD"),
        ("pre_coffee", "{}", "HOOK_EVENT_UNKNOWN"),
        ("pre_push", "[]", "INVALID_FIELD"),
        ("pre_push", r#"{"remote": 1}"#, "INVALID_FIELD"),
        ("post_merge", r#"{"state_id": "HEAD"}"#, "INVALID_FIELD"),
    ] {
        let ran = repo.heddle(["hook", "run", event, "--payload", payload]);
        let said = ran.fails_with(1);
        assert!(said.contains(reason), "{event} {payload}: {said}");
    }
    let mut command = repo.command("sh");
    let large = format!("head -c 1100000 /dev/zero | {HEDDLE} hook run pre_push --payload -");
    let said = run(command.args(["-c", &large])).fails_with(1);
    assert!(said.contains("1048576 are the limit"), "{said}");
}

#[tokio::test]
async fn test_shows_what_a_hook_says_to_a_sample_of_each_of_its_events() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let said = "cat > ../payload; echo out; echo no lint >&2; exit 4";
    register(&channel, on("lint", said, &["post_merge", "pre_capture"])).await;
    let test = |more: &[&str]| {
        let args = ["hook", "test", "lint"];
        repo.heddle(args.iter().chain(more))
    };
    let text = test(&["--event", "pre_capture"]);
    assert_eq!(text.status.code(), Some(1));
    for part in [
        "vetoes lint on pre_capture",
        "no lint",
        "out",
        "exit status  4",
        " ms",
    ] {
        assert!(text.stdout.contains(part), "no {part:?} in {}", text.stdout);
    }
    let given: Value =
        serde_json::from_str(&fs::read_to_string(repo.around().join("payload")).unwrap()).unwrap();
    let head = repo.git(&["rev-parse", "HEAD"]);
    assert_eq!(given["base_state"], head.trim());
    assert!(
        given["changed_paths"]
            .as_array()
            .is_some_and(|paths| !paths.is_empty())
    );

    let json = test(&["--output", "json", "--payload", r#"{"state_id": ""}"#]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["event"], "post_merge", "the first of its events");
    assert_eq!(
        (&json["vetoed"], &json["is_gate"]),
        (&true.into(), &false.into())
    );
    assert_eq!(
        (&json["stdout"], &json["exit_status"]),
        (&"out\n".into(), &4.into())
    );
    assert_eq!(json["payload"]["state_id"], "");

    let raise = r#"echo '{"extra_signals": [{"kind": "k", "reason": "r"}]}'"#;
    register(&channel, gate("lint", raise)).await;
    let json = test(&["--output", "json"]).json();
    assert_eq!(json["extra_signals"][0]["kind"], "k");
    let missing = repo.heddle(["hook", "test", "absent"]).fails_with(1);
    assert!(missing.contains("HOOK_UNKNOWN"), "{missing}");
}

/// A listener, with its lines.
struct Listener {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Listener {
    fn start(repo: &TestRepo, args: &[&str]) -> Self {
        let mut command = repo.command(HEDDLE);
        command
            .args(["hook", "listen", "--output", "json"])
            .args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until somebody listens.
async fn until_heard(repo: &TestRepo) {
    crate::harness::eventually("somebody listens", || {
        let heard = repo.heddle(["hook", "run", "pre_push", "--output", "json"]);
        (heard.json()["heard"] == true).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_vetoes_by_a_condition_and_shows_what_happens() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let condition = r#"changed_paths contains "secrets/" and not intent == "rotate""#;
    let mut listener = Listener::start(&repo, &["--veto-if", condition]);
    until_heard(&repo).await;
    fs::create_dir(repo.path("secrets")).unwrap();
    fs::write(repo.path("secrets/k"), "1").unwrap();
    let (_, reason) = veto(capture(&channel, "").await.map(drop));
    assert!(reason.contains("secrets/k"), "{reason}");
    capture(&channel, "rotate").await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&"post_capture".to_owned()) {
        let line = listener.next();
        match line["event"].as_str() {
            Some("pre_push") => drop(listener.next()),
            Some(event) => seen.push(event.to_owned()),
            None => seen.push(line["vetoed"].to_string()),
        }
    }
    assert_eq!(
        seen,
        [
            "pre_capture",
            "true",
            "pre_capture",
            "false",
            "post_capture"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_lets_pass_at_once_where_nobody_can_be_asked() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let _listener = Listener::start(&repo, &["--timeout", "10m"]);
    until_heard(&repo).await;
    change(&repo, "1");
    capture(&channel, "").await.unwrap();
}

#[test]
fn a_condition_that_cannot_be_read_is_refused_before_anything_else() {
    let repo = TestRepo::new();
    let said = repo
        .heddle(["hook", "listen", "--veto-if", "thread like \"x\""])
        .fails_with(2);
    assert!(said.contains("starts_with"), "{said}");
    assert!(!repo.path(".heddle").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_asks_the_person_at_the_terminal() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    // script(1) gives it a terminal.
    let mut command = repo.command("script");
    let line = format!("{HEDDLE} hook listen pre_capture pre_push");
    command.args(["-qec", &line, "/dev/null"]);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        return crate::harness::skip("listen_asks_the_person_at_the_terminal", "no script(1)");
    };
    let mut keys = child.stdin.take().unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap());
    let mut wait_for = move |text: &str| {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let more = shown.fill_buf().unwrap();
            assert!(
                !more.is_empty(),
                "no {text:?} in {}",
                String::from_utf8_lossy(&seen)
            );
            let taken = more[0];
            seen.push(taken);
            shown.consume(1);
        }
    };
    wait_for("listening");
    change(&repo, "1");
    let call = tokio::spawn({
        let channel = channel.clone();
        async move { capture(&channel, "").await.map(drop) }
    });
    wait_for("let it pass?");
    writeln!(keys, "no").unwrap();
    wait_for("why not?");
    writeln!(keys, "lunch first").unwrap();
    let (_, reason) = veto(call.await.unwrap());
    assert_eq!(reason, "lunch first");
    let call = tokio::spawn(async move { capture(&channel, "").await.map(drop) });
    wait_for("let it pass?");
    writeln!(keys, "y").unwrap();
    call.await.unwrap().unwrap();
    let _ = child.kill();
    let _ = child.wait();
}
