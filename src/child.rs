//! The one constructor of child processes.

use std::{ffi::OsStr, process::Command};

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
