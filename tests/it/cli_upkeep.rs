//! `heddle gc` and `heddle doctor`: what people and scripts see of them.

use std::fs;

use heddle_agent::local_daemon::RepositoryLock;
use serde_json::{Value, json};

use crate::{
    cli_capture::{capture, fields},
    harness::{Ran, TestRepo},
};

/// A repository whose thread has so many ended chains of one capture each.
fn with_ended_chains(count: usize) -> TestRepo {
    let repo = TestRepo::new();
    for n in 0..count {
        fs::write(repo.path("file"), format!("{n}\n")).unwrap();
        capture(&repo, "something");
        repo.git(&["commit", "-q", "--allow-empty", "-m", "mine"]);
    }
    fs::write(repo.path("file"), "last\n").unwrap();
    capture(&repo, "last");
    repo
}

#[test]
fn gc_drops_what_is_past_its_time_and_says_what_it_freed() {
    let repo = with_ended_chains(3);
    let kept = || {
        repo.git(&["for-each-ref", "refs/heddle/kept"])
            .lines()
            .count()
    };
    assert_eq!(kept(), 3);
    assert_eq!(
        repo.heddle(["gc"]).ok(),
        "nothing to drop; 3 ended chains kept\n"
    );

    let args = ["gc", "--keep-chains", "1", "--keep-days", "0"];
    let dry = repo.heddle(args.iter().chain(&["--dry-run"])).ok();
    let first = "would drop 2 chains of 2 states; 1 ended chain kept\n`git gc` then removes ";
    assert!(dry.starts_with(first), "{dry}");
    assert_eq!(kept(), 3);
    let done = repo.heddle(args.iter().chain(&["--output", "json"])).json();
    let names = [
        "dry_run",
        "dropped_chains",
        "dropped_states",
        "freed_objects",
        "freed_bytes",
        "kept_chains",
    ];
    assert_eq!(fields(&done), names);
    assert_eq!(
        (&done["dropped_chains"], &done["kept_chains"]),
        (&json!(2), &json!(1))
    );
    assert!(done["freed_objects"].as_u64().unwrap() >= 2, "{done}");
    assert_eq!(kept(), 1);

    for wrong in [
        &["gc", "--keep-chains", "0"][..],
        &["gc", "--keep-days", "-1"],
    ] {
        repo.heddle(wrong).fails_with(2);
    }
}

fn doctor(repo: &TestRepo, args: &[&str]) -> (Ran, Vec<Value>) {
    let ran = repo.heddle(["doctor", "--output", "json"].iter().chain(args));
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    let findings = said["findings"].as_array().unwrap().clone();
    (ran, findings)
}

fn has(findings: &[Value], area: &str, severity: &str) -> bool {
    let found = |finding: &Value| finding["area"] == area && finding["severity"] == severity;
    findings.iter().any(found)
}

#[test]
fn a_doctor_who_finds_nothing_wrong_says_so_and_exits_with_0() {
    let repo = with_ended_chains(1);
    let (ran, findings) = doctor(&repo, &[]);
    ran.ok();
    assert!(has(&findings, "database", "good"), "{findings:?}");
    for finding in &findings {
        assert_eq!(fields(finding), ["area", "severity", "message"]);
    }
    let said = repo.heddle(["doctor"]).ok();
    assert!(said.contains("good     database  "), "{said}");
    assert!(
        said.lines().last().unwrap().starts_with("0 bad, "),
        "{said}"
    );
}

#[test]
fn what_is_wrong_makes_the_doctor_exit_with_1_until_it_is_repaired() {
    let repo = with_ended_chains(1);
    let kept = repo.git(&["for-each-ref", "--format=%(refname)", "refs/heddle/kept"]);
    repo.git(&["update-ref", "-d", kept.trim()]);
    let (ran, findings) = doctor(&repo, &[]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(has(&findings, "refs", "bad"), "{findings:?}");
    assert_eq!(
        findings.last().unwrap()["severity"],
        "bad",
        "what is wrong comes last"
    );

    let (ran, findings) = doctor(&repo, &["--repair"]);
    ran.ok();
    assert!(has(&findings, "refs", "repaired"), "{findings:?}");
    assert_eq!(
        repo.git(&["for-each-ref", "--format=%(refname)", "refs/heddle/kept"]),
        kept
    );
    doctor(&repo, &[]).0.ok();
}

#[test]
fn the_doctor_helps_too_where_the_database_lets_no_daemon_start() {
    let repo = with_ended_chains(2);
    let newest = repo.git(&["rev-parse", "refs/heddle/threads/main"]);
    repo.heddle(["agent", "stop"]).ok();
    let database = repo.store_dir().join("heddle.db");
    let damaged = b"not a database at all".repeat(1_000);
    fs::write(&database, &damaged).unwrap();
    repo.heddle(["thread", "list"]).fails_with(1);

    let (ran, findings) = doctor(&repo, &[]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(
        has(&findings, "database", "bad") && has(&findings, "daemon", "bad"),
        "{findings:?}"
    );
    let said = repo.heddle(["doctor"]);
    assert!(said.stdout.contains("`heddle doctor --repair`"), "{said:?}");
    assert_eq!(
        fs::read(&database).unwrap(),
        damaged,
        "to look changes nothing"
    );

    let (ran, findings) = doctor(&repo, &["--repair"]);
    ran.ok();
    assert!(has(&findings, "database", "repaired"), "{findings:?}");
    assert!(has(&findings, "daemon", "repaired"), "{findings:?}");
    let thread = repo.heddle(["thread", "show", "--output", "json"]).json();
    assert_eq!(thread["current_state"], newest.trim());
}

#[test]
fn the_doctor_changes_nothing_under_a_process_that_has_the_lock() {
    let repo = with_ended_chains(1);
    repo.heddle(["agent", "stop"]).ok();
    let database = repo.store_dir().join("heddle.db");
    fs::write(&database, "not a database at all").unwrap();
    let _lock = RepositoryLock::try_take(&repo.store_dir())
        .unwrap()
        .unwrap();
    let (ran, findings) = doctor(&repo, &["--repair"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let daemon = findings
        .iter()
        .find(|finding| finding["area"] == "daemon")
        .unwrap();
    assert!(
        daemon["message"]
            .as_str()
            .unwrap()
            .contains("heddle agent stop --force"),
        "{daemon}"
    );
    assert_eq!(fs::read(&database).unwrap(), b"not a database at all");
}
