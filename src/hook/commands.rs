//! The writes on the registry.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    HOOK_LIMIT, Hook, HookEvent, Hooks, OUTPUT_LIMIT, PeerProcess, Registry,
    answer::{Answer, extra_signals, shortened},
    check_name, payload,
    subscriber::Claim,
};
use crate::{
    failure::{Failure, Reason},
    mutation::{Entry, Gates, Listeners, Mutation, Parcel, Told, Verb, blocking},
    store::WriteTx,
};

/// Adds a hook, or replaces the one of its name.
#[derive(Debug)]
pub struct RegisterHook {
    hook: Hook,
    registry: Arc<Registry>,
    /// Who must not be more confined than we are; nobody where it was looked at before.
    asked_by: Option<Arc<PeerProcess>>,
}

impl RegisterHook {
    /// The change that puts `hook` into `registry`.
    pub fn new(hook: Hook, registry: Arc<Registry>) -> Self {
        Self {
            hook,
            registry,
            asked_by: None,
        }
    }

    /// The same, asked for by a process: accepted only where that is no more confined than this one
    /// (G5).
    pub fn asked_by(mut self, process: Arc<PeerProcess>) -> Self {
        self.asked_by = Some(process);
        self
    }
}

impl Mutation for RegisterHook {
    type Output = Hook;

    /// Here and not before the road: a retry whose answer is recorded registers nothing, and is given
    /// that answer whoever makes it (G3).
    async fn prepare(&mut self) -> Result<(), Failure> {
        match self.asked_by.clone() {
            Some(process) => blocking(move || process.check_unconfined()).await,
            None => Ok(()),
        }
    }

    fn parcel(&self) -> Option<Parcel> {
        Some(Parcel::new("register_hook.1", &self.hook.record()))
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Hook, Failure> {
        let (count, known) = tx.count_hooks(self.hook.name())?;
        if !known && count >= HOOK_LIMIT {
            return Err(Failure::new(
                Reason::TooManyHooks,
                format!(
                    "cannot register the hook `{}`: there are {HOOK_LIMIT} already, which is the limit; remove one first",
                    self.hook.name()
                ),
            ));
        }
        tx.put_hook(&self.hook.record())?;
        Ok(self.hook.clone())
    }

    fn describe(&self, hook: &Hook) -> Option<Entry> {
        let events: Vec<&str> = hook.events().iter().map(|event| event.name()).collect();
        let events = if events.is_empty() {
            "every event".to_owned()
        } else {
            events.join(", ")
        };
        let summary = format!("registered hook `{}` for {events}", hook.name());
        Some(Entry::new(Verb::HookRegister, summary))
    }

    fn publish(&mut self, hook: &Hook) {
        self.registry.put(hook);
    }
}

/// Removes a hook.
#[derive(Debug)]
pub struct DeregisterHook {
    name: String,
    registry: Arc<Registry>,
    /// Whether there was one, as the change was applied last.
    deleted: bool,
    /// The same, as a transaction has answered it.
    answered: Option<bool>,
}

/// The removal of a hook as a transaction keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeregisteredHook {
    name: String,
    deleted: bool,
}

impl DeregisterHook {
    /// The change that takes the hook `name` out of `registry`.
    ///
    /// # Errors
    /// `INVALID_FIELD` when no hook can have that name.
    pub fn new(name: String, registry: Arc<Registry>) -> Result<Self, Failure> {
        check_name(&name)?;
        Ok(Self {
            name,
            registry,
            deleted: false,
            answered: None,
        })
    }

    /// The removal that a transaction kept: it is made only if it does what was answered.
    pub fn again(kept: DeregisteredHook, registry: Arc<Registry>) -> Self {
        Self {
            name: kept.name,
            registry,
            deleted: false,
            answered: Some(kept.deleted),
        }
    }
}

impl Mutation for DeregisterHook {
    /// Whether there was such a hook.
    type Output = bool;

    fn parcel(&self) -> Option<Parcel> {
        let kept = DeregisteredHook {
            name: self.name.clone(),
            deleted: self.deleted,
        };
        Some(Parcel::new("deregister_hook.1", &kept))
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<bool, Failure> {
        self.deleted = tx.delete_hook(&self.name)?;
        match self.answered {
            Some(answered) if answered != self.deleted => {
                let (was, is) = match answered {
                    true => ("", "none any more"),
                    false => ("no ", "one now"),
                };
                Err(Failure::new(
                    Reason::HookUnknown,
                    format!(
                        "there was {was}hook `{}` when it was answered, and there is {is}",
                        self.name
                    ),
                ))
            }
            _ => Ok(self.deleted),
        }
    }

    fn describe(&self, deleted: &bool) -> Option<Entry> {
        deleted.then(|| {
            Entry::new(
                Verb::HookDeregister,
                format!("removed hook `{}`", self.name),
            )
        })
    }

    fn publish(&mut self, deleted: &bool) {
        if *deleted {
            self.registry.remove(&self.name);
        }
    }
}

/// Fires an event that is not the daemon's own: what Git does, told by Git's hooks.
pub struct FireEvent {
    event: HookEvent,
    payload: Arc<str>,
    heard: bool,
    gates: Gates,
}

impl FireEvent {
    /// The firing of `event` with a payload in JSON.
    ///
    /// # Errors
    /// `INVALID_FIELD` for an event that the daemon fires by itself, or a payload that is none.
    pub fn new(
        event: HookEvent,
        payload_json: &str,
        hooks: &Hooks,
        gates: Gates,
    ) -> Result<Self, Failure> {
        if !event.is_gits() {
            let names = HookEvent::ALL.iter().filter(|event| event.is_gits());
            let names: Vec<&str> = names.map(|event| event.name()).collect();
            return Err(Failure::field(
                Reason::InvalidField,
                "event_name",
                format!(
                    "{} is fired by the daemon itself, when it happens; from outside come only {}",
                    event.name(),
                    names.join(", ")
                ),
            ));
        }
        Ok(Self {
            payload: payload::checked(event, payload_json)?.into(),
            heard: hooks.hear(event),
            event,
            gates,
        })
    }
}

impl Mutation for FireEvent {
    /// Whether anybody listened.
    type Output = bool;

