//! `heddle thread`: what people and scripts see of it.

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    cli_capture::{capture, fields, heddle_in},
    harness::{HEDDLE, TestRepo, eventually},
};

const SUMMARY: [&str; 17] = [
    "name",
    "current_state",
    "base_state",
    "coordination_status",
    "thread_state",
    "is_current",
    "is_isolated",
    "path",
    "provider",
    "model",
    "confidence",
    "parent_thread",
    "child_threads",
    "stack_depth",
    "changed_paths",
    "last_progress_secs",
    "last_activity_secs",
];

#[test]
fn a_thread_is_started_worked_on_in_its_worktree_and_completed() {
    let repo = TestRepo::new();
    let head = repo.git(&["rev-parse", "HEAD"]);
    fs::create_dir(repo.path("deep")).unwrap();
    let path = repo.around().join("fix");
    // The path is relative to the current folder, as every path is.
    let deep = repo.path("deep");
    let args = [
        "thread",
        "start",
        "fix",
        "--path",
        "../../fix",
        "--provider",
        "anthropic",
        "--model",
        "claude",
    ];
    let said = heddle_in(&repo, &deep, &args).ok();
    assert_eq!(
        said,
        format!("started fix from {} in {}\n", &head[..10], path.display())
    );
    assert!(path.join("README").exists());

    fs::write(path.join("new.txt"), "new\n").unwrap();
    let captured = heddle_in(&repo, &path, &["capture", "--confidence", "0.8"]).ok();
    assert!(
        captured.contains(" on fix, 1 path changed since "),
        "{captured}"
    );
    let shown = heddle_in(&repo, &path, &["thread", "show"]).ok();
    let facts: Vec<&str> = shown.lines().collect();
    assert_eq!(facts[0], "fix  active (current)");
    for fact in [
        "  base       ".to_owned() + &head[..10],
        format!("  worktree   {}", path.display()),
        "  agent      anthropic/claude".to_owned(),
        "  confidence 0.8".to_owned(),
        "  parent     main".to_owned(),
    ] {
        assert!(facts.contains(&fact.as_str()), "no {fact:?} in {shown}");
    }
    assert!(
        facts
            .iter()
            .any(|f| f.starts_with("  active     ") && f.ends_with("s ago)")),
        "{shown}"
    );

    let listed = repo.heddle(["thread", "list"]).ok();
    let rows: Vec<&str> = listed.lines().collect();
    assert_eq!(rows.len(), 3, "{listed}");
    assert!(
        rows[1].starts_with("  fix ") && rows[1].ends_with(path.to_str().unwrap()),
        "{listed}"
    );
    assert!(rows[2].starts_with("* main "), "{listed}");
    let there = heddle_in(&repo, &path, &["thread", "list"]).ok();
    assert!(there.contains("\n* fix "), "{there}");

    assert_eq!(
        repo.heddle(["thread", "complete", "fix"]).ok(),
        "fix is complete\n"
    );
    let shown = repo.heddle(["thread", "show", "fix"]).ok();
    assert!(shown.starts_with("fix  complete\n"), "{shown}");
}

#[test]
fn a_threads_json_has_a_stable_shape() {
    let repo = TestRepo::new();
    let head = repo.git(&["rev-parse", "HEAD"]);
    let args = [
        "thread", "start", "fix", "--from", "HEAD", "--output", "json",
    ];
    let started = repo.heddle(args).json();
    assert_eq!(fields(&started), SUMMARY);
    assert_eq!(started["name"], "fix");
    assert_eq!(started["base_state"], head.trim());
    assert_eq!(started["path"], Value::Null);
    assert_eq!(started["parent_thread"], "main");
    assert!(started["last_activity_secs"].is_number(), "{started}");
    let shown = repo
        .heddle(["thread", "show", "fix", "--output", "json"])
        .json();
    assert_eq!(fields(&shown), SUMMARY);
    let list = repo.heddle(["thread", "list", "--output", "json"]).json();
    assert_eq!(fields(&list), ["threads"]);
    assert_eq!(list["threads"][0], shown);
    assert_eq!(list["threads"][1]["is_current"], true);
    assert_eq!(list["threads"][1]["child_threads"], json!(["fix"]));
    let done = repo
        .heddle(["thread", "complete", "fix", "--output", "json"])
        .json();
    assert_eq!(
        (fields(&done), &done["coordination_status"]),
        (SUMMARY.to_vec(), &json!("complete"))
    );

    let sure = repo.heddle(["capture", "--confidence", "0.1", "--output", "json"]);
    sure.ok();
    fs::write(repo.path("new"), "new\n").unwrap();
    repo.heddle(["capture", "--confidence", "0.1"]).ok();
    let main = repo.heddle(["thread", "show", "--output", "json"]).json();
    assert_eq!(main["confidence"], json!(0.1));
}

