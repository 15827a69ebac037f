//! The process that stands between the daemon and a hook's command. It ends all that the command
//! started, in whatever group or session: when the command ends, when its time is over, and when the
//! daemon dies, however it does.

use std::{
    io::{self, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{ExitCode, Stdio},
    thread,
};

use nix::sys::signal::SigSet;

use super::{group::Group, orphans};
use crate::child::child;

/// What a shell answers for a command that cannot be run.
const CANNOT_RUN: u8 = 126;

/// Runs `command` by the shell as a hook: its payload comes on standard input behind its length, and
/// the pipe stays open for as long as the command may run. Answers the command's exit status, or 128
/// and the signal's number, as shells do.
pub fn guard(command: &str) -> ExitCode {
    match run(command) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Nothing is left to do when not even this can be said.
            let _ = writeln!(io::stderr(), "the hook cannot be run: {error}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

fn run(command: &str) -> io::Result<u8> {
    let mut length = [0; 8];
    io::stdin().read_exact(&mut length)?;
    let mut payload = Vec::new();
    let length = u64::from_le_bytes(length);
    io::stdin().take(length).read_to_end(&mut payload)?;
    orphans::adopt();
    let mut hook = child("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()?;
    // A hook that signals its parent cannot mean this one. Only now, as a child's mask is its parent's.
    SigSet::all().thread_block()?;
    let group = Group::of(&hook);
    let stdin = hook.stdin.take();
    thread::spawn(move || {
        // Nobody has to read it.
        stdin.map(|mut stdin| stdin.write_all(&payload))
    });
    let ended = group.clone();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        ended.kill();
    });
    orphans::reap_until(&hook);
    let status = group.reap(hook)?;
    orphans::end_all();
    let signalled = status.signal().map(|signal| 128 + signal);
    let status = status.code().or(signalled).unwrap_or(CANNOT_RUN.into());
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}
