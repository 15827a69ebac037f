//! A repository in a folder of its own, and the daemon that serves it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use heddle_agent::{Repository, client::address};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::Result;

/// The daemon under test.
pub const HEDDLE: &str = env!("CARGO_BIN_EXE_heddle");

/// How long a daemon is given to leave.
const GONE: Duration = Duration::from_secs(20);

/// A repository in a folder of its own.
pub struct Repo {
    folder: PathBuf,
    root: PathBuf,
}

impl Repo {
    /// An empty repository, below `folder`.
    pub fn init(folder: &Path, name: &str) -> Result<Self> {
        let root = folder.join(name);
        fs::create_dir_all(root.join("home"))?;
        let repo = Self {
            folder: folder.to_owned(),
            root,
        };
        repo.git(&["init", "-q", "-b", "main"], "")?;
        repo.git(&["config", "user.name", "Ada"], "")?;
        repo.git(&["config", "user.email", "ada@example.com"], "")?;
        Ok(repo)
    }

    /// Where its worktree is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs Git on this input.
    pub fn git(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Result {
        let mut git = self.command("git");
        let mut child = git.args(arguments).stdin(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_ref())?;
        }
        if child.wait()?.success() {
            Ok(())
        } else {
            Err(format!("git {} failed", arguments.join(" ")).into())
        }
    }

    /// A command in the repository that sees nothing of the user's own set-up.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.root.join("home"))
            .env("XDG_RUNTIME_DIR", &self.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null());
        command
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> Result<PathBuf> {
        let address = address(&Repository::open(&self.root)?)?;
        Ok(address.trim_start_matches("unix:").into())
    }

    /// Starts the daemon; it is not ready yet.
    pub fn spawn(&self, preload: Option<&Path>) -> Result<Daemon> {
        let mut command = self.command(HEDDLE);
        command
            .args(["agent", "serve"])
            .env("HEDDLE_LOG", "warn")
            .stdout(Stdio::null());
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        Ok(Daemon(command.spawn()?))
    }
}

/// The daemon's process; killed when dropped.
pub struct Daemon(Child);

impl Daemon {
    /// Ends it as a service manager would.
    pub fn stop(mut self) -> Result {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM)?;
        let end = Instant::now() + GONE;
        while self.0.try_wait()?.is_none() {
            if Instant::now() > end {
                return Err("the daemon does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Its proportional share of memory, in MiB; `None` where the kernel does not tell.
    pub fn pss(&self) -> Option<f64> {
        self.memory("smaps_rollup", "Pss:")
    }

    /// What of it is its own and not pages of the program's file, in MiB; `None` where the kernel does
    /// not tell.
    pub fn own(&self) -> Option<f64> {
        self.memory("smaps_rollup", "Pss_Anon:")
    }

    /// The most memory that it had resident since [`Daemon::forget_peak`], in MiB; `None` where the
    /// kernel does not tell.
    pub fn peak(&self) -> Option<f64> {
        self.memory("status", "VmHWM:")
    }

    /// Lets the peak begin anew (proc_pid_clear_refs(5)).
    pub fn forget_peak(&self) {
        // Where that cannot be, the peak is that of its whole life.
        let _ = fs::write(format!("/proc/{}/clear_refs", self.0.id()), "5");
    }

    /// Processor time that it took since its start, in microseconds; `None` where the kernel does not
    /// tell.
    pub fn processor(&self) -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).ok()?;
        // The name, in parentheses, may have anything in it (proc_pid_stat(5)).
        let mut rest = text.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut ticks = || rest.next()?.parse::<f64>().ok();
        // Ticks are hundredths of a second on every Linux that there is.
        Some((ticks()? + ticks()?) * 1e4)
    }

    fn memory(&self, file: &str, what: &str) -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).ok()?;
        let line = text.lines().find(|line| line.starts_with(what))?;
        let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kibibytes / 1024.0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
