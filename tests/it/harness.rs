//! A real repository in one line, a real daemon in another. Everything lives in a temporary folder
//! with an environment of its own; what was started is ended by its pid when the value is dropped.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use heddle_agent::Repository;
use heddle_agent::local_daemon::{Holder, ask, lock_holder};
use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint, Uri};

/// No test waits longer than this for anything: a hang is a failure that says where.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The binary under test.
pub const HEDDLE: &str = env!("CARGO_BIN_EXE_heddle");

/// Says in one line that a test was skipped and why; a failure where `.ci/run` forbids skips.
/// Written past the test runner's capture, so that it is seen although the test passes.
pub fn skip(test: &str, why: &str) {
    assert!(
        std::env::var_os("HEDDLE_TEST_NO_SKIP").is_none(),
        "{test} must not be skipped here: {why}"
    );
    let _ = writeln!(std::io::stderr(), "skipped {test}: {why}");
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// A Git repository in a folder of its own, with a home and a runtime folder of its own.
pub struct TestRepo {
    folder: TempDir,
    root: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its standard output, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "failed: {self:#?}");
        self.stdout
    }

    /// Its standard error, if it ended with this status.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> String {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        self.stderr
    }

    /// Its standard output as JSON, if it succeeded.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

impl TestRepo {
    /// A repository with one commit, at a short path.
    pub fn new() -> Self {
        Self::at("repo")
    }

    /// A repository with one commit, at `path` below a temporary folder.
    pub fn at(path: impl AsRef<Path>) -> Self {
        let repo = Self::empty_at(path);
        fs::write(repo.path("README"), "hello\n").unwrap();
        repo.git(&["add", "README"]);
        repo.git(&["commit", "-qm", "first"]);
        repo
    }

    /// A repository without a commit.
    pub fn empty_at(path: impl AsRef<Path>) -> Self {
        Self::empty_in(&std::env::temp_dir(), path)
    }

