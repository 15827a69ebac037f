//! The one constructor of child processes, and ways to wait for one for so long and no longer.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::sync::oneshot;

use crate::deadline::Deadline;

/// Bytes that are kept of what a program says.
const SAID_LIMIT: usize = 4 * 1024;

/// Variables that a service manager gave to this process alone (sd_listen_fds(3), sd_notify(3),
/// sd_watchdog_enabled(3)).
const NOT_INHERITED: &[&str] = &[
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// A child process that does not take itself for this one.
pub(crate) fn child(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    command
}

/// Runs a program until it closes its output, which is at its end; answers how it ended, and the
/// beginning of what it said on both of its outputs. `None` where its time was over: then it is killed
/// with its process group. Blocks.
///
/// # Errors
/// When it cannot be started, or waited for.
pub(crate) fn run_within(
    mut command: Command,
    input: File,
    time: Duration,
) -> io::Result<Option<(ExitStatus, String)>> {
    let end = Instant::now() + time;
    let (output, writer) = io::pipe()?;
    command.stdin(input).stdout(writer.try_clone()?);
    let mut child = command.stderr(writer).process_group(0).spawn()?;
    // It has ends of the pipe as well.
    drop(command);
    let said = read_until(output, end);
    if !matches!(said, Ok(Some(_))) {
        kill_group(&child);
    }
    let status = child.wait()?;
    Ok(said?.map(|said| (status, String::from_utf8_lossy(&said).into_owned())))
}

/// Runs a program to its end; answers how it ended and all that it said. `None` where nobody waits for it
/// any more: then it is killed with its process group. Blocks.
///
/// # Errors
/// When it cannot be started, or waited for.
pub(crate) fn output_by(mut command: Command, deadline: &Deadline) -> io::Result<Option<Output>> {
    if deadline.is_over() {
        return Ok(None);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.process_group(0).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let said = thread::scope(|scope| {
        let (tell, told) = oneshot::channel();
        let stderr = scope.spawn(|| all_of(stderr));
        scope.spawn(|| tell.send((all_of(stdout), stderr.join())));
        let said = deadline.block_on(told);
        if said.is_none() {
            kill_group(&child);
        }
        said
    });
    let status = child.wait()?;
    match said {
        Some(Ok((stdout, Ok(stderr)))) => Ok(Some(Output {
            status,
            stdout: stdout?,
            stderr: stderr?,
        })),
        Some(_) => Err(io::Error::other("what it said was not read")),
        None => Ok(None),
    }
}

fn all_of(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut all)?;
    }
    Ok(all)
}

/// Kills a program that leads a process group, with all of it.
fn kill_group(child: &Child) {
    // It may have ended by itself; its number is its own until it is waited for.
    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
}

/// The beginning of what comes before the end of a pipe; `None` where that does not come in time.
fn read_until(mut pipe: io::PipeReader, end: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut said = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut piece = [0; SAID_LIMIT];
        match pipe.read(&mut piece)? {
            0 => return Ok(Some(said)),
            count => said.extend_from_slice(&piece[..count.min(SAID_LIMIT - said.len())]),
        }
    }
}
