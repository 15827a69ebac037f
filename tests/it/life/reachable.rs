//! Alive means reachable (G2).

use std::fs;

use nix::sys::signal::Signal;

use super::{Bystander, block_on, copy_binary, operations, serve_by, status};
use crate::harness::{TestRepo, eventually, run, skip};

#[test]
fn g2_a_daemon_that_does_not_answer_is_wedged_and_only_force_replaces_it() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    daemon.signal(Signal::SIGSTOP);

    let wedged = repo.heddle(["agent", "status"]);
    assert!(wedged.stdout.contains("agent stop --force"), "{wedged:?}");
    wedged.fails_with(5);
    let json = repo.heddle(["agent", "status", "--output", "json"]);
    assert!(json.stdout.contains(r#""state":"wedged""#), "{json:?}");
    let why = repo.heddle(["agent", "stop"]).fails_with(5);
    assert!(why.contains("agent stop --force"), "{why}");
    assert!(daemon.ended().is_none());

    repo.heddle(["agent", "stop", "--force"]).ok();
    assert_eq!(daemon.wait().code(), Some(0), "it drains, once woken");
    repo.heddle(["hook", "list"]).ok();
    assert_ne!(repo.holder(), Some(daemon.pid()));
}

#[test]
fn g2_force_replaces_a_wedged_daemon_that_runs_under_another_name() {
    let repo = TestRepo::new();
    let mut daemon = serve_by(&repo, &copy_binary(&repo, "weaver"));
    daemon.signal(Signal::SIGSTOP);
    repo.heddle(["agent", "stop", "--force"]).ok();
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn g2_a_pidfile_alone_never_gets_a_process_signalled() {
    let repo = TestRepo::new();
    repo.heddle(["init"]).ok();
    let mut bystander = Bystander::start(repo.command("sleep").arg("600"));
    let forged = format!("{}\nheddle-agent\n1700000000\n", bystander.pid());
    fs::write(repo.pidfile(), &forged).unwrap();

    for args in [&["agent", "stop"][..], &["agent", "stop", "--force"]] {
        let stopped = repo.heddle(args).ok();
        assert!(stopped.contains("not running"), "{stopped}");
    }
    assert_eq!(repo.heddle(["agent", "status"]).status.code(), Some(3));

    // Nor beside a daemon that is wedged: the lock tells which process that is.
    let mut daemon = repo.serve();
    fs::write(repo.pidfile(), &forged).unwrap();
    daemon.signal(Signal::SIGSTOP);
    repo.heddle(["agent", "stop", "--force"]).ok();
    daemon.wait();
    bystander.assert_alive();
}

#[test]
fn g2_a_foreign_process_that_holds_the_lock_is_not_signalled() {
    let repo = TestRepo::new();
    repo.heddle(["init"]).ok();
    let lock = repo.store_dir().join("lock");
    let mut flock = repo.command("flock");
    flock.arg("--no-fork").arg(&lock).args(["sleep", "600"]);
    if repo.command("flock").arg("--version").output().is_err() {
        return skip(
            "g2_a_foreign_process_that_holds_the_lock_is_not_signalled",
            "flock(1) is not installed",
        );
    }
    let mut holder = Bystander::start(&mut flock);
    eventually("flock(1) holds the lock", || {
        (repo.holder() == Some(holder.pid())).then_some(())
    });

    assert_eq!(repo.heddle(["agent", "status"]).status.code(), Some(5));
    repo.heddle(["agent", "stop"]).fails_with(5);
    let why = repo.heddle(["agent", "stop", "--force"]).fails_with(1);
    assert!(
        why.contains(&format!("process {} holds", holder.pid())) && why.contains("not signalled"),
        "{why}"
    );
    holder.assert_alive();
}

#[test]
fn g2_a_removed_heddle_folder_comes_back_by_itself() {
    let repo = TestRepo::new();
    let daemon = repo.serve();
    block_on(async {
        let mut events = operations(repo.channel().await).await;
        for round in 0..5 {
            let cleaned = run(repo.command("git").args(["clean", "-fdxq"]));
            assert_eq!(cleaned.stderr, "");
            cleaned.ok();
            // The socket comes first, the pidfile after it.
            eventually("the folder is made again", || {
                repo.pidfile().exists().then_some(())
            });
            assert_eq!(status(&repo)["pid"], daemon.pid());
            // What was open before is open still.
            let name = format!("round-{round}");
            repo.heddle(["hook", "add", &name, "true", "--event", "pre_capture"])
                .ok();
            let event = events.message().await.unwrap().unwrap();
            assert_eq!(event.verb, "hook_register");
        }
    });
    assert!(repo.git(&["status", "--porcelain"]).is_empty());
}

#[test]
fn g2_a_removed_link_to_a_socket_elsewhere_comes_back_every_time() {
    let repo = TestRepo::new();
    let socket = repo.around().join("elsewhere.sock");
    let mut daemon = repo.serve_with(&["--socket", socket.to_str().unwrap()]);
    for _ in 0..5 {
        repo.git(&["clean", "-fdxq"]);
        eventually("the pidfile is written again", || {
            repo.pidfile().exists().then_some(())
        });
        assert_eq!(fs::read_link(repo.socket()).unwrap(), socket);
        assert_eq!(status(&repo)["pid"], daemon.pid());
    }
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(!socket.exists() && repo.socket().symlink_metadata().is_err());
}
