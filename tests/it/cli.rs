//! The command line: what people and scripts see of the hooks and the log.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use serde_json::Value;

use crate::{
    harness::{HEDDLE, TestRepo},
    operations::{ROW, serve_with_log},
};

#[test]
fn hooks_are_added_listed_and_removed() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let added = repo
        .heddle([
            "hook",
            "add",
            "lint",
            "make lint",
            "--event",
            "pre_capture",
            "--event",
            "pre_push",
            "--timeout",
            "5s",
            "--fail-open",
        ])
        .ok();
    assert_eq!(added, "registered lint for pre_capture, pre_push\n");
    repo.heddle(["hook", "add", "all", "true"]).ok();

    let text = repo.heddle(["hook", "list"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    for word in ["lint", "pre_capture, pre_push", "5000 ms", "make lint"] {
        assert!(lines[1].contains(word), "{text}");
    }
    assert!(
        lines[2].contains("every event") && lines[2].contains("default"),
        "{text}"
    );
    let hooks = repo.heddle(["hook", "list", "--output", "json"]).json();
    assert_eq!(
        hooks["hooks"][0],
        serde_json::json!({
            "name": "lint", "command": "make lint", "events": ["pre_capture", "pre_push"],
            "timeout_ms": 5_000, "fail_open": true,
        })
    );

    assert_eq!(repo.heddle(["hook", "rm", "lint"]).ok(), "removed lint\n");
    let error = repo.heddle(["hook", "rm", "lint"]).fails_with(1);
    assert!(
        error.starts_with("error: there is no hook \"lint\""),
        "{error}"
    );
    let again = repo
        .heddle(["hook", "rm", "lint", "--output", "json"])
        .json();
    assert_eq!(again["deleted"], false);
}

#[test]
fn schemas_are_printed_as_json() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let one = repo.heddle(["hook", "schema", "pre_merge"]).json();
    assert_eq!(one["event"], "pre_merge");
    assert_eq!(
        one["payload"]["required"],
        serde_json::json!(["source", "target"])
    );
    let all = repo.heddle(["hook", "schema", "--output", "json"]).json();
    assert_eq!(all["schemas"].as_array().unwrap().len(), 10);
}

#[test]
fn g10_errors_name_their_reason_and_exit_with_their_status() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["hook", "add", "x", "true", "--event", "nope"],
            1,
            "error[HOOK_EVENT_UNKNOWN]: there is no hook event \"nope\"; the events are pre_capture",
        ),
        (
            &["hook", "add", "", "true"],
            1,
            "error[INVALID_FIELD]: a hook's name is empty",
        ),
        (
            &["hook", "schema", "nope"],
            1,
            "error[HOOK_EVENT_UNKNOWN]: ",
        ),
        (
            &["log", "--verb", "nope"],
            1,
            "error[INVALID_FIELD]: there is no operation verb",
        ),
        (
            &["log", "--follow", "--after", "9"],
            1,
            "error[INVALID_FIELD]: the log ends at 0",
        ),
        (
            &["log", "--repo", "/", "--limit", "1"],
            1,
            "error[REPOSITORY_REFUSED]: / is not inside a Git repository; run `git init`",
        ),
    ];
    for (args, code, starts) in cases {
        let error = repo.heddle(args).fails_with(code);
        assert!(error.starts_with(starts), "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
    }
    for args in [
        &["hook"][..],
        &["log", "--limit", "x"],
        &["log", "--after", "1"],
        &["nope"],
    ] {
        repo.heddle(args).fails_with(2);
    }
}

#[test]
fn text_from_elsewhere_cannot_steer_the_terminal() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let steering = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\nfake line \u{9b}31m";
    repo.git(&["config", "user.email", "\u{1b}[31mred@example.com"]);
    repo.heddle(["hook", "add", "evil", steering]).ok();
    let raw = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    for args in [&["hook", "list"][..], &["log"]] {
        let text = repo.heddle(args).ok();
        assert!(!raw(&text), "{text:?}");
        assert!(text.contains("\\u{1b}["), "{text:?}");
        assert!(
            !text.lines().any(|line| line.starts_with("fake line")),
            "{text:?}"
        );
    }
    let hooks = repo.heddle(["hook", "list", "--output", "json"]).json();
    assert_eq!(
        hooks["hooks"][0]["command"], steering,
        "a script gets what is there"
    );
    let error = repo.heddle(["hook", "rm", steering]).fails_with(1);
    assert!(!raw(&error), "{error:?}");
    let error = repo.heddle(["log", "--verb", steering]).fails_with(1);
    assert!(!raw(&error), "{error:?}");
}

#[test]
fn a_followed_log_is_one_json_object_per_line() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    repo.heddle(["hook", "add", "a", "true"]).ok();
    let mut follow = repo.command(HEDDLE);
    follow.args(["log", "--follow", "--limit", "3", "--output", "json"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["summary"], "registered hook `a` for every event");
    // It is there and waits: each line comes when it is committed, not when a buffer is full.
    repo.heddle(["hook", "rm", "a"]).ok();
    let hit = next();
    assert_eq!(
        (&hit["seq"], &hit["verb"]),
        (&2.into(), &"hook_deregister".into())
    );
    repo.heddle(["hook", "add", "b", "true"]).ok();
    assert_eq!(next()["seq"], 3);
    assert!(lines.next().is_none());
    assert!(follow.wait().unwrap().success());

    let rest = repo.heddle([
        "log", "--follow", "--after", "2", "--limit", "1", "--output", "json",
    ]);
    assert_eq!(rest.json()["seq"], 3);
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let repo = TestRepo::new();
    let _daemon = serve_with_log(&repo, std::iter::repeat_n(ROW, 5_000));
    for format in ["text", "json"] {
        let mut log = repo.command(HEDDLE);
        log.args(["log", "--limit", "5000", "--output", format]);
        let mut log = log
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(log.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(!line.is_empty());
        let mut said = String::new();
        log.stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(log.wait().unwrap().success());
        assert_eq!(said, "");
    }
}
