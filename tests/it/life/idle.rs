//! Leaving when idle, and the settings that say when.

use std::{os::unix::net::UnixStream, thread, time::Duration};

use heddle_agent::grpc_local_impl::proto::v1::{self, hook_service_client::HookServiceClient};
use nix::sys::signal::Signal;

use super::{block_on, configure, look, operations, status, stuck_stream, until};
use crate::harness::{TestRepo, channel_at, eventually};

#[test]
fn an_unused_daemon_leaves_by_itself_but_not_while_a_stream_is_open() {
    let (repo, twin) = (TestRepo::new(), TestRepo::new());
    let args = ["--idle-timeout", "200ms"];
    let mut daemon = repo.serve();
    block_on(async {
        let mut events = operations(repo.channel().await).await;
        configure(&repo, "idle_timeout = \"200ms\"");
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for_line("read config.toml again");
        // The twin is the clock: it has the same timeout and no stream.
        for _ in 0..3 {
            let mut unused = twin.serve_with(&args);
            assert_eq!(unused.wait().code(), Some(0));
            unused.wait_for_line("idle, leaving");
            assert!(!twin.socket().exists() && !twin.pidfile().exists());
        }
        assert!(daemon.ended().is_none());
        repo.heddle(["hook", "add", "lint", "true", "--event", "pre_capture"])
            .ok();
        assert_eq!(
            events.message().await.unwrap().unwrap().verb,
            "hook_register"
        );
    });
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_connection_that_has_yet_to_call_keeps_the_daemon() {
    let (repo, twin) = (TestRepo::new(), TestRepo::new());
    let args = ["--idle-timeout", "100ms"];
    let mut daemon = repo.serve();
    let newcomer = UnixStream::connect(repo.socket()).unwrap();
    block_on(async {
        let channel = repo.channel().await;
        until(&channel, |now| now.connections == 2).await;
    });
    configure(&repo, "idle_timeout = \"100ms\"");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("read config.toml again");
    for _ in 0..3 {
        assert_eq!(twin.serve_with(&args).wait().code(), Some(0));
    }
    let log = daemon.log();
    assert!(!log.iter().any(|line| line.contains("idle")), "{log:#?}");
    drop(newcomer);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_client_that_connects_as_the_daemon_leaves_is_served() {
    let repo = TestRepo::new();
    for round in 0..100u64 {
        let mut daemon = repo.serve_with(&["--idle-timeout", "10ms"]);
        let served = block_on(async {
            let mut served = 0;
            loop {
                // Connected means served; where nobody listens any more, another is started.
                let Ok(channel) = channel_at(repo.socket()).await else {
                    return served;
                };
                HookServiceClient::new(channel)
                    .list_hooks(v1::ListHooksRequest::default())
                    .await
                    .unwrap_or_else(|e| panic!("round {round}: {e:?}: {:#?}", daemon.log()));
                served += 1;
                // To come back about when it leaves, a little differently each time.
                let about = Duration::from_micros(9_000 + round * 30);
                tokio::time::sleep(about).await;
            }
        });
        assert_eq!(daemon.wait().code(), Some(0), "after {served} calls");
    }
}

#[test]
fn clients_that_start_what_left_are_never_refused() {
    let repo = TestRepo::new();
    repo.heddle(["init"]).ok();
    configure(&repo, "idle_timeout = \"200ms\"");
    for round in 0..60u64 {
        repo.heddle(["hook", "list"]).ok();
        // To come back about when it leaves, a little differently each time.
        thread::sleep(Duration::from_millis(170 + round));
    }
    eventually("the last one leaves", || {
        repo.holder().is_none().then_some(())
    });
    assert!(!repo.socket().exists());
}

#[test]
fn sighup_reads_the_settings_again_and_a_broken_file_changes_nothing() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    block_on(async {
        let channel = repo.channel().await;
        assert_eq!(look(&channel).await.idle_deadline, None);

        configure(&repo, "idle_timeout = \"1h\"\ndrain_timeout = \"300ms\"");
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for_line("read config.toml again");
        until(&channel, |now| now.idle_deadline.is_some()).await;

        configure(&repo, "idle_timeout = 5 parsecs");
        daemon.signal(Signal::SIGHUP);
        let line = daemon.wait_for_line("the old settings stay");
        assert!(
            line.contains(repo.store_dir().to_str().unwrap()),
            "it does not say which file: {line}"
        );
        assert!(look(&channel).await.idle_deadline.is_some());

        let _stuck = stuck_stream(&repo).await;
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait().code(), Some(0));
    });
    daemon.wait_for_line("the drain deadline cut off calls");
}

#[test]
fn a_setting_on_the_command_line_wins_over_the_file() {
    let repo = TestRepo::new();
    repo.heddle(["init"]).ok();
    configure(&repo, "idle_timeout = \"1h\"");
    let _daemon = repo.serve_with(&["--idle-timeout", "never"]);
    assert!(status(&repo)["idle_deadline_secs"].is_null());
}
