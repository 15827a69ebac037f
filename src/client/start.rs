//! Starting a daemon: a session of its own, its lines in `agent.log`, and a pipe on which it says
//! that it is ready, or why not.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Child, ExitStatus, Stdio},
    time::Duration,
};

use super::Error;
use crate::{child::child, git::Repository, hook::HOOK_TOKEN};

/// What a detached daemon prints when it is ready; anything else is why it is not.
pub const READY: &str = "ready";

/// Exit status of a daemon that found another one serving.
pub const ALREADY_SERVED: u8 = 4;

/// Starts a daemon and waits until it, or one that was quicker, is ready.
pub(super) async fn start(repository: &Repository, deadline: Duration) -> Result<(), Error> {
    let not_started = |why: String| Error::NotStarted {
        repository: repository.root().display().to_string(),
        why,
    };
    let mut child = spawn(repository).map_err(|source| Error::Io {
        action: "start a daemon",
        source,
    })?;
    let said = tokio::task::spawn_blocking(move || {
        let said = first_line(&mut child);
        // A daemon that is ready goes on; one that is not is reaped here.
        let ended = (said != READY).then(|| child.wait());
        (said, ended)
    });
    match tokio::time::timeout(deadline, said).await {
        Err(_) => Err(not_started(format!(
            "it was not ready within {} s; .heddle/agent.log says more",
            deadline.as_secs()
        ))),
        Ok(Err(failed)) => Err(not_started(failed.to_string())),
        Ok(Ok((said, _))) if said == READY => Ok(()),
        Ok(Ok((_, Some(Ok(status))))) if status.code() == Some(ALREADY_SERVED.into()) => Ok(()),
        Ok(Ok((said, ended))) if said.is_empty() => Err(not_started(how_it_ended(ended))),
        Ok(Ok((said, _))) => Err(not_started(said)),
    }
}

fn spawn(repository: &Repository) -> std::io::Result<Child> {
    let mut command = child(std::env::current_exe()?);
    command
        .args(["agent", "serve", "--detached", "--repo"])
        .arg(repository.root())
        // Not to keep a filesystem from being unmounted.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // Git's variables are about one command in one worktree (git(1), Environment Variables).
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    // It is of one hook's run, which the daemon outlives.
    command.env_remove(HOOK_TOKEN);
    command.spawn()
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        // What cannot be read was not said; how the process ended then tells.
        let _ = BufReader::new(output).read_line(&mut line);
    }
    line.trim_end().to_owned()
}

fn how_it_ended(ended: Option<std::io::Result<ExitStatus>>) -> String {
    let log = ".heddle/agent.log says more";
    match ended {
        Some(Ok(status)) if status.signal().is_some() => {
            format!(
                "it was ended by signal {}; {log}",
                status.signal().unwrap_or(0)
            )
        }
        Some(Ok(status)) => format!("it ended with {status}; {log}"),
        _ => format!("it ended without a word; {log}"),
    }
}
