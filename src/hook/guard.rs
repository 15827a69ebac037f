//! The process that stands between the daemon and a hook's command, as the leader of its process
//! group: when the daemon dies, however it does, the group dies with it.

use std::{
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    process::{ExitCode, Stdio},
    thread,
};

use nix::{
    sys::signal::{SigSet, Signal, killpg},
    unistd::getpgrp,
};

use crate::child::child;

/// What a shell answers for a command that cannot be run.
const CANNOT_RUN: u8 = 126;

/// Runs `command` by the shell as a hook: its payload comes on standard input behind its length, and
/// the pipe stays open for as long as the daemon lives. Answers the command's exit status, or 128
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
    // A hook that signals its own group means its own processes. A child's mask is empty again.
    SigSet::all().thread_block()?;
    let mut length = [0; 8];
    io::stdin().read_exact(&mut length)?;
    let mut payload = Vec::new();
    let length = u64::from_le_bytes(length);
    io::stdin().take(length).read_to_end(&mut payload)?;
    let mut hook = child("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::piped())
        .spawn()?;
    let stdin = hook.stdin.take();
    thread::spawn(move || {
        // Nobody has to read it.
        stdin.map(|mut stdin| stdin.write_all(&payload))
    });
    thread::spawn(die_with_the_daemon);
    let status = hook.wait()?;
    let signalled = status.signal().map(|signal| 128 + signal);
    let status = status.code().or(signalled).unwrap_or(CANNOT_RUN.into());
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}

fn die_with_the_daemon() {
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    let _ = killpg(getpgrp(), Signal::SIGKILL);
}
