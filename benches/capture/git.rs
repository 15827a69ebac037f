//! What Git takes for the same.

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};

use crate::{
    Result,
    shared::{repo::Repo, samples::micros},
};

/// Makes this very program run the command that follows and print the most memory that it had.
pub const PEAK: &str = "peak-of";

/// Prints the peak of a command, in MiB.
pub fn print_peak(mut command: impl Iterator<Item = String>) -> Result {
    let mut run = Command::new(command.next().ok_or("no command")?);
    run.args(command).stdout(Stdio::null()).status()?;
    // In KiB (getrusage(2)), but on macOS.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    let most = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss() * unit;
    println!("{}", most as f64 / 1024.0 / 1024.0);
    Ok(())
}

/// Git's way to a commit of the worktree: a throw-away index that is kept warm.
pub struct Plumbing<'a> {
    repo: &'a Repo,
    index: PathBuf,
    config: &'static [&'static str],
}

impl<'a> Plumbing<'a> {
    /// With a copy of the user's index of its own.
    pub fn new(repo: &'a Repo, name: &str, synced: bool) -> Result<Self> {
        let index = repo.root().join(".git").join(name);
        fs::copy(repo.root().join(".git/index"), &index)?;
        let config: &[_] = if synced {
            &["-c", "core.fsync=objects"]
        } else {
            &[]
        };
        let plumbing = Self {
            repo,
            index,
            config,
        };
        plumbing.commit()?;
        Ok(plumbing)
    }

    fn git(&self, arguments: &[&str]) -> Command {
        let mut git = self.repo.command("git");
        git.args(self.config)
            .args(arguments)
            .env("GIT_INDEX_FILE", &self.index);
        git
    }

    /// Microseconds for a commit of the worktree as it is.
    pub fn commit(&self) -> Result<f64> {
        let began = Instant::now();
        said(self.git(&["add", "-A"]))?;
        let tree = said(self.git(&["write-tree"]))?;
        said(self.git(&["commit-tree", "-p", "HEAD", "-m", "Capture", &tree]))?;
        Ok(micros(began.elapsed()))
    }

    /// The most memory that `git add -A` takes, in MiB.
    pub fn peak(&self) -> Result<f64> {
        peak(&self.git(&["add", "-A"]))
    }
}

/// Microseconds for one run of Git.
pub fn run(repo: &Repo, arguments: &[&str]) -> Result<f64> {
    let mut git = repo.command("git");
    git.args(arguments);
    let began = Instant::now();
    said(git)?;
    Ok(micros(began.elapsed()))
}

/// The most memory that one run of Git takes, in MiB.
pub fn peak_of(repo: &Repo, arguments: &[&str]) -> Result<f64> {
    let mut git = repo.command("git");
    git.args(arguments);
    peak(&git)
}

/// Processor time that all runs of Git took until now, in microseconds.
pub fn processor() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: TimeVal| time.num_microseconds() as f64;
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}

fn peak(command: &Command) -> Result<f64> {
    let mut measured = Command::new(std::env::current_exe()?);
    measured.env_clear().stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            measured.env(name, value);
        }
    }
    if let Some(folder) = command.get_current_dir() {
        measured.current_dir(folder);
    }
    let program = command.get_program().to_owned();
    let arguments = command.get_args().map(OsString::from);
    measured.arg(PEAK).arg(program).args(arguments);
    Ok(said(measured)?.parse()?)
}

fn said(mut command: Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?} failed").into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
