//! No call is dropped by a stop (G7).

use std::{
    fs,
    io::{Read, Write},
    os::unix::{net::UnixStream, process::ExitStatusExt},
    path::PathBuf,
};

use heddle_agent::{
    grpc_local_impl::proto::{
        local::MethodStatistics,
        v1::{
            self, hook_service_client::HookServiceClient,
            operation_log_query_service_client::OperationLogQueryServiceClient,
        },
    },
    local_daemon::pid_alive,
};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};
use uuid::Uuid;

use super::{block_on, hook, hook_names, operations, stuck_stream, until};
use crate::harness::{DEADLINE, Daemon, HEDDLE, TestRepo, reason};

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

/// Whether the process has ended; its parent, which is not ours, may not have reaped it yet.
fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !pid_alive(pid) || stat.contains(") Z ")
}
