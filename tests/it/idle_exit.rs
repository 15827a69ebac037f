//! Idle exits without a lost connection: a client that connects at any moment around a daemon's
//! leaving is neither refused for good, nor cut off, nor answered twice.

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use nix::poll::{PollFd, PollFlags, poll};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};
use uuid::Uuid;

use crate::{
    harness::{Daemon, HEDDLE, TestRepo},
    rpc::{self, keyed},
};

/// Exits in each mode, and what they may take: a debug build on a slow machine makes fewer, and
/// says how many. `HEDDLE_TEST_EXITS` asks for another number, without a bound.
const EXITS: usize = 1_000;
const BOUND: Duration = Duration::from_secs(25);
/// Repositories at once.
const REPOSITORIES: usize = 4;

struct Goal {
    exits: usize,
    until: Option<Instant>,
}

impl Goal {
    fn new() -> Self {
        let asked = std::env::var("HEDDLE_TEST_EXITS").ok();
        let asked: Option<usize> = asked.map(|count| count.parse().unwrap());
        Self {
            exits: asked.unwrap_or(EXITS) / REPOSITORIES,
            until: asked.is_none().then(|| Instant::now() + BOUND),
        }
    }

    fn is_reached(&self, exits: usize) -> bool {
        exits >= self.exits || self.until.is_some_and(|at| Instant::now() >= at)
    }
}

/// A channel over this one connection, and never another.
async fn over(stream: tokio::net::UnixStream) -> Result<Channel, tonic::transport::Error> {
    let mut stream = Some(stream);
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let stream = stream.take().map(TokioIo::new);
            std::future::ready(stream.ok_or_else(|| std::io::Error::other("it was cut off")))
        }))
        .await
}

/// One keyed write over a connection that was made.
async fn write(stream: tokio::net::UnixStream, name: &str, key: &str) -> Result<(), Status> {
    let channel = over(stream)
        .await
        .map_err(|e| Status::unknown(format!("{e:?}")))?;
    let request = keyed(name, key);
    let answer = rpc::hooks(&channel).register_hook(request).await?;
    assert_eq!(answer.into_inner().name, name);
    Ok(())
}

/// Pauses that sweep over the moment at which the daemon leaves.
fn sweep(n: usize) -> Duration {
    Duration::from_micros((n as u64 * 137) % 6_000)
}

/// Few names: a repository has room for 256 hooks. The keys tell the writes apart.
fn name(n: usize) -> String {
    format!("h{}", n % 200)
}

/// Every write is there, once.
fn assert_once(repo: &TestRepo, writes: usize) {
    let database = repo.store_dir().join("heddle.db");
    let database = rusqlite::Connection::open(database).unwrap();
    let count = |sql: &str| -> usize { database.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(count("SELECT count(*) FROM operation_dedup"), writes);
    assert_eq!(count("SELECT count(*) FROM operation"), writes);
}

fn in_parallel(exits_and_writes: impl Fn(&TestRepo, &Goal) -> (usize, usize) + Sync) {
    let goal = Goal::new();
    let (exits, writes) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..REPOSITORIES {
            scope.spawn(|| {
                let repo = TestRepo::new();
                let (here, written) = exits_and_writes(&repo, &goal);
                assert_once(&repo, written);
                exits.fetch_add(here, Ordering::Relaxed);
                writes.fetch_add(written, Ordering::Relaxed);
            });
        }
    });
    let (exits, writes) = (exits.into_inner(), writes.into_inner());
    println!("{exits} idle exits, {writes} writes");
    assert!(exits > 0);
}

/// What a service manager does: holds the socket, and starts a daemon when somebody knocks and none
/// is there.
struct Manager {
    listener: UnixListener,
    child: Option<Child>,
    exits: usize,
}

