//! A socket that is handed over: served and left in place, taken over from a daemon that bound for
//! itself, or refused with words by which the unit can be mended.

use std::{
    fs::File,
    net::{TcpListener, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::{
            fs::MetadataExt,
            net::{UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::{
        code,
        proto::local::{
            GetStatusRequest, daemon_service_client::DaemonServiceClient, listener::Origin,
        },
    },
};
use hyper_util::rt::TokioIo;
use nix::sys::{
    signal::Signal,
    socket::{AddressFamily, SockFlag, SockType, socket},
};
use tonic::{Status, transport::Endpoint};

use crate::{
    harness::{DEADLINE, Daemon, HEDDLE, TestRepo, run},
    rpc::{assert_refused, status},
};

const ONE: &str = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" agent serve 3<&0 </dev/null";

/// A socket such as a service manager holds, and its path.
fn lend(repo: &TestRepo, name: &str) -> (UnixListener, PathBuf) {
    let path = repo.around().join(name);
    (UnixListener::bind(&path).unwrap(), path)
}

/// `heddle agent serve` as a service manager starts it: `given` is its descriptor 3.
fn activated(repo: &TestRepo, script: &str, given: impl Into<OwnedFd>) -> Command {
    let mut command = repo.command("sh");
    command
        .args(["-c", script, HEDDLE])
        .stdin(Stdio::from(given.into()));
    command
}

fn activate(repo: &TestRepo, socket: &UnixListener) -> Daemon {
    Daemon::spawn(activated(repo, ONE, socket.try_clone().unwrap()))
}

/// Connects, which queues, and asks; answers what the daemon refuses with.
fn ask_queued(path: &Path) -> tokio::task::JoinHandle<Status> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut stream = Some(tokio::net::UnixStream::from_std(stream).unwrap());
    tokio::spawn(async move {
        let once = tower::service_fn(move |_| {
            let stream = stream.take().map(TokioIo::new);
            std::future::ready(stream.ok_or_else(|| std::io::Error::other("asked twice")))
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(once)
            .await
            .unwrap();
        let mut client = DaemonServiceClient::new(channel);
        let answer = client.get_status(GetStatusRequest::default()).await;
        answer.unwrap_err()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_an_inherited_socket_is_served_and_left_in_place() {
    let repo = TestRepo::new();
    let (socket, path) = lend(&repo, "lent.sock");
    let before = path.metadata().unwrap().ino();

    let mut daemon = activate(&repo, &socket);
    daemon.wait_for_line("serving");
    let listener = status(&repo.channel().await).await.listener.unwrap();
    assert_eq!(listener.origin(), Origin::Inherited);
    assert_eq!(repo.holder(), Some(daemon.pid()));
    assert!(!repo.pidfile().exists());

    assert!(daemon.stop().success());
    assert_eq!(repo.holder(), None);
    assert_eq!(path.metadata().unwrap().ino(), before);
    // Who comes between two daemons waits for the second.
    let client = UnixStream::connect(&path).unwrap();
    let next = activate(&repo, &socket);
    next.wait_for_line("serving");
    repo.heddle(["hook", "list"]).ok();
    assert_eq!(repo.holder(), Some(next.pid()));
    drop(client);
}

#[test]
fn what_is_no_listening_unix_stream_socket_is_refused_with_a_remedy() {
    let repo = TestRepo::new();
    let (listener, _) = lend(&repo, "lent.sock");
    let seqpacket = || {
        let flags = SockFlag::empty();
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap()
    };
    let silent = || {
        let flags = SockFlag::empty();
        socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap()
    };
    let datagram = UnixDatagram::bind(repo.around().join("datagram.sock")).unwrap();
    let unit = "give heddle-agent@.socket one ListenStream= with an absolute path, and Accept=no";
    let two = "export LISTEN_FDS=2 LISTEN_PID=$$; exec \"$0\" agent serve 3<&0 4<&0 </dev/null";
    let other = "export LISTEN_FDS=1 LISTEN_PID=1; exec \"$0\" agent serve 3<&0 </dev/null";
    let none = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" agent serve 3<&- </dev/null";
    let lent = || OwnedFd::from(listener.try_clone().unwrap());
    let cases: Vec<(&str, OwnedFd, &str, &str)> = vec![
        (
            ONE,
            UnixStream::pair().unwrap().0.into(),
            "one accepted connection (the unit has Accept=yes)",
            unit,
        ),
        (
            ONE,
            TcpListener::bind("127.0.0.1:0").unwrap().into(),
            "a TCP socket",
            unit,
        ),
        (
            ONE,
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            "a UDP socket",
            unit,
        ),
        (two, lent(), "2 sockets", unit),
        (ONE, datagram.into(), "a datagram socket", unit),
        (ONE, silent(), "a stream socket that does not listen", unit),
        (
            ONE,
            seqpacket(),
            "a descriptor that is no stream or datagram socket",
            unit,
        ),
        (
            ONE,
            File::open(repo.path("README")).unwrap().into(),
            "a descriptor that is no stream or datagram socket",
            unit,
        ),
        (
            none,
            lent(),
            "a descriptor that is no stream or datagram socket",
            unit,
        ),
        (
            other,
            lent(),
            "meant its sockets for process 1, and this is process",
            "start heddle by ExecStart= itself",
        ),
    ];
    for (script, given, what, remedy) in cases {
        let mut daemon = Daemon::spawn(activated(&repo, script, given));
        let said = daemon.wait_for_line("systemd");
        assert_eq!(daemon.wait().code(), Some(1));
        assert!(
            said.contains(what) && said.contains(remedy),
            "{what}: {said}"
        );
        assert!(!repo.socket().exists() && !repo.pidfile().exists());
    }
    assert!(!repo.store_dir().join("lock").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn a_daemon_that_a_client_starts_has_nothing_of_the_clients_service_manager() {
    let repo = TestRepo::new();
    let (socket, _) = lend(&repo, "lent.sock");
    let script = "export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=a LISTEN_PIDFDID=1 \
        NOTIFY_SOCKET=/nowhere WATCHDOG_USEC=1000000 WATCHDOG_PID=$$; \
        exec \"$0\" hook list 3<&0 </dev/null";
    run(&mut activated(&repo, script, socket)).ok();
    let daemon = repo.holder().unwrap();
    let environment = std::fs::read(format!("/proc/{daemon}/environ")).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    for name in ["LISTEN_", "NOTIFY_", "WATCHDOG_"] {
        assert!(!environment.contains(name), "{environment:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_bound_for_itself_makes_room_for_a_service_managers() {
    let repo = TestRepo::new();
    let mut direct = repo.serve();
    repo.heddle(["hook", "add", "lint", "true", "--event", "pre_capture"])
        .ok();
    let (socket, _) = lend(&repo, "lent.sock");
    let lent = activate(&repo, &socket);
    lent.wait_for_line("serving");
    assert!(direct.wait().success());
    assert_eq!(repo.holder(), Some(lent.pid()));
    let listener = status(&repo.channel().await).await.listener.unwrap();
    assert_eq!(listener.origin(), Origin::Inherited);
    let hooks = repo.heddle(["hook", "list", "--output", "json"]).json();
    assert_eq!(hooks["hooks"][0]["name"], "lint");
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_a_second_activated_daemon_tells_its_queue_and_leaves() {
    let repo = TestRepo::new();
    let (one, _) = lend(&repo, "one.sock");
    let first = activate(&repo, &one);
    first.wait_for_line("serving");
    let (two, path) = lend(&repo, "two.sock");
    let asked = ask_queued(&path);
    let mut second = activate(&repo, &two);

    let refused = asked.await.unwrap();
    let reason = Reason::ServedElsewhere;
    assert_refused(&refused, code(reason), reason);
    assert_eq!(code(reason), tonic::Code::Unavailable);
    assert!(refused.message().contains(&first.pid().to_string()));
    assert_eq!(second.wait().code(), Some(4));
    assert_eq!(repo.holder(), Some(first.pid()));
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_behind_a_silent_daemon_an_activated_one_tells_its_queue_and_leaves() {
    let repo = TestRepo::new();
    let silent = repo.serve();
    silent.signal(Signal::SIGSTOP);
    let (socket, path) = lend(&repo, "lent.sock");
    let asked = ask_queued(&path);
    let mut lent = activate(&repo, &socket);

    let refused = asked.await.unwrap();
    let reason = Reason::ServedElsewhere;
    assert_refused(&refused, code(reason), reason);
    assert!(refused.message().contains("agent stop --force"));
    assert_eq!(lent.wait().code(), Some(5));
    assert_eq!(repo.holder(), Some(silent.pid()));
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_where_the_repository_cannot_be_opened_the_queue_is_told_why() {
    let repo = TestRepo::new();
    let (socket, path) = lend(&repo, "lent.sock");
    let asked = ask_queued(&path);
    std::fs::rename(repo.path(".git"), repo.around().join("git")).unwrap();
    let mut lent = activate(&repo, &socket);

    let refused = tokio::time::timeout(DEADLINE, asked).await;
    let refused = refused.expect("told nothing").unwrap();
    let reason = Reason::RepositoryRefused;
    assert_refused(&refused, code(reason), reason);
    assert!(refused.message().contains(repo.root().to_str().unwrap()));
    assert_eq!(lent.wait().code(), Some(1));
    assert!(path.exists() && !repo.path(".heddle").exists());
    std::fs::rename(repo.around().join("git"), repo.path(".git")).unwrap();
}
