//! A daemon removes only what it made (G6).

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, symlink},
        net::{UnixListener, UnixStream},
    },
    sync::mpsc,
    thread,
};

use heddle_agent::{
    grpc_local_impl::proto::local::{GetStatusRequest, daemon_service_client::DaemonServiceClient},
    local_daemon::{LocalDaemonConfig, activation::ListenerSource, serve},
};
use tokio::sync::oneshot;

use super::block_on;
use crate::harness::{DEADLINE, TestRepo, channel_at};

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
fn g6_links_in_place_of_log_and_pidfile_lead_nowhere() {
    let repo = TestRepo::new();
    repo.heddle(["init"]).ok();
    let (log, victim) = (repo.path(".heddle/agent.log"), repo.around().join("victim"));
    fs::write(&victim, "somebody else's").unwrap();
    let aside = repo.pidfile().with_extension("pid.new");
    for link in [&log, &repo.pidfile(), &aside] {
        symlink(&victim, link).unwrap();
    }
    let said = repo.heddle(["hook", "list"]).fails_with(1);
    assert!(said.contains("open .heddle/agent.log"), "{said}");

    // A daemon that was told to write there says so where it can, and serves.
    let daemon = repo.serve_with(&["--log", "file"]);
    daemon.wait_for_line("open .heddle/agent.log");
    assert!(fs::symlink_metadata(repo.pidfile()).unwrap().is_file());
    drop(daemon);
    assert!(log.is_symlink());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "somebody else's");

    fs::remove_file(&log).unwrap();
    repo.heddle(["hook", "list"]).ok();
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
