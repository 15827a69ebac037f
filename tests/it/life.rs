//! The life of the process: one daemon per repository (G1), alive means reachable (G2), it removes
//! only what it made (G6), no call is dropped by a stop (G7); idle exit, reload, auto-start, upgrade.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::MetadataExt,
        net::{UnixListener, UnixStream},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use heddle_agent::{
    grpc_local_impl::proto::{
        local::{
            GetStatusRequest, GetStatusResponse, MethodStatistics, ShutdownRequest,
            ShutdownResponse,
            daemon_service_client::DaemonServiceClient,
            daemon_service_server::{DaemonService, DaemonServiceServer},
        },
        v1::{
            self, hook_service_client::HookServiceClient,
            operation_log_query_service_client::OperationLogQueryServiceClient,
        },
    },
    local_daemon::{
        BoundedLog, LOG_LIMIT, LocalDaemonConfig, RepositoryLock, activation::ListenerSource,
        is_heddle_process, pid_alive, serve,
    },
};
use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getsid},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint, Uri},
};
use tracing_subscriber::fmt::MakeWriter;
use uuid::Uuid;

use crate::harness::{
    DEADLINE, Daemon, HEDDLE, Ran, TestRepo, channel_at, channel_through, eventually, reason, run,
    skip,
};

// ---- G1: one daemon per repository ----

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

/// A copy of the binary, made by another process: a descriptor open for writing here could be
/// inherited by a child of another test, and the copy then not be run (ETXTBSY).
fn copy_binary(repo: &TestRepo, name: &str) -> PathBuf {
    let copy = repo.around().join(name);
    run(repo.command("cp").arg(HEDDLE).arg(&copy)).ok();
    copy
}

fn serve_by(repo: &TestRepo, binary: &Path) -> Daemon {
    let mut command = repo.command(binary);
    command.args(["agent", "serve"]);
    let daemon = Daemon::spawn(command);
    daemon.wait_for_line("serving");
    daemon
}

// ---- G2: alive means reachable ----

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

// ---- G6: it removes only what it made ----

#[test]
fn g6_own_socket_and_pidfile_are_removed_at_a_stop() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    assert!(repo.socket().exists() && repo.pidfile().exists());
    assert_eq!(daemon.stop().code(), Some(0));
    let left: Vec<_> = fs::read_dir(repo.path(".heddle/sockets"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    // The link for the address leads to wherever the next one listens.
    assert_eq!(left, ["grpc@localhost"]);
}

#[test]
fn g6_what_took_the_place_of_socket_and_pidfile_is_left_in_place() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    // Removed first, so that the filesystem may give the same inodes again.
    for path in [repo.socket(), repo.pidfile()] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody else's").unwrap();
    }
    assert_eq!(daemon.stop().code(), Some(0));
    for path in [repo.socket(), repo.pidfile()] {
        assert_eq!(fs::read_to_string(path).unwrap(), "somebody else's");
    }
}

#[test]
fn g6_another_process_socket_in_our_place_is_left_in_place() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    fs::remove_file(repo.socket()).unwrap();
    let other = UnixListener::bind(repo.socket()).unwrap();
    let made = fs::symlink_metadata(repo.socket()).unwrap().ino();
    daemon.wait_for_line("something else lies there");
    // Nobody can reach it any more, so it leaves (G2).
    assert_eq!(daemon.wait().code(), Some(1));
    assert_eq!(
        fs::symlink_metadata(repo.socket()).unwrap().ino(),
        made,
        "removed or replaced"
    );
    drop(other);
}

#[test]
fn g6_inherited_socket_is_left_in_place() {
    let repo = TestRepo::new();
    let path = repo.around().join("lent.sock");
    let lent = UnixListener::bind(&path).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();

    // A second daemon on the same socket, after the first is gone: what connected meanwhile waits.
    for _ in 0..2 {
        let waiting = UnixStream::connect(&path).unwrap();
        let daemon = InProcess::serve(&repo, lent.try_clone().unwrap());
        block_on(async {
            let mut daemon = DaemonServiceClient::new(channel_at(&path).await.unwrap());
            let told = daemon.get_status(GetStatusRequest::default()).await;
            let listener = told.unwrap().into_inner().listener.unwrap();
            assert_eq!(listener.path, path.to_str().unwrap());
            assert_eq!(listener.origin().as_str_name(), "ORIGIN_INHERITED");
        });
        assert!(!repo.pidfile().exists());
        assert_eq!(fs::read_link(repo.socket()).unwrap(), path);
        daemon.stop();
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        drop(waiting);
    }
    // Still open to clients, for whoever serves it next.
    UnixStream::connect(&path).unwrap();
}

