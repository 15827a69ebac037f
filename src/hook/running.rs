//! The commands that run now, by the secret that each was given: with it a hook that calls the daemon
//! back is known for what it is, and only while it runs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

use super::HookEvent;
use crate::{
    failure::{Failure, Reason},
    mutation::HookChain,
};

#[derive(Debug, Default)]
pub(super) struct RunningHooks(Mutex<HashMap<Uuid, RunningHook>>);

#[derive(Debug)]
struct RunningHook {
    name: String,
    event: HookEvent,
    /// The thread that waits for it.
    thread: Option<String>,
}

/// A hook that runs, until this is dropped.
pub(super) struct Run {
    hooks: Arc<RunningHooks>,
    token: Uuid,
    /// What it passes on when it calls the daemon back.
    pub(super) chain: HookChain,
}

impl RunningHooks {
    /// A hook is about to run for a call of `chain`.
    ///
    /// # Errors
    /// `HOOK_TOO_DEEP`.
    pub(super) fn begin(
        self: &Arc<Self>,
        name: &str,
        event: HookEvent,
        thread: Option<&str>,
        chain: &HookChain,
    ) -> Result<Run, Failure> {
        let token = Uuid::new_v4();
        let chain = chain.with(token)?;
        let hook = RunningHook {
            name: name.to_owned(),
            event,
            thread: thread.map(str::to_owned),
        };
        self.lock().insert(token, hook);
        Ok(Run {
            hooks: Arc::clone(self),
            token,
            chain,
        })
    }

    /// Refuses a write to a thread that waits for a hook which the write comes from. What is not
    /// known here has ended, or is another daemon's.
    ///
    /// # Errors
    /// `HOOK_REENTRANT`.
    pub(super) fn enter(&self, chain: &HookChain, thread: &str) -> Result<(), Failure> {
        if chain.depth() == 0 {
            return Ok(());
        }
        let hooks = self.lock();
        let mut callers = chain.tokens().iter().filter_map(|token| hooks.get(token));
        let waits = callers.find(|hook| hook.thread.as_deref() == Some(thread));
        waits.map_or(Ok(()), |hook| Err(reentrant(hook, thread)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, RunningHook>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.hooks.lock().remove(&self.token);
    }
}

fn reentrant(hook: &RunningHook, thread: &str) -> Failure {
    let (name, event) = (&hook.name, hook.event.name());
    Failure::new(
        Reason::HookReentrant,
        format!(
            "the hook `{name}` writes to the thread `{thread}`, which waits for what that hook says to {event}; let it write to another thread, or after it, from a post_ event"
        ),
    )
    .with("hook", name.as_str())
    .with("event", event)
}