#[test]
fn g10_threads_that_cannot_be_are_refused_with_the_reason() {
    let repo = TestRepo::new();
    repo.heddle(["thread", "start", "fix"]).ok();
    let cases: [(&[&str], &str); 8] = [
        (&["thread", "start", "fix"], "THREAD_EXISTS"),
        (&["thread", "start", "main"], "THREAD_EXISTS"),
        (&["thread", "start", "../heads/main"], "THREAD_NAME_INVALID"),
        (&["thread", "start", "a b"], "THREAD_NAME_INVALID"),
        (&["thread", "start", "x", "--from", "nope"], "STATE_UNKNOWN"),
        (
            &["thread", "start", "x", "--path", "README"],
            "INVALID_FIELD",
        ),
        (&["thread", "show", "nope"], "THREAD_UNKNOWN"),
        (&["thread", "complete", "nope"], "THREAD_UNKNOWN"),
    ];
    for (args, reason) in cases {
        let error = repo.heddle(args).fails_with(1);
        assert!(
            error.starts_with(&format!("error[{reason}]: ")),
            "{args:?}: {error}"
        );
    }
    let taken = repo.around().join("taken");
    fs::write(&taken, "a file\n").unwrap();
    let error = repo
        .heddle(["thread", "start", "x", "--path", "../taken"])
        .fails_with(1);
    assert!(error.contains(taken.to_str().unwrap()), "{error}");
    for args in [
        &["thread"][..],
        &["thread", "complete"],
        &["thread", "watch", "--after", "-1"],
    ] {
        repo.heddle(args).fails_with(2);
    }
}

/// A command that goes on, and what it prints.
pub struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    pub fn start(repo: &TestRepo, args: &[&str]) -> Self {
        let mut command = repo.command(HEDDLE);
        command.args(args).args(["--output", "json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    pub fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.unwrap();
        Some(serde_json::from_str(&line).unwrap())
    }

    pub fn ended_well(&mut self) -> bool {
        self.child.wait().unwrap().success()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills the daemon that a command started.
fn crash(repo: &TestRepo) {
    let pid = repo.holder().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("the daemon is gone", || {
        (repo.holder() != Some(pid)).then_some(())
    });
}

#[test]
fn a_watch_shows_each_event_once_across_restarts_of_the_daemon() {
    let repo = TestRepo::new();
    repo.heddle(["thread", "start", "one"]).ok();
    let mut watch = Watching::start(&repo, &["thread", "watch", "--limit", "4"]);
    let first = watch.next().unwrap();
    let names = [
        "event_id",
        "thread",
        "event_type",
        "created_at_secs",
        "summary",
    ];
    assert_eq!(fields(&first), names);
    assert_eq!(fields(&first["summary"]), SUMMARY);
    assert_eq!(
        (&first["thread"], &first["event_type"]),
        (&json!("one"), &json!("thread_create"))
    );

    // Asked to leave: whoever watches has the next daemon started.
    repo.heddle(["agent", "stop"]).ok();
    repo.heddle(["thread", "complete", "one"]).ok();
    let second = watch.next().unwrap();
    assert_eq!(second["event_type"], "thread_complete");
    crash(&repo);
    let state = capture(&repo, "nothing new");
    fs::write(repo.path("new"), "new\n").unwrap();
    let state_two = capture(&repo, "new");
    assert_ne!(state, state_two);
    let third = watch.next().unwrap();
    assert_eq!(
        (&third["thread"], &third["event_type"]),
        (&json!("main"), &json!("snapshot"))
    );
    assert_eq!(third["summary"]["current_state"], json!(state_two));
    repo.heddle(["thread", "start", "two"]).ok();
    let fourth = watch.next().unwrap();
    assert_eq!(fourth["thread"], "two");
    assert!(watch.next().is_none() && watch.ended_well());

    let ids = [first, second, third, fourth].map(|event| event["event_id"].as_i64().unwrap());
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let after = ids[2].to_string();
    let args = [
        "thread", "watch", "--after", &after, "--limit", "1", "--output", "json",
    ];
    assert_eq!(repo.heddle(args).json()["event_id"], json!(ids[3]));
}

#[test]
fn a_followed_log_goes_on_across_restarts_of_the_daemon() {
    let repo = TestRepo::new();
    repo.heddle(["hook", "add", "a", "true"]).ok();
    let mut log = Watching::start(&repo, &["log", "--follow", "--limit", "3"]);
    assert_eq!(log.next().unwrap()["seq"], 1);
    crash(&repo);
    repo.heddle(["hook", "add", "b", "true"]).ok();
    assert_eq!(log.next().unwrap()["seq"], 2);
    repo.heddle(["agent", "stop"]).ok();
    repo.heddle(["hook", "add", "c", "true"]).ok();
    assert_eq!(log.next().unwrap()["seq"], 3);
    assert!(log.next().is_none() && log.ended_well());
}
