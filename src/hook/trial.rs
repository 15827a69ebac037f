//! Trying a hook: running its command on a payload, and telling all that came of it.

use std::time::Duration;

use uuid::Uuid;

use super::{
    Hook, HookEvent, Hooks,
    answer::Answer,
    hooks::judge,
    payload::{checked, sample},
    run::Ended,
};
use crate::{
    failure::{Failure, Reason},
    mutation::{Asked, ExtraSignal, HookChain},
};

/// What to try.
#[derive(Debug, Clone)]
pub struct TrialRequest {
    /// The hook's name.
    pub name: String,
    /// The event; the first one that the hook is told of where there is none.
    pub event: Option<HookEvent>,
    /// The payload; a sample where there is none.
    pub payload: Option<String>,
    /// The state that a sample names.
    pub state: String,
    /// The hooks that the call came from.
    pub chain: HookChain,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The hook.
    pub hook: Hook,
    /// The event.
    pub event: HookEvent,
    /// The payload.
    pub payload: String,
    /// Why it vetoes, or would if the event were a gate.
    pub veto: Option<String>,
    /// The signals that it raises.
    pub extra_signals: Vec<ExtraSignal>,
    /// Its exit status, where it ended by itself.
    pub exit_status: Option<i32>,
    /// Whether it was killed after its time.
    pub timed_out: bool,
    /// The beginning of what it wrote.
    pub stdout: String,
    /// The beginning of what it wrote as errors.
    pub stderr: String,
    /// Whether it wrote more than that.
    pub is_cut: bool,
    /// How long it took.
    pub took: Duration,
}

impl Hooks {
    /// Runs one hook's command as if something had happened. Nothing is changed by the daemon; what
    /// the command does is its own.
    ///
    /// # Errors
    /// `HOOK_UNKNOWN`, or `INVALID_FIELD` for an event or payload that it cannot be given.
    pub async fn try_out(&self, asked: TrialRequest) -> Result<Trial, Failure> {
        let hooks = self.registry().hooks();
        let hook = hooks.iter().find(|hook| hook.name() == asked.name);
        let hook = hook.cloned().ok_or_else(|| unknown(&asked.name))?;
        let first = hook.events().first().copied();
        let event = asked.event.or(first).unwrap_or(HookEvent::PreCapture);
        let payload = match &asked.payload {
            Some(payload) => checked(event, payload)?,
            None => sample(event, &asked.state),
        };
        let about = Asked {
            event,
            thread: None,
            payload: payload.as_str().into(),
            chain: asked.chain,
        };
        let ran = self.run(&hook, &about, Uuid::now_v7()).await?;
        let (veto, extra_signals) = match judge(&hook, event, &ran) {
            Answer::Pass(signals) => (None, signals),
            Answer::Veto(reason) => (Some(reason), Vec::new()),
        };
        Ok(Trial {
            hook,
            event,
            payload,
            veto,
            extra_signals,
            exit_status: match ran.ended {
                Ended::Exited(status) => Some(status),
                _ => None,
            },
            timed_out: matches!(ran.ended, Ended::TimedOut(_)),
            stdout: ran.stdout.text(),
            stderr: ran.stderr.text(),
            is_cut: ran.stdout.is_cut || ran.stderr.is_cut,
            took: ran.took,
        })
    }
}

fn unknown(name: &str) -> Failure {
    let asked: String = name.chars().take(64).collect();
    Failure::field(
        Reason::HookUnknown,
        "name",
        format!("there is no hook {asked:?}; `heddle hook list` shows those that there are"),
    )
}
