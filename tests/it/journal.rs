//! The daemon's lines: fields in the journal, readable text elsewhere.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{DEADLINE, TestRepo, run},
    manager::user_manager,
};

const ADD: &[&str] = &["hook", "add", "lint", "true", "--event", "pre_capture"];
const BAD: &[&str] = &["hook", "add", "lint", "true", "--event", "no_such_event"];

/// The journal's entries with these fields, as soon as there is one.
fn entries(fields: &[&str]) -> Vec<Value> {
    let end = Instant::now() + DEADLINE;
    loop {
        let mut journal = Command::new("journalctl");
        journal.args(["--quiet", "--output=json"]).args(fields);
        let found = run(&mut journal);
        let entries: Vec<Value> = found
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if !entries.is_empty() {
            return entries;
        }
        assert!(
            Instant::now() < end,
            "nothing with {fields:?}: {}",
            found.stderr
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_journal_is_asked_by_field() {
    let Some(manager) = user_manager("journal::fields") else {
        return;
    };
    let repo = manager.repo("journal");
    repo.heddle(&["agent", "install", "--now"]).ok();
    repo.heddle(ADD).ok();
    assert!(!repo.heddle(BAD).status.success());

    // As `journalctl --user -u` asks, but by root, who may read every journal.
    let user = format!("_UID={}", manager.ids().0);
    let unit = "_SYSTEMD_USER_UNIT=heddle-agent@journal.service";
    // Users come and go; their ids, and with a journal that is kept their entries, come again.
    let repository = format!("HEDDLE_REPOSITORY={}", repo.root().display());
    let refused = entries(&[&user, unit, &repository, "HEDDLE_CODE=INVALID_ARGUMENT"]);
    let refused = &refused[0];
    assert_eq!(refused["HEDDLE_REPOSITORY"], repo.root().to_str().unwrap());
    let method = refused["HEDDLE_METHOD"].as_str().unwrap();
    assert!(method.ends_with("/RegisterHook"), "{method}");
    let peer: u32 = refused["HEDDLE_PEER_PID"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(peer > 1);
    assert_eq!(refused["SYSLOG_IDENTIFIER"], "heddle-agent");
    let pid = manager.property("heddle-agent@journal.service", "MainPID");
    assert_eq!(refused["_PID"], pid);

    let log = repo.heddle(&["log", "--output", "json"]).json();
    let operation = log["operation_id"].as_str().or(log["id"].as_str());
    let operation = operation.unwrap_or_else(|| panic!("no id: {log}"));
    let committed = entries(&[&user, unit, &format!("HEDDLE_OPERATION_ID={operation}")]);
    assert_eq!(committed[0]["MESSAGE"], "committed");
    assert_eq!(committed[0]["HEDDLE_METHOD"], method);

    // An error is one in the journal too (priorities in syslog(3)).
    let info = refused["PRIORITY"].as_str().unwrap();
    run(Command::new("sh").args([
        "-c",
        &format!(
            "echo 'idle_timeout = [' > '{}/.git/heddle/config.toml'",
            repo.root().display()
        ),
    ]))
    .ok();
    manager
        .systemctl(&["kill", "-s", "HUP", "heddle-agent@journal.service"])
        .ok();
    let errors = entries(&[&user, unit, "PRIORITY=3"]);
    let said = errors[0]["MESSAGE"].as_str().unwrap();
    assert!(said.contains("the old settings stay"), "{said}");
    assert!(info.parse::<u8>().unwrap() > 3, "{info}");
}

#[test]
fn without_a_journal_the_lines_are_text() {
    let repo = TestRepo::new();
    let daemon = repo.serve();
    repo.heddle(ADD).ok();
    assert!(!repo.heddle(BAD).status.success());
    let committed = daemon.wait_for_line("committed");
    assert!(committed.contains("INFO") && committed.contains("heddle_operation_id="));
    let refused = daemon.wait_for_line("INVALID_ARGUMENT");
    assert!(refused.contains("RegisterHook") && refused.contains("call ended"));
    assert!(!refused.contains('\u{1b}'), "{refused:?}");
}