/// A daemon within this process, on a listener that was handed to it.
struct InProcess {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl InProcess {
    fn serve(repo: &TestRepo, listener: UnixListener) -> Self {
        let repository = repo.open();
        let (ready, is_ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut config = LocalDaemonConfig::from_repo(&repository);
        config.listener = ListenerSource::Inherited(listener);
        config.ready = Some(Box::new(move || ready.send(()).unwrap()));
        let thread = thread::spawn(move || {
            block_on(serve(repository, config, async {
                let _ = stopped.await;
            }))
            .unwrap();
        });
        is_ready.recv_timeout(DEADLINE).unwrap();
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

// ---- G7: no call is dropped by a stop ----

#[test]
fn g7_a_stop_ends_streams_with_a_reason_and_waits_for_no_silent_connection() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let repo = TestRepo::new();
        // With this deadline, a stop that something holds up does not end within the test.
        let mut command = repo.command(HEDDLE);
        command.args(["agent", "serve", "--drain-timeout", "1h"]);
        command.env("HEDDLE_LOG", "debug");
        let mut daemon = Daemon::spawn(command);
        daemon.wait_for_line("serving");
        block_on(async {
            let channel = repo.channel().await;
            let mut streams = Vec::new();
            for _ in 0..3 {
                streams.push(operations(channel.clone()).await);
            }
            let silent: Vec<_> = (0..5)
                .map(|_| UnixStream::connect(repo.socket()).unwrap())
                .collect();
            let mut half_open = UnixStream::connect(repo.socket()).unwrap();
            half_open.write_all(b"PRI * HTTP/2.0\r\n").unwrap();
            let mut garbage = UnixStream::connect(repo.socket()).unwrap();
            garbage.write_all(&[0]).unwrap();
            // A whole greeting, and then not a word: no answer to a ping either.
            let mut mute = UnixStream::connect(repo.socket()).unwrap();
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            mute.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
            mute.write_all(&settings).unwrap();
            until(&channel, |now| now.connections >= 8).await;

            daemon.signal(signal);
            for mut stream in streams {
                let end = stream.message().await.unwrap_err();
                assert_eq!(end.code(), Code::Unavailable, "{end:?}");
                assert_eq!(reason(&end), "DRAINING");
            }
            assert_eq!(daemon.wait().code(), Some(0), "{:#?}", daemon.log());
            drop((silent, half_open, garbage, mute));
        });
        daemon.wait_for_line("stopped");
        // Nor for as long as it would have had to greet us.
        let log = daemon.log();
        assert!(
            !log.iter().any(|line| line.contains("said nothing")),
            "{log:#?}"
        );
        assert!(!repo.socket().exists() && !repo.pidfile().exists());
    }
}

#[test]
fn g7_writes_in_flight_at_a_stop_are_answered_or_can_be_retried() {
    const WRITES: usize = 200;
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let keys: Vec<Uuid> = (0..WRITES).map(|_| Uuid::new_v4()).collect();
    let keyed = |n: usize| v1::RegisterHookRequest {
        client_operation_id: keys[n].to_string(),
        ..hook(&format!("hook-{n}"))
    };
    let failed = block_on(async {
        let mut channels = Vec::new();
        for _ in 0..4 {
            channels.push(repo.channel().await);
        }
        let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..WRITES {
            let mut hooks = HookServiceClient::new(channels[n % channels.len()].clone());
            let (request, answered) = (keyed(n), answered.clone());
            tokio::spawn(async move {
                let _ = answered.send((n, hooks.register_hook(request).await));
            });
        }
        drop(answered);
        let mut failed = Vec::new();
        let mut signalled = false;
        while let Some((n, answer)) = answers.recv().await {
            if !signalled {
                signalled = true;
                daemon.signal(Signal::SIGTERM);
            }
            if let Err(status) = answer {
                assert!(may_be_retried(&status), "{status:?}");
                failed.push(n);
            }
        }
        failed
    });
    assert_eq!(daemon.wait().code(), Some(0), "{:#?}", daemon.log());

    let _next = repo.serve();
    let kept = hook_names(&repo);
    for n in 0..WRITES {
        let name = format!("hook-{n}");
        assert!(
            failed.contains(&n) || kept.contains(&name),
            "{name} was acknowledged and is lost"
        );
    }
    block_on(async {
        let mut hooks = HookServiceClient::new(repo.channel().await);
        for n in failed {
            hooks.register_hook(keyed(n)).await.unwrap();
        }
    });
    assert_eq!(hook_names(&repo).len(), WRITES);
}

/// What a client with gRPC's retry policy tries again: `UNAVAILABLE`, or a connection that ended.
fn may_be_retried(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

#[test]
fn g7_who_has_connected_before_the_stop_is_served() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    // Asleep, it accepts nobody: they queue at the socket, and the signal arrives with them.
    daemon.signal(Signal::SIGSTOP);
    block_on(async {
        let reads = CancellationToken::new();
        reads.cancel();
        let (asked, mut has_asked) = tokio::sync::mpsc::channel(40);
        let mut calls = Vec::new();
        for n in 0..40 {
            let relay = Relay {
                path: repo.socket(),
                reads: reads.clone(),
                asked: Some(asked.clone()),
            };
            let mut hooks = HookServiceClient::new(relay.channel().await);
            calls.push(tokio::spawn(async move {
                hooks.register_hook(hook(&format!("hook-{n}"))).await
            }));
        }
        for _ in 0..40 {
            has_asked.recv().await.unwrap();
        }
        daemon.signal(Signal::SIGTERM);
        daemon.signal(Signal::SIGCONT);
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
    assert_eq!(daemon.wait().code(), Some(0), "{:#?}", daemon.log());
    assert_eq!(hook_names(&repo).len(), 40);
}

#[test]
fn g7_an_answer_that_its_client_reads_slowly_is_finished() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve_with(&["--drain-timeout", "1h"]);
    block_on(async {
        let other = repo.channel().await;
        for n in 0..20 {
            let mut hooks = HookServiceClient::new(other.clone());
            hooks
                .register_hook(hook(&format!("hook-{n}")))
                .await
                .unwrap();
        }
        // Of the answer, the daemon can send 256 bytes until the client begins to read.
        let reads = CancellationToken::new();
        let relay = Relay {
            path: repo.socket(),
            reads: reads.clone(),
            asked: None,
        };
        let narrow = relay.channel().await;
        let call = tokio::spawn(async move {
            OperationLogQueryServiceClient::new(narrow)
                .query_operations(v1::QueryOperationsRequest::default())
                .await
        });
        until(&other, |now| {
            let called = |method: &MethodStatistics| method.method.ends_with("/QueryOperations");
            now.methods.iter().any(called)
        })
        .await;
        drop(other);

        // Connected later, it is closed no sooner than one that has been answered.
        let silent = UnixStream::connect(repo.socket()).unwrap();
        daemon.signal(Signal::SIGTERM);
        wait_for_end(silent);
        reads.cancel();
        let answer = call.await.unwrap().unwrap().into_inner();
        assert_eq!(answer.hits.len(), 20);
    });
    assert_eq!(daemon.wait().code(), Some(0));
}

/// Stands between a client and the daemon.
#[derive(Clone)]
struct Relay {
    path: PathBuf,
    /// Nothing of an answer is read before this is cancelled.
    reads: CancellationToken,
    /// Told when the name of a hook has been handed to the daemon's socket.
    asked: Option<tokio::sync::mpsc::Sender<()>>,
}

impl Relay {
    /// A channel whose client gives an answer room for 256 bytes at first.
    async fn channel(self) -> Channel {
        let connector = tower::service_fn(move |_: Uri| {
            let relay = self.clone();
            async move {
                let daemon = tokio::net::UnixStream::connect(&relay.path).await?;
                let (client, near) = tokio::net::UnixStream::pair()?;
                tokio::spawn(relay.run(near, daemon));
                Ok::<_, std::io::Error>(TokioIo::new(client))
            }
        });
        Endpoint::from_static("http://localhost")
            .initial_stream_window_size(256)
            .connect_with_connector(connector)
            .await
            .unwrap()
    }

    async fn run(self, client: tokio::net::UnixStream, daemon: tokio::net::UnixStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_daemon, mut to_daemon) = daemon.into_split();
        let questions = async {
            let mut seen = Vec::new();
            while from_client.read_buf(&mut seen).await? > 0 {
                to_daemon.write_all(&seen).await?;
                if seen.windows(5).any(|text| text == b"hook-")
                    && let Some(asked) = &self.asked
                {
                    asked.send(()).await.map_err(std::io::Error::other)?;
                }
                seen.clear();
            }
            Ok::<_, std::io::Error>(())
        };
        let answers = async {
            self.reads.cancelled().await;
            tokio::io::copy(&mut from_daemon, &mut to_client).await
        };
        let _ = tokio::join!(questions, answers);
    }
}

/// Waits until the daemon closes a connection.
fn wait_for_end(mut connection: UnixStream) {
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = connection.read_to_end(&mut Vec::new());
}

#[test]
fn g7_a_client_that_never_reads_is_cut_at_the_drain_deadline() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve_with(&["--drain-timeout", "300ms"]);
    block_on(async {
        let _stuck = stuck_stream(&repo).await;
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait().code(), Some(0));
    });
    daemon.wait_for_line("the drain deadline cut off calls");
    assert!(!repo.socket().exists() && !repo.pidfile().exists());
}

