//! `heddle capture`: what people and scripts see of it.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::harness::{HEDDLE, Ran, TestRepo, run};

/// Runs heddle in a folder of the repository, or of a worktree of it.
pub fn heddle_in(repo: &TestRepo, folder: &Path, args: &[&str]) -> Ran {
    run(repo.command(HEDDLE).current_dir(folder).args(args))
}

/// Captures; answers the state's id.
#[track_caller]
pub fn capture(repo: &TestRepo, intent: &str) -> String {
    let args = ["capture", "-m", intent, "--output", "json"];
    let captured = repo.heddle(args).json();
    captured["state_id"].as_str().unwrap().to_owned()
}

/// The names of an object's fields, in their order.
pub fn fields(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn a_capture_says_what_it_took_and_the_next_that_nothing_changed() {
    let repo = TestRepo::new();
    let head = repo.git(&["rev-parse", "HEAD"]);
    fs::write(repo.path("new.txt"), "new\n").unwrap();
    fs::write(repo.path("README"), "changed\n").unwrap();
    let said = repo.heddle(["capture", "-m", "Say more"]).ok();
    let state = repo.git(&["rev-parse", "--short=10", "refs/heddle/threads/main"]);
    let wanted = format!(
        "captured {} on main, 2 paths changed since {}\n",
        state.trim(),
        &head[..10]
    );
    assert_eq!(said, wanted);
    let again = repo.heddle(["capture"]).ok();
    assert_eq!(
        again,
        format!("nothing changed since {} on main\n", state.trim())
    );
    let log = repo.heddle(["log"]).ok();
    let wanted = format!("  {}  Say more  ", state.trim());
    assert!(log.contains(&wanted), "{log}");
}

#[test]
fn a_captures_json_has_a_stable_shape() {
    let repo = TestRepo::new();
    fs::write(repo.path("new.txt"), "new\n").unwrap();
    let args = ["capture", "--confidence", "0.25", "--output", "json"];
    let captured = repo.heddle(args).json();
    let state = repo.git(&["rev-parse", "refs/heddle/threads/main"]);
    assert_eq!(
        captured,
        json!({
            "thread": "main",
            "state_id": state.trim(),
            "parent_state": repo.git(&["rev-parse", "HEAD"]).trim(),
            "unchanged": false,
            "changed_paths": 1,
            "left_out": [],
            "coordination_status": "active",
        })
    );
    let again = repo.heddle(["capture", "--output", "json"]).json();
    assert_eq!(fields(&again), fields(&captured));
    assert_eq!(again["unchanged"], true);
    assert_eq!(again["state_id"], captured["state_id"]);
}

#[test]
fn what_a_capture_leaves_out_is_named_in_a_warning() {
    let repo = TestRepo::new();
    nix::unistd::mkfifo(&repo.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(repo.path("new.txt"), "new\n").unwrap();
    let ran = repo.heddle(["capture"]);
    assert!(
        ran.stderr
            .starts_with("warning: left out: `pipe` is a FIFO"),
        "{ran:?}"
    );
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    ran.ok();
    let captured = repo.heddle(["capture", "--output", "json"]).json();
    let left_out = &captured["left_out"][0];
    assert_eq!(left_out["path"], "pipe");
    assert_eq!(fields(left_out), ["path", "reason", "as_before"]);
    assert_eq!(left_out["as_before"], true);
    // Only what is new is told in words again.
    let two = ["pipe", "another"].map(|name| repo.path(name));
    nix::unistd::mkfifo(&two[1], nix::sys::stat::Mode::S_IRWXU).unwrap();
    let said = repo.heddle(["capture"]).stderr;
    assert_eq!(
        said,
        "warning: left out: `another` is a FIFO, which Git cannot keep\n\
         warning: left out as before: 1 path; --output json names them\n"
    );
    let said = repo.heddle(["capture"]).stderr;
    let before = "warning: left out as before: 2 paths; --output json names them\n";
    assert_eq!(said, before);
    for pipe in two {
        fs::remove_file(pipe).unwrap();
    }
    assert_eq!(repo.heddle(["capture"]).stderr, "");
    nix::unistd::mkfifo(&repo.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let said = repo.heddle(["capture"]).stderr;
    assert_eq!(
        said,
        "warning: left out: `pipe` is a FIFO, which Git cannot keep\n"
    );
}

#[test]
fn a_capture_is_of_the_worktree_that_the_user_stands_in() {
    let repo = TestRepo::new();
    let linked = repo.around().join("linked");
    repo.git(&[
        "worktree",
        "add",
        "-q",
        "-b",
        "side",
        linked.to_str().unwrap(),
    ]);
    fs::create_dir(linked.join("deep")).unwrap();
    fs::write(linked.join("deep/new.txt"), "new\n").unwrap();

    let here = repo.heddle(["capture", "--output", "json"]).json();
    assert_eq!(
        (&here["thread"], &here["unchanged"]),
        (&json!("main"), &json!(true))
    );
    let deep = linked.join("deep");
    let there = heddle_in(&repo, &deep, &["capture", "--output", "json"]).json();
    assert_eq!(
        (&there["thread"], &there["changed_paths"]),
        (&json!("side"), &json!(1))
    );
    let named = repo
        .heddle(["capture", "--repo", deep.to_str().unwrap()])
        .ok();
    assert!(named.ends_with("on side\n"), "{named}");
    // A thread is captured where it is worked on, wherever the caller stands.
    let named = repo
        .heddle(["capture", "--thread", "side", "--output", "json"])
        .json();
    assert_eq!(named["state_id"], there["state_id"]);
}

#[test]
fn g10_captures_that_cannot_be_are_refused_with_the_reason() {
    let repo = TestRepo::new();
    for confidence in ["1.5", "-0.1", "NaN", "x"] {
        let flag = format!("--confidence={confidence}");
        let error = repo.heddle(["capture", &flag]).fails_with(2);
        assert!(error.contains("from 0, a guess, to 1, certain"), "{error}");
    }
    let error = repo.heddle(["capture", "--thread", "nope"]).fails_with(1);
    assert!(
        error.starts_with("error[THREAD_UNKNOWN]: there is no thread `nope`"),
        "{error}"
    );
    let error = repo
        .heddle(["capture", "--thread", "../../heads/main"])
        .fails_with(1);
    assert!(error.starts_with("error[THREAD_NAME_INVALID]: "), "{error}");

    let bare = repo.around().join("bare.git");
    repo.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let error = heddle_in(&repo, &bare, &["capture"]).fails_with(1);
    assert!(error.starts_with("error[NO_WORKTREE]: "), "{error}");
    heddle_in(&repo, &bare, &["agent", "stop"]).ok();
}
