//! What the road knows of hooks: there may be somebody to ask before a change, and to tell after it.
//! `hook` is who asks and tells; with nobody there, neither costs anything.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::HookEvent;
use crate::{
    failure::{Failure, Reason},
    git::StateId,
    store::{self, WriteTx},
};

/// Hooks that may call each other: a hook that was called by a hook, and so on.
pub const DEPTH_LIMIT: usize = 4;

/// Whom the road asks and tells.
pub trait Listeners: Send + Sync {
    /// Whether anybody listens to `event`. Costs a load or two.
    fn hear(&self, event: HookEvent) -> bool;

    /// Asks everybody who listens; one veto is enough.
    fn ask(
        &self,
        asked: Asked,
    ) -> Pin<Box<dyn Future<Output = Result<Passed, Failure>> + Send + '_>>;

    /// Refuses a write to `thread` by a hook that the thread waits for.
    ///
    /// # Errors
    /// `HOOK_REENTRANT`.
    fn enter(&self, chain: &HookChain, thread: &str) -> Result<(), Failure>;

    /// Refuses a change that would run one hook more inside the others than there may be.
    ///
    /// # Errors
    /// `HOOK_TOO_DEEP`.
    fn may_tell(&self, event: HookEvent, chain: &HookChain) -> Result<(), Failure>;

    /// Notices up to this one are committed.
    fn told(&self, newest: i64);
}

/// A question to a gate.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The gate.
    pub event: HookEvent,
    /// The thread that waits for the answer, if one does.
    pub thread: Option<String>,
    /// What it is about: a JSON object, as the event's schema has it.
    pub payload: Arc<str>,
    /// The hooks that the call came from.
    pub chain: HookChain,
}

/// What those who let something pass said besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Signals to keep with the state, in the order of their being said.
    pub extra_signals: Vec<ExtraSignal>,
}

/// A risk that a hook saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraSignal {
    /// Who saw it.
    pub hook: String,
    /// What sort of risk.
    pub kind: String,
    /// All of it, in JSON: `kind`, `reason`, perhaps `anchor`.
    pub body: String,
}

impl Passed {
    /// Keeps the signals with the state that was captured.
    ///
    /// # Errors
    /// When the store refuses them.
    pub fn keep(&self, tx: &WriteTx<'_>, state: StateId) -> Result<(), store::Error> {
        for signal in &self.extra_signals {
            tx.add_extra_signal(state.as_bytes(), &signal.hook, &signal.kind, &signal.body)?;
        }
        Ok(())
    }
}

/// The hooks that a call was made from, outermost first, each by the secret that it was given. Empty
/// for a call that no hook made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookChain(Arc<[Uuid]>);

impl HookChain {
    /// Reads what `HEDDLE_HOOK_TOKEN` holds, which came in the metadata `field`.
    ///
    /// # Errors
    /// `INVALID_FIELD` when it is no such text, `HOOK_TOO_DEEP` when it is too long a chain.
    pub fn parse(text: &str, field: &'static str) -> Result<Self, Failure> {
        let tokens: Result<Arc<[Uuid]>, _> = text.split('.').map(Uuid::try_parse).collect();
        let tokens = tokens.map_err(|_| {
            Failure::field(
                Reason::InvalidField,
                field,
                format!("the metadata {field} is not what HEDDLE_HOOK_TOKEN held; pass that on as it is, or nothing"),
            )
        })?;
        if tokens.len() > DEPTH_LIMIT {
            return Err(too_deep(tokens.len()));
        }
        Ok(Self(tokens))
    }

    /// How many hooks are inside one another.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// The hooks, outermost first.
    pub fn tokens(&self) -> &[Uuid] {
        &self.0
    }

    /// The chain of a hook that is run for a call of this one.
    ///
    /// # Errors
    /// `HOOK_TOO_DEEP`.
    pub fn with(&self, token: Uuid) -> Result<Self, Failure> {
        self.room()?;
        let tokens = self.0.iter().copied().chain([token]);
        Ok(Self(tokens.collect()))
    }

    /// Whether one hook more may be run inside these.
    ///
    /// # Errors
    /// `HOOK_TOO_DEEP`.
    pub fn room(&self) -> Result<(), Failure> {
        if self.depth() < DEPTH_LIMIT {
            Ok(())
        } else {
            Err(too_deep(self.depth() + 1))
        }
    }
}

impl fmt::Display for HookChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, token) in self.0.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{token}")?;
        }
        Ok(())
    }
}

fn too_deep(depth: usize) -> Failure {
    Failure::new(
        Reason::HookTooDeep,
        format!(
            "the call comes from a hook, and would run hooks {depth} deep inside one another, where {DEPTH_LIMIT} are the limit; nothing was changed: let the hook leave such calls out"
        ),
    )
}

/// The gates, as one call comes to them.
#[derive(Clone)]
pub struct Gates {
    listeners: Arc<dyn Listeners>,
    chain: HookChain,
}

impl Gates {
    /// The gates for a call that was made from these hooks.
    pub fn new(listeners: Arc<dyn Listeners>, chain: HookChain) -> Self {
        Self { listeners, chain }
    }

    /// To be called before a thread is waited for: a hook that writes to the thread that waits for
    /// it would wait for ever.
    ///
    /// # Errors
    /// `HOOK_REENTRANT`.
    pub fn enter(&self, thread: &str) -> Result<(), Failure> {
        self.listeners.enter(&self.chain, thread)
    }