#[test]
fn g7_a_second_signal_ends_at_once() {
    for (second, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let repo = TestRepo::new();
        let mut daemon = repo.serve_with(&["--drain-timeout", "1h"]);
        block_on(async {
            let _stuck = stuck_stream(&repo).await;
            daemon.signal(Signal::SIGTERM);
            daemon.wait_for_line("asked to stop");
            daemon.signal(second);
            let ended = daemon.wait();
            assert_eq!(ended.code(), Some(code), "{ended:?}");
            assert_eq!(ended.signal(), None);
        });
        // Nothing is in the way of the next one.
        repo.serve();
    }
}

#[test]
fn g7_stop_waits_until_the_process_is_gone() {
    let repo = TestRepo::new();
    for _ in 0..5 {
        repo.heddle(["hook", "list"]).ok();
        let pid = repo.holder().unwrap();
        repo.heddle(["agent", "stop"]).ok();
        assert!(is_gone(pid) && repo.holder().is_none());
    }
    let stopped = repo.heddle(["agent", "stop"]).ok();
    assert!(stopped.contains("not running"), "{stopped}");
}

/// A stream with more to deliver than its client takes.
async fn stuck_stream(repo: &TestRepo) -> (Channel, tonic::Streaming<v1::OperationHit>) {
    let channel = repo.channel().await;
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..250 {
        let mut hooks = HookServiceClient::new(channel.clone());
        let name = format!("{n}-{}", "x".repeat(100));
        writes.spawn(async move { hooks.register_hook(hook(&name)).await });
    }
    for written in writes.join_all().await {
        written.unwrap();
    }
    let narrow = channel_through(repo.socket(), |endpoint| {
        endpoint.initial_stream_window_size(256)
    });
    let narrow = narrow.await.unwrap();
    let mut stream = operations_after(narrow.clone(), 0).await;
    // Once it has begun, the rest waits for room that the client does not give.
    stream.message().await.unwrap().unwrap();
    (narrow, stream)
}

