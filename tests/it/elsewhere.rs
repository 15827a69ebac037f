//! A repository that was copied, a socket that was removed, a daemon that others start again: what
//! is done is done to the daemon that was meant.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::harness::{HEDDLE, TestRepo, run};

#[test]
fn g2_a_copied_repository_does_not_talk_to_the_daemon_of_the_original() {
    let repo = TestRepo::new();
    let socket = repo.around().join("elsewhere.sock");
    let daemon = repo.serve_with(&["--socket", socket.to_str().unwrap()]);
    let copy = repo.around().join("copy");
    run(repo.command("cp").arg("-a").arg(repo.root()).arg(&copy)).ok();

    let in_copy = |arguments: &[&str]| {
        let mut command = repo.command(HEDDLE);
        run(command.current_dir(&copy).args(arguments))
    };
    in_copy(&["agent", "status"]).fails_with(3);
    in_copy(&["hook", "add", "copied", "true"]).ok();
    assert!(!repo.heddle(["hook", "list"]).ok().contains("copied"));
    let status = in_copy(&["agent", "status", "--output", "json"]).json();
    assert_eq!(status["repository"], copy.to_str().unwrap());
    assert_ne!(status["pid"], daemon.pid());
    in_copy(&["agent", "stop"]).ok();
    repo.heddle(["agent", "status"]).ok();
}

#[test]
fn g2_a_socket_removed_elsewhere_comes_back() {
    let repo = TestRepo::new();
    let socket = repo.around().join("elsewhere.sock");
    let daemon = repo.serve_with(&["--socket", socket.to_str().unwrap()]);
    fs::remove_file(&socket).unwrap();
    daemon.wait_for_line("made the removed .heddle folder again");
    assert!(repo.heddle(["agent", "status"]).ok().contains("serving"));
}

#[test]
fn a_stop_ends_although_others_start_the_next_daemon_at_once() {
    let repo = TestRepo::new();
    repo.heddle(["hook", "list"]).ok();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    repo.heddle(["hook", "list"]).ok();
                }
            });
        }
        for _ in 0..5 {
            let stopped = repo.heddle(["agent", "stop", "--output", "json"]);
            // Let the others end before this fails.
            if !stopped.status.success() {
                done.store(true, Ordering::Relaxed);
            }
            stopped.ok();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_timeout_of_ages_is_no_deadline() {
    let repo = TestRepo::new();
    let _daemon = repo.serve_with(&["--idle-timeout", "9223372036854775807s"]);
    let status = repo.heddle(["agent", "status", "--output", "json"]).json();
    assert!(status["idle_deadline_secs"].is_null());
}
