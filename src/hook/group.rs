//! A process group of our own making, known by its leader, which it does not outlive.

use std::{
    io,
    process::{Child, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// The group of a process that was started as the leader of one. Clones are the same group.
#[derive(Debug, Clone)]
pub(super) struct Group {
    leader: Pid,
    /// Once the leader is reaped its number may be another's.
    is_reaped: Arc<Mutex<bool>>,
}

impl Group {
    pub(super) fn of(leader: &Child) -> Self {
        Self {
            leader: Pid::from_raw(leader.id() as i32),
            is_reaped: Arc::default(),
        }
    }

    /// Kills all of it.
    pub(super) fn kill(&self) {
        if !*self.is_reaped() {
            // It may have ended by itself, or its leader have gone to another group.
            let _ = killpg(self.leader, Signal::SIGKILL);
            let _ = kill(self.leader, Signal::SIGKILL);
        }
    }

    /// Waits for the leader, kills what is left of the group, and only then reaps it.
    pub(super) fn reap(&self, mut leader: Child) -> io::Result<ExitStatus> {
        if let Some(pid) = rustix::process::Pid::from_raw(self.leader.as_raw()) {
            let wait = || {
                waitid(
                    WaitId::Pid(pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
                )
            };
            while matches!(wait(), Err(rustix::io::Errno::INTR)) {}
        }
        self.kill();
        let mut is_reaped = self.is_reaped();
        let status = leader.wait();
        *is_reaped = true;
        status
    }

    fn is_reaped(&self) -> MutexGuard<'_, bool> {
        self.is_reaped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