    async fn prepare(&mut self) -> Result<(), Failure> {
        if self.heard && self.event.is_gate() {
            let payload = Arc::clone(&self.payload);
            self.gates.ask_about(self.event, payload).await?;
        }
        Ok(())
    }

    fn apply(&mut self, _: &WriteTx<'_>) -> Result<bool, Failure> {
        Ok(self.heard)
    }

    fn describe(&self, _: &bool) -> Option<Entry> {
        None
    }

    fn tell(&self, _: &bool, told: &mut Told<'_>) {
        if !self.event.is_gate() {
            told.tell_about(self.event, &self.payload);
        }
    }
}

/// A live subscriber's answer to a gate.
pub struct RespondToHook {
    hooks: Arc<Hooks>,
    question: Option<Uuid>,
    answer: Answer,
    claim: Option<Claim>,
}

impl RespondToHook {
    /// The answer to the question `id`: a veto where `abort` says why, else a pass, perhaps with
    /// signals in JSON.
    ///
    /// # Errors
    /// `INVALID_FIELD` for signals that cannot be kept.
    pub fn new(hooks: Arc<Hooks>, id: &str, abort: &str, signals: &str) -> Result<Self, Failure> {
        // What is no id of ours was never asked.
        let question = Uuid::try_parse(id).ok();
        let asked = question.and_then(|id| hooks.subscribers.asked(id));
        let signals = match (signals, &asked) {
            ("", _) => Vec::new(),
            (signals, Some((name, HookEvent::PreCapture))) => {
                read_signals(name, signals).map_err(|why| bad_signals(&why))?
            }
            (_, Some((_, event))) => {
                let why = format!("{} takes none, only pre_capture does", event.name());
                return Err(bad_signals(&why));
            }
            // Nobody waits for it: there is nobody to blame for what it says.
            (_, None) => Vec::new(),
        };
        let answer = if abort.trim().is_empty() {
            Answer::Pass(signals)
        } else {
            Answer::Veto(shortened(abort))
        };
        Ok(Self {
            hooks,
            question,
            answer,
            claim: None,
        })
    }

    /// Answers at once, without a record of it; false when nobody waits for the answer.
    pub fn answer(mut self) -> bool {
        let claim = self.question.and_then(|id| self.hooks.claim(id));
        let answer = std::mem::replace(&mut self.answer, Answer::Pass(Vec::new()));
        claim.is_some_and(|mut claim| claim.answer(answer))
    }
}

fn read_signals(hook: &str, signals: &str) -> Result<Vec<crate::mutation::ExtraSignal>, String> {
    if signals.len() > OUTPUT_LIMIT {
        return Err(format!(
            "they have {} bytes, and {OUTPUT_LIMIT} are the limit",
            signals.len()
        ));
    }
    let signals = serde_json::from_str(signals).map_err(|error| error.to_string())?;
    extra_signals(hook, &signals)
}

fn bad_signals(why: &str) -> Failure {
    Failure::field(
        Reason::InvalidField,
        "extra_signals_json",
        format!(
            "the extra signals cannot be kept: {why}; see the response schema of `heddle hook schema pre_capture`"
        ),
    )
}

/// With a key the answer is recorded, so that a retry of it is not taken for a second answer.
impl Mutation for RespondToHook {
    /// Whether it counted.
    type Output = bool;

    async fn prepare(&mut self) -> Result<(), Failure> {
        self.claim = self.question.and_then(|id| self.hooks.claim(id));
        Ok(())
    }

    fn apply(&mut self, _: &WriteTx<'_>) -> Result<bool, Failure> {
        Ok(self.claim.as_ref().is_some_and(Claim::is_waited_for))
    }

    fn describe(&self, _: &bool) -> Option<Entry> {
        None
    }

    fn publish(&mut self, accepted: &bool) {
        let answer = std::mem::replace(&mut self.answer, Answer::Pass(Vec::new()));
        if let Some(claim) = self.claim.as_mut().filter(|_| *accepted) {
            // Whoever asked may have stopped waiting in the last moment; what was recorded stays.
            claim.answer(answer);
        }
    }
}