    /// Whether anybody wants to be asked: where to ask is costly, look here first.
    pub fn is_asked<Q: Question>(&self) -> bool {
        self.listeners.hear(Q::EVENT)
    }

    /// Asks those who listen, if there are any; only then is the question put together.
    ///
    /// # Errors
    /// `HOOK_VETOED` with the hook's name and reason.
    pub async fn ask<Q: Question>(
        &self,
        question: impl FnOnce() -> Q + Send,
    ) -> Result<Passed, Failure> {
        if !self.listeners.hear(Q::EVENT) {
            return Ok(Passed::default());
        }
        let question = question();
        let asked = Asked {
            event: Q::EVENT,
            thread: Some(question.thread().to_owned()),
            payload: to_json(&question).into(),
            chain: self.chain.clone(),
        };
        drop(question);
        self.listeners.ask(asked).await
    }

    /// Asks a gate that is not the daemon's own.
    ///
    /// # Errors
    /// As [`Gates::ask`].
    pub async fn ask_about(&self, event: HookEvent, payload: Arc<str>) -> Result<Passed, Failure> {
        let asked = Asked {
            event,
            thread: None,
            payload,
            chain: self.chain.clone(),
        };
        self.listeners.ask(asked).await
    }
}

/// A question of the daemon's own to a gate.
pub trait Question: Serialize + Send {
    /// The gate.
    const EVENT: HookEvent;

    /// The thread that waits for the answer.
    fn thread(&self) -> &str;
}

/// A notice of the daemon's own.
pub trait News: Serialize {
    /// What happened.
    const EVENT: HookEvent;
}

/// A capture is about to be made.
#[derive(Debug, Serialize)]
pub struct PreCapture {
    /// The thread.
    pub thread: String,
    /// What the change is meant to do.
    pub intent: String,
    /// The state that it comes after, if after one.
    #[serde(serialize_with = "state_in_hex")]
    pub base_state: Option<StateId>,
    /// What differs from that state.
    pub changed_paths: Vec<String>,
    /// The tree that is about to be captured, in hex: what Git can be asked for it.
    pub tree: String,
    /// The worktree that it was taken from.
    pub worktree: String,
}

impl Question for PreCapture {
    const EVENT: HookEvent = HookEvent::PreCapture;

    fn thread(&self) -> &str {
        &self.thread
    }
}

/// A thread is about to be started.
#[derive(Debug, Serialize)]
pub struct PreThreadCreate {
    /// Its name.
    pub name: String,
    /// The state that it starts from, if from one.
    #[serde(serialize_with = "state_in_hex")]
    pub from_state: Option<StateId>,
}

impl Question for PreThreadCreate {
    const EVENT: HookEvent = HookEvent::PreThreadCreate;

    fn thread(&self) -> &str {
        &self.name
    }
}

/// A capture was made.
#[derive(Debug, Serialize)]
pub struct PostCapture {
    /// The thread.
    pub thread: String,
    /// The state.
    #[serde(serialize_with = "state_in_hex")]
    pub state_id: Option<StateId>,
    /// The state that it came after, if after one.
    #[serde(serialize_with = "state_in_hex")]
    pub parent_state: Option<StateId>,
}

impl News for PostCapture {
    const EVENT: HookEvent = HookEvent::PostCapture;
}

/// A thread was started.
#[derive(Debug, Serialize)]
pub struct PostThreadCreate {
    /// Its name.
    pub name: String,
    /// The state that it started from, if from one.
    #[serde(serialize_with = "state_in_hex")]
    pub state_id: Option<StateId>,
}

impl News for PostThreadCreate {
    const EVENT: HookEvent = HookEvent::PostThreadCreate;
}

/// An id as hooks are given it: in hex, and empty where there is none.
///
/// # Errors
/// The serializer's.
pub fn state_in_hex<S: Serializer>(id: &Option<StateId>, to: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => to.collect_str(id),
        None => to.serialize_str(""),
    }
}

fn to_json(value: &impl Serialize) -> String {
    // Plain data of ours, with keys that are texts: it can always be written.
    serde_json::to_string(value).unwrap_or_default()
}

/// Collects what is to be told of a change. It is committed with the change, and told after it.
pub struct Told<'a> {
    listeners: &'a dyn Listeners,
    notices: Vec<(HookEvent, String)>,
}

impl<'a> Told<'a> {
    pub(super) fn new(listeners: &'a dyn Listeners) -> Self {
        Self {
            listeners,
            notices: Vec::new(),
        }
    }

    /// Tells those who listen, if there are any; only then are the news put together.
    pub fn tell<N: News>(&mut self, news: impl FnOnce() -> N) {
        if self.listeners.hear(N::EVENT) {
            self.notices.push((N::EVENT, to_json(&news())));
        }
    }

    /// Tells of something that is not the daemon's own; `payload` is the event's JSON object.
    pub fn tell_about(&mut self, event: HookEvent, payload: &str) {
        if self.listeners.hear(event) {
            self.notices.push((event, payload.to_owned()));
        }
    }

    /// Writes the notices beside the change; answers the last one's place.
    pub(super) fn write(self, tx: &WriteTx<'_>, chain: &HookChain) -> Result<Option<i64>, Failure> {
        let mut newest = None;
        for (event, payload) in &self.notices {
            self.listeners.may_tell(*event, chain)?;
            newest = tx.add_notice(
                Uuid::now_v7(),
                event.name(),
                payload,
                &chain.to_string(),
                super::now_millis(),
            )?;
        }
        Ok(newest)
    }
}
