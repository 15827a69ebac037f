//! Running a hook's command: in a process group that does not outlive it, with bounded output. The guard
//! ends what left the group.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    pin::pin,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::oneshot::{self, error::RecvError},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{group::Group, hooks::HOOK_TOKEN, orphans};
use crate::child::child;

/// Bytes that are kept of what a hook writes, to each of its two outputs.
pub const OUTPUT_LIMIT: usize = 64 * 1024;

/// Time for what is left in a pipe that a process outside the group keeps open.
const LINGER: Duration = Duration::from_millis(50);

/// Time for a guard to end what it guards; a moment is enough, unless somebody stopped it.
const GUARD_GRACE: Duration = Duration::from_secs(5);

/// Git's variables that are about one repository (`git rev-parse --local-env-vars`): a daemon that
/// a Git hook started has those of another command.
const GIT_LOCAL: &[&str] = &[
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// Runs commands in one repository.
#[derive(Debug)]
pub(super) struct Runner {
    /// Where they run.
    pub(super) root: PathBuf,
    /// The executable that stands between the daemon and a command (`guard`), where there is one.
    pub(super) guard: Option<PathBuf>,
}

/// One run.
pub(super) struct Job<'a> {
    pub(super) command: &'a str,
    pub(super) timeout: Duration,
    pub(super) payload: Arc<str>,
    pub(super) environment: [(&'static str, String); 2],
    /// What it proves itself with when it calls the daemon back; no two runs have the same.
    pub(super) token: String,
}

/// How a run went.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) ended: Ended,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    pub(super) took: Duration,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// With this exit status.
    Exited(i32),
    /// By this signal, which was not ours.
    Signalled(i32),
    /// After its time, which is this, was over, by us.
    TimedOut(Duration),
    /// It could not be started.
    NotRun(String),
    /// By us, because the daemon stops.
    Stopped,
}

/// The beginning of what was written.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    /// Whether there was more.
    pub(super) is_cut: bool,
}

impl Output {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Takes all that comes, and keeps the beginning: a command is not to fail, nor to wait, because
    /// it says much.
    async fn read(&mut self, from: &mut pipe::Receiver) {
        let mut piece = vec![0; OUTPUT_LIMIT];
        loop {
            // A pipe that cannot be read has ended.
            let count = from.read(&mut piece).await.unwrap_or(0);
            if count == 0 {
                return;
            }
            let kept = count.min(OUTPUT_LIMIT - self.bytes.len());
            self.bytes.extend_from_slice(&piece[..kept]);
            self.is_cut |= kept < count;
        }
    }
}

impl Runner {
    /// Runs a command to its end, to its time's end, or until `stop`. What it started is killed then:
    /// also when this is dropped.
    pub(super) async fn run(&self, job: Job<'_>, stop: &CancellationToken) -> Ran {
        let began = Instant::now();
        let (mut stdout, mut stderr) = (Output::default(), Output::default());
        let command = self.command(&job);
        let mark = || format!("{HOOK_TOKEN}={}", job.token);
        let guarded = self.guard.is_some().then(mark);
        let ended = match Started::new(command, guarded).await {
            Err(error) => Ended::NotRun(format!("it cannot be started: {error}")),
            Ok((started, status)) => {
                let time = job.timeout;
                let feed = feed(job.payload, self.guard.is_some());
                started
                    .watch(status, time, stop, feed, &mut stdout, &mut stderr)
                    .await
            }
        };
        Ran {
            ended,
            stdout,
            stderr,
            took: began.elapsed(),
        }
    }

