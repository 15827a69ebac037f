//! Daemons that clients start, or replace because they are of an older version.

use std::{fs, io::Write, os::unix::net::UnixListener, path::Path, sync::mpsc, thread};

use heddle_agent::{
    grpc_local_impl::proto::local::{
        GetStatusRequest, GetStatusResponse, ShutdownRequest, ShutdownResponse,
        daemon_service_server::{DaemonService, DaemonServiceServer},
    },
    local_daemon::{BoundedLog, LOG_LIMIT, RepositoryLock},
};
use nix::unistd::{Pid, getsid};
use tonic::{Request, Response, Status};
use tracing_subscriber::fmt::MakeWriter;

use super::{block_on, configure, status};
use crate::harness::{DEADLINE, TestRepo};

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
