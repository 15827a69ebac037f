//! One daemon per repository (G1).

use std::{
    fs,
    process::{Child, Stdio},
};

use heddle_agent::{
    grpc_local_impl::proto::v1::hook_service_client::HookServiceClient,
    local_daemon::is_heddle_process,
};
use nix::sys::signal::Signal;
use tonic::Code;

use super::{block_on, copy_binary, hook, hook_names, serve_by, status};
use crate::harness::{Daemon, HEDDLE, TestRepo, eventually, reason, run};

#[test]
fn g1_of_fifty_started_at_once_exactly_one_serves_and_the_others_name_it() {
    let repo = TestRepo::new();
    for round in 0..20 {
        let mut started: Vec<Daemon> = (0..50)
            .map(|_| {
                let mut command = repo.command(HEDDLE);
                command.args(["agent", "serve"]);
                Daemon::spawn(command)
            })
            .collect();
        let mut lost = Vec::new();
        eventually("49 of 50 give way", || {
            while let Some(index) = started.iter_mut().position(|d| d.ended().is_some()) {
                lost.push(started.swap_remove(index));
            }
            (started.len() <= 1).then_some(())
        });
        let mut winner = started.pop().expect("one must stay");
        winner.wait_for_line("serving");
        assert_eq!(repo.holder(), Some(winner.pid()), "round {round}");
        for mut daemon in lost {
            assert_eq!(daemon.wait().code(), Some(4), "{:#?}", daemon.log());
            daemon.wait_for_line(&format!("by process {} ", winner.pid()));
        }
        assert_eq!(winner.stop().code(), Some(0), "{:#?}", winner.log());
    }
}

#[test]
fn g1_clients_that_start_the_daemon_at_once_all_reach_the_same_one() {
    let repo = TestRepo::new();
    let clients: Vec<Child> = (0..20)
        .map(|n| {
            let name = format!("hook-{n}");
            let mut command = repo.command(HEDDLE);
            command
                .args(["hook", "add", &name, "true", "--event", "pre_capture"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for client in clients {
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let hooks = repo.heddle(["hook", "list", "--output", "json"]).json();
    assert_eq!(hooks["hooks"].as_array().unwrap().len(), 20);
    let log = fs::read_to_string(repo.path(".heddle/agent.log")).unwrap();
    assert_eq!(log.matches(" serving ").count(), 1, "{log}");
    assert_eq!(status(&repo)["pid"], repo.holder().unwrap());
}

#[test]
fn g1_a_write_under_a_replaced_lock_is_refused_and_the_daemon_leaves() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    block_on(async {
        let mut hooks = HookServiceClient::new(repo.channel().await);
        hooks.register_hook(hook("before")).await.unwrap();
        // Renamed over it from elsewhere, so that the daemon is not told of it.
        let other = repo.around().join("lock");
        fs::write(&other, "").unwrap();
        fs::rename(other, repo.store_dir().join("lock")).unwrap();

        let refused = hooks.register_hook(hook("after")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert_eq!(reason(&refused), "STORE_LOST");
    });
    assert_eq!(daemon.wait().code(), Some(1));
    assert_eq!(hook_names(&repo), ["before"]);
}

#[test]
fn g1_a_removed_store_folder_makes_the_daemon_leave_and_the_next_client_starts_anew() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    fs::rename(repo.store_dir(), repo.around().join("taken")).unwrap();
    assert_eq!(daemon.wait().code(), Some(1));
    daemon.wait_for_line("removed or replaced");

    repo.heddle(["hook", "add", "new", "true", "--event", "pre_capture"])
        .ok();
    assert_eq!(hook_names(&repo), ["new"]);
    assert_ne!(repo.holder(), Some(daemon.pid()));
}

#[test]
fn g1_a_copied_executable_is_recognised() {
    let repo = TestRepo::new();
    let copy = copy_binary(&repo, "weaver");
    let mut daemon = serve_by(&repo, &copy);
    assert_recognised(&repo, &daemon);
    repo.heddle(["agent", "stop"]).ok();
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn g1_an_executable_replaced_on_disk_is_recognised() {
    let repo = TestRepo::new();
    let copy = copy_binary(&repo, "heddle");
    let mut daemon = serve_by(&repo, &copy);
    fs::rename(copy_binary(&repo, "heddle.new"), &copy).unwrap();
    assert!(is_heddle_process(daemon.pid()));
    assert_recognised(&repo, &daemon);

    // Also where it must be known as ours before it is signalled, by the new one as well.
    daemon.signal(Signal::SIGSTOP);
    fs::remove_file(repo.pidfile()).unwrap();
    run(repo.command(&copy).args(["agent", "stop", "--force"])).ok();
    assert_eq!(daemon.wait().code(), Some(0));
}

fn assert_recognised(repo: &TestRepo, daemon: &Daemon) {
    let second = repo.heddle(["agent", "serve"]).fails_with(4);
    assert!(
        second.contains(&format!("by process {} ", daemon.pid())),
        "{second}"
    );
    assert_eq!(status(repo)["pid"], daemon.pid());
}