    fn command(&self, job: &Job<'_>) -> Command {
        let mut command = match &self.guard {
            Some(guard) => {
                let mut command = child(guard);
                command.arg0("heddle").args(["hook", "guard", "--"]);
                command
            }
            None => {
                let mut command = child("/bin/sh");
                command.arg("-c");
                command
            }
        };
        for name in GIT_LOCAL {
            command.env_remove(name);
        }
        command
            .arg(job.command)
            .envs(job.environment.iter().map(|(name, value)| (name, value)))
            .env(HOOK_TOKEN, &job.token)
            .env("HEDDLE_REPOSITORY", &self.root)
            .current_dir(&self.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }
}

/// What a run is given on its standard input, and whether that stays open.
struct Feed {
    bytes: Vec<u8>,
    stays_open: bool,
}

/// To a guard, the payload with its length before it, and the pipe stays open for as long as the
/// daemon lives.
fn feed(payload: Arc<str>, guarded: bool) -> Feed {
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    if guarded {
        bytes.extend((payload.len() as u64).to_le_bytes());
    }
    bytes.extend(payload.as_bytes());
    Feed {
        bytes,
        stays_open: guarded,
    }
}

/// Ends what runs when whoever waits for it goes away.
struct EndOnDrop {
    group: Group,
    is_guarded: bool,
}

impl EndOnDrop {
    /// To be called when the command's input is closed: a guard then ends what it guards, and itself.
    async fn end(&self, status: &mut Status) -> Result<io::Result<ExitStatus>, RecvError> {
        if self.is_guarded
            && let Ok(status) = timeout(GUARD_GRACE, &mut *status).await
        {
            return status;
        }
        self.group.kill();
        status.await
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        // A guard that was killed would leave behind what it guards.
        if !self.is_guarded {
            self.group.kill();
        }
    }
}

type Status = oneshot::Receiver<io::Result<ExitStatus>>;

/// A command that runs.
struct Started {
    group: EndOnDrop,
    pipes: [OwnedFd; 3],
}

impl Started {
    /// Starts a command on a thread of its own, which also waits for it: a hook may hang for long,
    /// and the threads that others wait for are few.
    async fn new(command: Command, guarded: Option<String>) -> io::Result<(Self, Status)> {
        let (started, answer) = oneshot::channel();
        let (ended, status) = oneshot::channel();
        thread::Builder::new()
            .name("hook".into())
            .stack_size(256 * 1024)
            .spawn(move || match Self::spawn(command, guarded.is_some()) {
                Ok((child, this)) => {
                    let group = this.group.group.clone();
                    // Where nobody waits for it any more, it is dropped here, and so killed.
                    drop(started.send(Ok(this)));
                    let status = group.reap(child);
                    if let (Some(mark), Ok(status)) = (guarded, &status)
                        && status.signal().is_some()
                    {
                        orphans::end_marked(&mark);
                    }
                    drop(ended.send(status));
                }
                Err(error) => drop(started.send(Err(error))),
            })?;
        let started = answer.await.map_err(io::Error::other)??;
        Ok((started, status))
    }

    fn spawn(mut command: Command, is_guarded: bool) -> io::Result<(Child, Self)> {
        let mut child = command.spawn()?;
        let group = EndOnDrop {
            group: Group::of(&child),
            is_guarded,
        };
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("it has no pipes"));
        };
        let pipes = [stdin.into(), stdout.into(), stderr.into()];
        Ok((child, Self { group, pipes }))
    }

    async fn watch(
        self,
        mut status: Status,
        time: Duration,
        stop: &CancellationToken,
        feed: Feed,
        stdout: &mut Output,
        stderr: &mut Output,
    ) -> Ended {
        let Self {
            group,
            pipes: [stdin, out, err],
        } = self;
        let pipes = (
            pipe::Sender::from_owned_fd(stdin),
            pipe::Receiver::from_owned_fd(out),
            pipe::Receiver::from_owned_fd(err),
        );
        let (Ok(mut stdin), Ok(mut out), Ok(mut err)) = pipes else {
            return Ended::NotRun("its pipes cannot be used".to_owned());
        };
        let fed = async move {
            // Nobody has to read it.
            let _ = stdin.write_all(&feed.bytes).await;
            if feed.stays_open {
                std::future::pending::<()>().await;
            }
        };
        let mut read = pin!(async {
            tokio::join!(stdout.read(&mut out), stderr.read(&mut err));
        });
        let (mut is_fed, mut is_read) = (false, false);
        let ended = {
            let (mut fed, mut over) = (pin!(fed), pin!(tokio::time::sleep(time)));
            loop {
                tokio::select! {
                    status = &mut status => break Ok(status),
                    () = &mut fed, if !is_fed => is_fed = true,
                    () = &mut read, if !is_read => is_read = true,
                    () = &mut over => break Err(Ended::TimedOut(time)),
                    () = stop.cancelled() => break Err(Ended::Stopped),
                }
            }
        };
        let (status, why) = match ended {
            Ok(status) => (status, None),
            Err(why) => (group.end(&mut status).await, Some(why)),
        };
        if !is_read {
            let _ = timeout(LINGER, &mut read).await;
        }
        why.unwrap_or_else(|| match status.map_err(io::Error::other).and_then(|s| s) {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => Ended::Exited(code),
                (None, signal) => Ended::Signalled(signal.unwrap_or(0)),
            },
            Err(error) => Ended::NotRun(format!("how it ended cannot be told: {error}")),
        })
    }
}
