//! Restarts under load: with the socket held by the real systemd, neither a foreign client with
//! gRPC's standard retries nor ours sees a failed call, loses a write, or has one done twice (G7).

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use heddle_agent::{
    Repository,
    grpc_local_impl::proto::v1::QueryOperationsRequest,
    local_daemon::{Holder, ask},
};
use tonic::{Code, Status, transport::Channel};
use uuid::Uuid;

use crate::{
    foreign::Python,
    harness::DEADLINE,
    manager::{UserManager, UserRepo, user_manager},
    rpc,
};

const RESTARTS: usize = 100;
/// Names the test's own binary as a client: `UID GID REPOSITORY`.
const CLIENT: &str = "HEDDLE_TEST_LOAD_CLIENT";
/// As gRPC's standard retry policy has it in `load.py`.
const ATTEMPTS: u32 = 5;
const WORKERS: usize = 2;

/// A client in a process of its own; it ends when its standard input does.
struct Load {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Load {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line.trim_end() != "started" {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it does not start");
        }
        Self { child, lines }
    }

    /// What it was answered: the keys of its writes.
    fn end(mut self) -> BTreeSet<String> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.lines.read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {said}");
        let failed: Vec<&str> = said.lines().filter(|l| l.starts_with("failed ")).collect();
        assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
        for line in said.lines().filter(|l| l.starts_with("retried ")) {
            println!("{line}");
        }
        let answered = said.lines().filter_map(|line| line.strip_prefix("ok "));
        answered.map(str::to_owned).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A repository that systemd serves, restarted a hundred times while the clients of `loads` work.
fn restart_under(manager: &Arc<UserManager>, name: &str, load: impl Fn(&UserRepo) -> Command) {
    let repo = manager.repo(name);
    repo.heddle(&["agent", "install", "--now"]).ok();
    repo.heddle(&["hook", "list"]).ok();
    let load = Load::start(load(&repo));
    let began = Instant::now();
    let service = format!("heddle-agent@{name}.service");
    for n in 0..RESTARTS {
        let restarted = manager.systemctl(&["restart", &service]);
        assert!(restarted.status.success(), "restart {n}: {restarted:?}");
    }
    let took = began.elapsed();
    let answered = load.end();
    println!(
        "{RESTARTS} restarts in {took:.1?}, {} writes answered",
        answered.len()
    );
    assert!(answered.len() >= RESTARTS, "no steady load: {answered:?}");

    repo.heddle(&["agent", "stop"]).ok();
    let database = repo.root().join(".git/heddle/heddle.db");
    let database = rusqlite::Connection::open(database).unwrap();
    let mut keys = database
        .prepare("SELECT client_operation_id FROM operation_dedup")
        .unwrap();
    let keys = keys.query_map([], |row| row.get(0)).unwrap();
    let keys: BTreeSet<String> = keys
        .map(|key| Uuid::from_bytes(key.unwrap()).to_string())
        .collect();
    assert_eq!(keys, answered);
    let operations: usize = database
        .query_row("SELECT count(*) FROM operation", [], |row| row.get(0))
        .unwrap();
    assert_eq!(operations, answered.len());
}

#[test]
fn g7_a_hundred_restarts_fail_no_call_of_a_python_client() {
    let test = "service_load::python";
    let Some(manager) = user_manager(test) else {
        return;
    };
    let Some(python) = Python::find(test) else {
        return;
    };
    restart_under(&manager, "load-python", |repo| {
        let address = repo.heddle(&["agent", "address"]).ok();
        let (uid, gid) = manager.ids();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/load.py");
        let mut command = python.command();
        command.arg(script).arg(address.trim_end());
        command.args([uid.to_string(), gid.to_string()]);
        command
    });
}

#[test]
fn g7_a_hundred_restarts_fail_no_call_of_our_client() {
    let Some(manager) = user_manager("service_load::ours") else {
        return;
    };
    restart_under(&manager, "load-ours", |repo| {
        let (uid, gid) = manager.ids();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "--nocapture", "service_load::client"])
            .env(CLIENT, format!("{uid} {gid} {}", repo.root().display()))
            .env("HOME", manager.home());
        command
    });
}

