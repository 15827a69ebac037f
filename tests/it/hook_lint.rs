//! The linter of contrib/hooks: it sees what a capture changes, and nothing else.

use std::{fs, process::Command};

use crate::{
    harness::{TestRepo, skip},
    hook_git::sample,
    listening::{gate, outcome, register, veto},
    states::capture,
};

/// A linter that is everywhere: it notes what it was asked about, and finds what is BAD.
const LINTER: &str = r#"#!/bin/sh
printf '%s\n' "$@" >>../linted
exec awk '/BAD/ { print FILENAME ":" FNR ":1: bad style"; bad = 1 } END { exit bad }' "$@"
"#;

/// A repository with that linter, and files that were bad before.
fn repository() -> TestRepo {
    let repo = TestRepo::new();
    fs::write(repo.around().join("linter"), LINTER).unwrap();
    for name in ["old.src", "older.src"] {
        fs::write(repo.path(name), "BAD of before\nfine\n").unwrap();
    }
    fs::write(repo.path("gone.src"), "BAD\n").unwrap();
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "sources"]);
    repo
}

fn lint(options: &str) -> String {
    sample(
        "lint-changed",
        &format!("{options} '*.src' -- sh ../linter"),
    )
}

fn linted(repo: &TestRepo) -> Vec<String> {
    let text = fs::read_to_string(repo.around().join("linted")).unwrap_or_default();
    fs::write(repo.around().join("linted"), "").unwrap();
    let mut names: Vec<_> = text.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test]
async fn only_what_a_capture_changes_is_linted() {
    let repo = repository();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    register(&channel, gate("lint", &lint(""))).await;
    let write = |name: &str, text: &str| fs::write(repo.path(name), text).unwrap();

    write("notes.md", "BAD, and no source\n");
    capture(&channel, "").await.unwrap();
    assert!(linted(&repo).is_empty(), "no linter is started for nothing");

    fs::create_dir(repo.path("sub")).unwrap();
    write("sub/new.src", "fine\n");
    write("-rf.src", "fine\n");
    fs::remove_file(repo.path("gone.src")).unwrap();
    std::os::unix::fs::symlink("old.src", repo.path("link.src")).unwrap();
    capture(&channel, "").await.unwrap();
    assert_eq!(linted(&repo), ["./-rf.src", "sub/new.src"]);

    write("old.src", "BAD of before\nfine\nBAD too\n");
    let (hook, reason) = veto(capture(&channel, "").await.map(drop));
    assert_eq!(hook, "lint");
    assert_eq!(reason, "old.src:1: bad style\nold.src:3: bad style");
    assert_eq!(linted(&repo), ["old.src"]);
}

#[tokio::test]
async fn only_new_lines_count_where_that_is_asked_for() {
    let repo = repository();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    register(&channel, gate("lint", &lint("--new-lines"))).await;
    let write = |text: &str| fs::write(repo.path("old.src"), text).unwrap();
    write("BAD of before\nfine\nfine too\n");
    capture(&channel, "").await.unwrap();
    write("first\nBAD of before\nfine\nfine too\nBAD\n");
    let (_, reason) = veto(capture(&channel, "").await.map(drop));
    assert_eq!(reason, "old.src:5: bad style");

    register(&channel, gate("lint", &lint("--new-lines --signal"))).await;
    let state = capture(&channel, "").await.unwrap().state_id;
    let database = rusqlite::Connection::open(repo.store_dir().join("heddle.db")).unwrap();
    let kept = "SELECT body FROM extra_signal WHERE state_id = ?1 AND kind = 'lint'";
    let body: String = database.query_row(kept, [state], |row| row.get(0)).unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["reason"], "bad style");
    assert_eq!(body["anchor"]["start_line"], 5);
}

#[tokio::test]
async fn a_linter_that_is_broken_or_not_there_is_no_pass() {
    let repo = repository();
    let _daemon = repo.serve();
    for (command, why) in [
        ("'*.src' -- no-such-linter", "no-such-linter cannot be run"),
        (
            "--new-lines --signal '*.src' -- sh -c 'echo broken; exit 2'",
            "broken",
        ),
        ("'*.src' -- false", "false ended with status 1"),
        ("'*.src'", "no linter behind"),
        ("'*.src' --", "no linter behind"),
    ] {
        fs::write(repo.path("new.src"), "").unwrap();
        let reason = outcome(&repo, gate("lint", &sample("lint-changed", command))).await;
        let reason = reason.unwrap_or_else(|| panic!("{command} passed"));
        assert!(reason.contains(why), "{command}: {reason}");
    }
    let open = heddle_agent::grpc_local_impl::proto::v1::RegisterHookRequest {
        fail_open: true,
        ..gate("lint", &sample("lint-changed", "'*.src' -- no-such-linter"))
    };
    assert_eq!(outcome(&repo, open).await, None);
}

#[tokio::test]
async fn ruff_keeps_what_it_finds_out_of_captures() {
    const TEST: &str = "ruff_keeps_what_it_finds_out_of_captures";
    let python = std::env::var("HEDDLE_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let possible = Command::new(&python)
        .args(["-m", "ruff", "--version"])
        .output();
    if !possible.is_ok_and(|ran| ran.status.success()) {
        return skip(TEST, "no HEDDLE_TEST_PYTHON, and python3 has no ruff");
    }
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let ruff = format!(
        "'*.py' -- {python} -m ruff check -q --no-cache --force-exclude --output-format concise"
    );
    register(&channel, gate("ruff", &sample("lint-changed", &ruff))).await;
    fs::write(repo.path("fine.py"), "print(1)\n").unwrap();
    capture(&channel, "").await.unwrap();
    fs::write(repo.path("broken.py"), "print(undefined)\n").unwrap();
    let (_, reason) = veto(capture(&channel, "").await.map(drop));
    assert!(reason.starts_with("broken.py:1: F821"), "{reason}");
}