/// Whether the process has ended; its parent, which is not ours, may not have reaped it yet.
fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !pid_alive(pid) || stat.contains(") Z ")
}

// ---- idle ----

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

// ---- reload ----

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

// ---- auto-start ----

#[test]
fn an_auto_started_daemon_has_a_session_and_a_log_of_its_own_and_leaves_when_idle() {
    let repo = TestRepo::new();
    let output = repo.heddle(["hook", "list"]);
    assert_eq!(output.stderr, "");
    output.ok();
    let pid = Pid::from_raw(repo.holder().unwrap());
    assert_eq!(getsid(Some(pid)).unwrap(), pid);
    assert_ne!(getsid(Some(pid)).unwrap(), getsid(None).unwrap());

    let log = fs::read_to_string(repo.path(".heddle/agent.log")).unwrap();
    assert!(log.contains("serving"), "{log}");
    let status = status(&repo);
    let stays_until = status["idle_deadline_secs"].as_i64().unwrap();
    assert!(stays_until > status["started_at_secs"].as_i64().unwrap());
    // Nothing of whoever started it is kept open.
    for fd in 0..3 {
        let open = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        assert_eq!(open, Path::new("/dev/null"), "descriptor {fd}");
    }
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
        Path::new("/")
    );
}

#[test]
fn why_a_daemon_does_not_start_is_told_on_the_terminal() {
    let repo = TestRepo::new();
    repo.heddle(["init"]).ok();
    configure(&repo, "idle_timeout = 5 parsecs");
    let why = repo.heddle(["hook", "list"]).fails_with(1);
    let file = repo.store_dir().join("config.toml");
    assert!(why.contains(file.to_str().unwrap()), "{why}");
    assert!(why.contains("line 2"), "{why}");
    let log = fs::read_to_string(repo.path(".heddle/agent.log")).unwrap();
    assert!(log.contains("config.toml"), "{log}");

    configure(&repo, "idle_timeout = \"5m\"");
    repo.heddle(["hook", "list"]).ok();
}