impl Manager {
    fn run(&mut self, repo: &TestRepo, done: &AtomicBool) {
        while !done.load(Ordering::Relaxed) {
            let mut knocks = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            if poll(&mut knocks, 50_u8).unwrap() == 0 {
                continue;
            }
            let socket = OwnedFd::from(self.listener.try_clone().unwrap());
            let script = "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" agent serve --idle-timeout 1ms 3<&0 </dev/null";
            let mut shell = repo.command("sh");
            shell.args(["-c", script, HEDDLE]).stdin(socket);
            shell.stdout(Stdio::null()).stderr(Stdio::piped());
            let child = self.child.insert(shell.spawn().unwrap());
            let status = child.wait().unwrap();
            if !status.success() {
                let child = self.child.take().unwrap();
                let said = child.wait_with_output().unwrap().stderr;
                panic!("{status}: {}", String::from_utf8_lossy(&said));
            }
            self.exits += 1;
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn g7_idle_exits_with_an_inherited_socket_lose_no_connection() {
    in_parallel(|repo, goal| {
        let path = repo.around().join("run/lent.sock");
        let mut manager = Manager {
            listener: UnixListener::bind(&path).unwrap(),
            child: None,
            exits: 0,
        };
        let (done, written) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let client = scope.spawn(|| {
                let runtime = single_thread();
                let began = Instant::now();
                runtime.block_on(async {
                    // As many writes as exits, about: one daemon seldom answers two.
                    while !goal.is_reached(written.load(Ordering::Relaxed)) {
                        let n = written.load(Ordering::Relaxed);
                        let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
                        let key = Uuid::new_v4().to_string();
                        let wrote = write(stream, &name(n), &key).await;
                        wrote.unwrap_or_else(|status| {
                            panic!("write {n} after {:?}: {status:?}", began.elapsed())
                        });
                        written.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(sweep(n)).await;
                    }
                });
            });
            let finished = Finished(&done);
            scope.spawn(|| manager.run(repo, &done));
            let ended = client.join();
            drop(finished);
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic);
            }
        });
        (manager.exits, written.into_inner())
    });
}

/// Says that it is over when dropped, however it ended.
struct Finished<'a>(&'a AtomicBool);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn single_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn g7_idle_exits_with_an_own_socket_lose_no_connection() {
    in_parallel(|repo, goal| {
        let socket = repo.socket();
        let (mut exits, mut written) = (0, 0);
        let mut daemon: Option<Daemon> = None;
        let runtime = single_thread();
        while !goal.is_reached(exits) {
            let connected = runtime.block_on(tokio::net::UnixStream::connect(&socket));
            let Ok(stream) = connected else {
                // Nobody there: it has left, or is about to. Then another is started.
                if let Some(mut left) = daemon.take() {
                    let status = left.wait();
                    assert!(status.success(), "{status}: {:#?}", left.log());
                    exits += 1;
                }
                let mut command = repo.command(HEDDLE);
                command.args(["agent", "serve", "--idle-timeout", "1ms"]);
                let next = Daemon::spawn(command);
                next.wait_for_line("serving");
                daemon = Some(next);
                continue;
            };
            let key = Uuid::new_v4().to_string();
            let wrote = runtime.block_on(write(stream, &name(written), &key));
            wrote.unwrap_or_else(|status| {
                let log = daemon.as_ref().map(Daemon::log);
                panic!("write {written} after {exits} exits: {status:?} {log:#?}")
            });
            written += 1;
            thread::sleep(sweep(written));
        }
        if let Some(mut left) = daemon {
            left.wait();
        }
        (exits, written)
    });
}

/// The worst moment: the path is looked up before it goes, and the connection is made after that.
#[test]
#[cfg(target_os = "linux")]
fn g7_a_late_connection_to_an_own_socket_is_refused_and_never_cut_off() {
    use std::{
        io::{ErrorKind, Read, Write},
        os::{fd::AsRawFd, unix::fs::OpenOptionsExt, unix::net::UnixStream},
    };

    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    // As connect(2) does it: the inode first.
    let inode = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(repo.socket())
        .unwrap();
    let late = format!("/proc/self/fd/{}", inode.as_raw_fd());
    // Keeps the drain going for a moment.
    let _silent = UnixStream::connect(&late).unwrap();
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let refused = loop {
        match UnixStream::connect(&late) {
            Err(error) => break error.kind(),
            Ok(mut stream) => {
                // The preface and empty SETTINGS: whoever serves this answers with its own.
                stream
                    .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                    .unwrap();
                let mut answer = [0; 9];
                let read = stream.read_exact(&mut answer);
                assert!(read.is_ok(), "cut off: {read:?}, {:#?}", daemon.log());
            }
        }
    };
    assert_eq!(refused, ErrorKind::ConnectionRefused);
    assert!(daemon.wait().success());
}