    /// A repository without a commit, on a filesystem that is mounted at `disk`.
    pub fn empty_in(disk: &Path, path: impl AsRef<Path>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hdl")
            .tempdir_in(disk)
            .unwrap();
        let base = folder.path().canonicalize().unwrap();
        let root = base.join(path);
        fs::create_dir_all(&root).unwrap();
        for name in ["home", "run"] {
            fs::create_dir(base.join(name)).unwrap();
            fs::set_permissions(base.join(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
        let repo = Self { folder, root };
        repo.git(&["init", "-q", "-b", "main"]);
        repo.git(&["config", "user.name", "Ada"]);
        repo.git(&["config", "user.email", "ada@example.com"]);
        repo
    }

    /// The repository's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside the repository.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// The temporary folder around the repository.
    pub fn around(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// Where clients look for the socket.
    pub fn socket(&self) -> PathBuf {
        self.path(".heddle/sockets/grpc.sock")
    }

    /// Where the pidfile is.
    pub fn pidfile(&self) -> PathBuf {
        self.path(".heddle/sockets/grpc.pid")
    }

    /// The heddle folder in the Git folder.
    pub fn store_dir(&self) -> PathBuf {
        self.path(".git/heddle")
    }

    /// A command in the repository's root, with nothing of the caller's environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.around().join("home"))
            .env("XDG_RUNTIME_DIR", self.around().join("run"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        command
    }

    /// Runs Git here; answers its standard output.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        run(self.command("git").args(args)).ok()
    }

    /// Runs heddle here.
    pub fn heddle<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        run(self.command(HEDDLE).args(args))
    }

    /// Starts `heddle agent serve` here and waits until it serves.
    pub fn serve(&self) -> Daemon {
        self.serve_with(&[])
    }

    /// The same, with more arguments.
    #[track_caller]
    pub fn serve_with(&self, args: &[&str]) -> Daemon {
        let mut command = self.command(HEDDLE);
        command.args(["agent", "serve"]).args(args);
        let daemon = Daemon::spawn(command);
        daemon.wait_for_line("serving");
        daemon
    }

    /// The library's view of the repository.
    pub fn open(&self) -> Repository {
        Repository::open(&self.root).unwrap()
    }

    /// A channel to the daemon that serves here.
    pub async fn channel(&self) -> Channel {
        match ask(&self.open(), DEADLINE).await {
            Holder::Serving { channel, .. } => channel,
            Holder::Absent => panic!("no daemon serves {}", self.root.display()),
            Holder::Elsewhere(other) => panic!("the socket leads to {other}"),
            Holder::Silent(why) => panic!("{why}"),
        }
    }

    /// The address that heddle prints, with a daemon behind it.
    #[track_caller]
    pub fn address(&self) -> String {
        let printed = self.heddle(["agent", "address", "--start"]).ok();
        printed.strip_suffix('\n').unwrap().to_owned()
    }

    /// The process that holds the repository's lock.
    pub fn holder(&self) -> Option<i32> {
        lock_holder(&self.store_dir().join("lock"))
    }
}

impl Drop for TestRepo {
    fn drop(&mut self) {
        // A daemon that a client started here is ours to end, and known by its lock.
        if let Some(pid) = self.holder()
            && pid != std::process::id() as i32
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            let end = Instant::now() + Duration::from_secs(5);
            while self.holder() == Some(pid) && Instant::now() < end {
                thread::yield_now();
            }
        }
    }
}

/// Looks until `found` answers something: only for what no event tells of.
#[track_caller]
pub fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A channel to whatever listens at `path`, of which nothing is asked beforehand.
pub async fn channel_at(path: impl AsRef<Path>) -> Result<Channel, tonic::transport::Error> {
    channel_through(path, |endpoint| endpoint).await
}

/// The same, with settings of the client's own.
pub async fn channel_through(
    path: impl AsRef<Path>,
    set: impl FnOnce(Endpoint) -> Endpoint,
) -> Result<Channel, tonic::transport::Error> {
    let path = path.as_ref().to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    set(Endpoint::from_static("http://localhost"))
        .connect_with_connector(connector)
        .await
}

/// The stable reason of a status, as `google.rpc.ErrorInfo` has it.
pub fn reason(status: &tonic::Status) -> String {
    use tonic_types::StatusExt;
    let info = status.get_details_error_info();
    info.map_or_else(String::new, |info| info.reason)
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    Ran {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A daemon that this test started; killed when dropped.
pub struct Daemon {
    child: Child,
    lines: Arc<(Mutex<Lines>, Condvar)>,
}

#[derive(Default)]
struct Lines {
    seen: Vec<String>,
    ended: bool,
}

impl Daemon {
    /// Starts a command whose standard error is a daemon's log.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        let lines = Arc::new((Mutex::new(Lines::default()), Condvar::new()));
        let (log, reader) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                reader.0.lock().unwrap().seen.push(line);
                reader.1.notify_all();
            }
            reader.0.lock().unwrap().ended = true;
            reader.1.notify_all();
        });
        Self { child, lines }
    }

    /// Waits until the log has a line with `text`; answers the line.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str) -> String {
        let (lines, changed) = &*self.lines;
        let found = |lines: &Lines| lines.seen.iter().find(|line| line.contains(text)).cloned();
        let (lines, _) = changed
            .wait_timeout_while(lines.lock().unwrap(), DEADLINE, |lines| {
                found(lines).is_none() && !lines.ended
            })
            .unwrap();
        found(&lines).unwrap_or_else(|| panic!("no line with {text:?} in {:#?}", lines.seen))
    }

    /// The lines of the log so far.
    pub fn log(&self) -> Vec<String> {
        self.lines.0.lock().unwrap().seen.clone()
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end: {:#?}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it with SIGTERM; answers how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Kills it as a crash would.
    pub fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it serves; false when it ended before.
    pub fn came_up(&self) -> bool {
        let (lines, changed) = &*self.lines;
        let serves = |lines: &Lines| lines.seen.iter().any(|line| line.contains("serving"));
        let (lines, waited) = changed
            .wait_timeout_while(lines.lock().unwrap(), DEADLINE, |lines| {
                !serves(lines) && !lines.ended
            })
            .unwrap();
        assert!(
            !waited.timed_out(),
            "it neither serves nor ends: {:#?}",
            lines.seen
        );
        serves(&lines)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