#[test]
fn g8_the_log_of_an_auto_started_daemon_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.log");
    let log = BoundedLog::open(&path).unwrap();
    let line = [b"x".repeat(1_023), b"\n".to_vec()].concat();
    for _ in 0..LOG_LIMIT / 1_024 * 3 + 10 {
        log.make_writer().write_all(&line).unwrap();
    }
    log.make_writer().write_all(b"the last\n").unwrap();

    let mut files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["agent.log", "agent.log.1"]);
    for name in files {
        assert!(fs::metadata(folder.path().join(name)).unwrap().len() <= LOG_LIMIT);
    }
    assert!(fs::read_to_string(&path).unwrap().ends_with("the last\n"));
}

// ---- an older daemon ----

#[test]
fn an_idle_older_daemon_is_replaced() {
    let repo = TestRepo::new();
    let older = Older::serve(&repo, true);
    let output = repo.heddle(["hook", "list"]);
    assert_eq!(output.stderr, "");
    output.ok();
    assert!(older.asked.recv_timeout(DEADLINE).unwrap().if_idle);
    assert_eq!(status(&repo)["version"], env!("CARGO_PKG_VERSION"));
    older.thread.join().unwrap();
}

#[test]
fn a_busy_older_daemon_goes_on_and_the_client_says_so() {
    let repo = TestRepo::new();
    let older = Older::serve(&repo, false);
    let output = repo.heddle(["agent", "address", "--start"]);
    assert!(older.asked.recv_timeout(DEADLINE).unwrap().if_idle);
    assert!(
        output.stderr.contains("heddle 0.0.1") && output.stderr.contains("agent stop"),
        "{output:?}"
    );
    output.ok();
    assert_eq!(status(&repo)["version"], "0.0.1");
    assert_eq!(repo.holder(), Some(std::process::id() as i32));
    // A stop is not a question.
    repo.heddle(["agent", "stop"]).ok();
    assert!(!older.asked.recv_timeout(DEADLINE).unwrap().if_idle);
    older.thread.join().unwrap();
}

/// A daemon of an older version, within this process: it holds the lock and tells its age.
struct Older {
    asked: mpsc::Receiver<ShutdownRequest>,
    thread: thread::JoinHandle<()>,
}