/// No test but our client's process: the daemon's user is not ours.
#[test]
fn client() {
    let Ok(asked) = std::env::var(CLIENT) else {
        return;
    };
    let mut words = asked.splitn(3, ' ');
    let mut id = || words.next().unwrap().parse::<u32>().unwrap();
    let (uid, gid) = (id(), id());
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setgid(gid.into()).unwrap();
    nix::unistd::setuid(uid.into()).unwrap();
    // As a process is that began as this user: others of it may look at it (prctl(2)).
    nix::sys::prctl::set_dumpable(true).unwrap();
    let repository = Repository::open(Path::new(words.next().unwrap())).unwrap();

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let channel = runtime.block_on(async {
        match ask(&repository, DEADLINE).await {
            Holder::Serving { channel, .. } => channel,
            Holder::Absent => panic!("nobody serves"),
            Holder::Elsewhere(other) => panic!("the socket leads to {other}"),
            Holder::Silent(why) => panic!("{why}"),
        }
    });
    println!("\nstarted");
    let over = Arc::new(AtomicBool::new(false));
    let said = Arc::new(Mutex::new(Vec::new()));
    let retried = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (channel, over, said) = (channel.clone(), Arc::clone(&over), Arc::clone(&said));
            let (runtime, retried) = (runtime.handle().clone(), Arc::clone(&retried));
            thread::spawn(move || runtime.block_on(work(channel, worker, &over, &said, &retried)))
        })
        .collect();
    let waits = thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        over.store(true, Ordering::Relaxed);
    });
    for worker in workers {
        worker.join().unwrap();
    }
    waits.join().unwrap();
    println!("retried {}", retried.load(Ordering::Relaxed));
    for line in said.lock().unwrap().iter() {
        println!("{line}");
    }
}

async fn work(
    channel: Channel,
    worker: usize,
    over: &AtomicBool,
    said: &Mutex<Vec<String>>,
    retried: &AtomicUsize,
) {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        // Few names, for a repository has room for 256 hooks; the key tells the writes apart.
        let name = format!("ours-{worker}-{}", count % 32);
        let key = Uuid::new_v4();
        let request = rpc::keyed(&name, &key.to_string());
        let wrote = retrying(retried, async || {
            rpc::hooks(&channel).register_hook(request.clone()).await
        });
        let wrote = wrote.await;
        let query = QueryOperationsRequest {
            limit: 50,
            ..Default::default()
        };
        let read = retrying(retried, async || {
            rpc::log(&channel).query_operations(query.clone()).await
        });
        let read = read.await;
        let wrote = match wrote {
            Ok(_) => format!("ok {key}"),
            Err(status) => format!("failed {key} {status:?}"),
        };
        let read = read.err().map(|status| format!("failed read {status:?}"));
        said.lock().unwrap().extend([wrote].into_iter().chain(read));
        count += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether a call may be made again: the daemon said so, or tonic lost the connection under it.
/// tonic has `CANCELLED`, `INTERNAL` or `UNKNOWN` for that, where gRPC has `UNAVAILABLE`.
fn is_unavailable(status: &Status) -> bool {
    use std::error::Error;
    let lost = status
        .source()
        .is_some_and(|source| source.is::<tonic::transport::Error>());
    lost || status.code() == Code::Unavailable
}

/// A call, again after a pause while it is `UNAVAILABLE`.
async fn retrying<T>(
    retried: &AtomicUsize,
    call: impl AsyncFn() -> Result<T, Status>,
) -> Result<T, Status> {
    let mut pause = Duration::from_millis(10);
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(status) if is_unavailable(&status) => {
                retried.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            other => return other,
        }
    }
    call().await
}