impl Older {
    fn serve(repo: &TestRepo, idle: bool) -> Self {
        repo.heddle(["init"]).ok();
        let lock = RepositoryLock::try_take(&repo.store_dir())
            .unwrap()
            .unwrap();
        let socket = UnixListener::bind(repo.socket()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let path = repo.socket();
        let (tell, asked) = mpsc::channel();
        let (leave, leaves) = tokio::sync::mpsc::channel::<()>(1);
        let git_dir = repo.path(".git").to_str().unwrap().to_owned();
        let service = OlderService {
            idle,
            git_dir,
            tell,
            leave,
        };
        let thread = thread::spawn(move || {
            block_on(answer(service, socket, leaves));
            // As a daemon does: the path first, the lock last.
            fs::remove_file(path).unwrap();
            drop(lock);
        });
        Self { asked, thread }
    }
}

async fn answer(
    service: OlderService,
    socket: UnixListener,
    mut leaves: tokio::sync::mpsc::Receiver<()>,
) {
    let socket = tokio::net::UnixListener::from_std(socket).unwrap();
    let incoming = futures_util::stream::unfold(socket, |socket| async {
        let accepted = socket.accept().await.map(|(stream, _)| stream);
        Some((accepted, socket))
    });
    tonic::transport::Server::builder()
        .add_service(DaemonServiceServer::new(service))
        .serve_with_incoming_shutdown(incoming, async move {
            leaves.recv().await;
        })
        .await
        .unwrap();
}

struct OlderService {
    idle: bool,
    git_dir: String,
    tell: mpsc::Sender<ShutdownRequest>,
    leave: tokio::sync::mpsc::Sender<()>,
}

#[tonic::async_trait]
impl DaemonService for OlderService {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(GetStatusResponse {
            version: "0.0.1".to_owned(),
            git_dir: self.git_dir.clone(),
            ..GetStatusResponse::default()
        }))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        let request = request.into_inner();
        let accepted = self.idle || !request.if_idle;
        self.tell.send(request).unwrap();
        if accepted {
            let _ = self.leave.try_send(());
        }
        Ok(Response::new(ShutdownResponse { accepted, pid: 0 }))
    }
}

// ---- what these tests share ----

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    output
}

fn hook(name: &str) -> v1::RegisterHookRequest {
    v1::RegisterHookRequest {
        name: name.to_owned(),
        command: "true".to_owned(),
        events: vec!["pre_capture".to_owned()],
        ..v1::RegisterHookRequest::default()
    }
}

fn hook_names(repo: &TestRepo) -> Vec<String> {
    let hooks = repo.heddle(["hook", "list", "--output", "json"]).json();
    let hooks = hooks["hooks"].as_array().unwrap();
    hooks
        .iter()
        .map(|hook| hook["name"].as_str().unwrap().to_owned())
        .collect()
}

/// What `agent status` tells of a daemon that serves.
#[track_caller]
fn status(repo: &TestRepo) -> serde_json::Value {
    let status: Ran = repo.heddle(["agent", "status", "--output", "json"]);
    let status = status.json();
    assert_eq!(status["state"], "serving");
    status
}

fn configure(repo: &TestRepo, agent: &str) {
    let text = format!("[agent]\n{agent}\n");
    fs::write(repo.store_dir().join("config.toml"), text).unwrap();
}

async fn look(channel: &Channel) -> GetStatusResponse {
    DaemonServiceClient::new(channel.clone())
        .get_status(GetStatusRequest::default())
        .await
        .unwrap()
        .into_inner()
}

/// Looks at the daemon until it is as wanted: of connections and streams, no event tells.
async fn until(channel: &Channel, wanted: impl Fn(&GetStatusResponse) -> bool) {
    let found = async {
        while !wanted(&look(channel).await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, found).await.unwrap();
}

/// The operations from now on.
async fn operations(channel: Channel) -> tonic::Streaming<v1::OperationHit> {
    let now = look(&channel).await.store.unwrap().operations;
    operations_after(channel, now).await
}

async fn operations_after(channel: Channel, after_seq: u64) -> tonic::Streaming<v1::OperationHit> {
    let request = v1::StreamOperationsRequest {
        after_seq,
        ..v1::StreamOperationsRequest::default()
    };
    OperationLogQueryServiceClient::new(channel)
        .stream_operations(request)
        .await
        .unwrap()
        .into_inner()
}

/// A process of ours that nothing under test may touch.
struct Bystander(Child);

impl Bystander {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn assert_alive(&mut self) {
        assert!(
            self.0.try_wait().unwrap().is_none(),
            "somebody ended the bystander"
        );
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}
