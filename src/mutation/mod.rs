//! The one road of a write: recognise, prepare, commit, publish. Every state-changing call is one
//! value of a [`Mutation`] and travels it; no handler writes by itself.

mod blocking;
mod buffer;
mod change;
mod event;
mod gate;
mod in_flight;
mod locks;
mod road;
mod under_way;
mod verb;
mod write;

use std::future::Future;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use blocking::blocking;
pub use buffer::{Parcel, Transactions, Within};
pub use change::{Carried, Replayed};
pub use event::HookEvent;
pub use gate::{
    Asked, DEPTH_LIMIT, ExtraSignal, Gates, HookChain, Listeners, News, Passed, PostCapture,
    PostThreadCreate, PreCapture, PreThreadCreate, Question, Told, state_in_hex,
};
pub use locks::Locks;
pub use road::Road;
pub use under_way::Unended;
pub use verb::Verb;
pub use write::{log, now_millis, now_secs};

use crate::{
    failure::{Failure, Reason},
    git::{Identity, RefMove, StateId},
    store::WriteTx,
};

/// A change, as a value.
pub trait Mutation: Send + 'static {
    /// What the caller is answered.
    type Output: Send;

    /// Everything that must not happen in the store: gates, Git objects, computing. It runs once,
    /// before [`Mutation::apply`].
    fn prepare(&mut self) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// Told before [`Mutation::prepare`] that the call is made within a transaction.
    fn enter(&mut self, within: &Within) {
        let _ = within;
    }

    /// The change, as it is kept until its transaction is committed; `None`, once it is prepared,
    /// where it cannot be part of one. It is asked for after [`Mutation::apply`] tried it out: where
    /// the answer depends on what was there, that belongs to it.
    fn parcel(&self) -> Option<Parcel> {
        None
    }

    /// The state that the prepared change makes refs lead to, if it can be part of a transaction.
    fn state(&self) -> Option<StateId> {
        None
    }

    /// What is about to be done outside the store that can still fail, or be cut short. Where there
    /// is something, it is committed first; then [`Mutation::act`] does it, and the change is
    /// committed with the intent's end. What a start finds open was cut short, and is undone.
    fn intent(&self) -> Option<Intent> {
        None
    }

    /// What is committed together with the intent, before the effect begins.
    ///
    /// # Errors
    /// Whatever refuses it; the effect is then not begun.
    fn before(&mut self, tx: &WriteTx<'_>) -> Result<Trace, Failure> {
        let _ = tx;
        Ok(Trace::default())
    }

    /// Does what was intended, or nothing of it.
    fn act(&mut self) -> impl Future<Output = Result<(), Unfinished>> + Send {
        std::future::ready(Ok(()))
    }

    /// Undoes what was done, because its change could not be committed.
    fn undo(&mut self) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// Makes the change. It may run again from scratch when the commit it shared was rolled back.
    ///
    /// # Errors
    /// Whatever refuses the change; nothing of it then remains.
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Self::Output, Failure>;

    /// The entry of the operation log; `None` when nothing changed.
    fn describe(&self, output: &Self::Output) -> Option<Entry>;

    /// The last entry of the operation log that [`Mutation::apply`] added by itself, its id and
    /// sequence number: for a change that has more of them, or whose entries are somebody else's.
    fn logged(&self, output: &Self::Output) -> Option<(Uuid, u64)> {
        let _ = output;
        None
    }

    /// The refs that the change moves, in this order. They are moved after the commit and before
    /// the answer.
    fn refs(&self, output: &Self::Output) -> Vec<RefMove> {
        let _ = output;
        Vec::new()
    }

    /// What hooks are told of the change. It is committed with it, and told after it: at least once.
    fn tell(&self, output: &Self::Output, told: &mut Told<'_>) {
        let _ = (output, told);
    }

    /// Makes the committed change visible in memory. It runs in the order of commits, after the
    /// sync and before the answer, on the writer thread: it must be quick and cannot fail.
    fn publish(&mut self, output: &Self::Output) {
        let _ = output;
    }
}

/// What a change answers that is applied and was not prepared. The road prepares first: it is never told.
pub fn unprepared() -> Failure {
    Failure::new(Reason::Internal, "the change was not prepared")
}

/// An effect outside the store, as it is written down before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// What sort of effect: who undoes it.
    pub kind: &'static str,
    /// All that is needed to undo it, in JSON.
    pub body: String,
}

impl Intent {
    /// An intent of this kind.
    pub fn new(kind: &'static str, body: &impl serde::Serialize) -> Self {
        // Plain data of ours, with keys that are texts: it can always be written.
        let body = serde_json::to_string(body).unwrap_or_default();
        Self { kind, body }
    }
}

/// What a change leaves in the log and among the refs.
#[derive(Debug, Default)]
pub struct Trace {
    /// Its entry of the operation log.
    pub entry: Option<Entry>,
    /// The refs that it moves, in this order.
    pub refs: Vec<RefMove>,
}

/// Why an effect was not brought about.
#[derive(Debug)]
pub struct Unfinished {
    /// What the caller is told.
    pub failure: Failure,
    /// Whether all is as it was before. Otherwise the intent stays open, and the next start tries
    /// again to undo it.
    pub undone: bool,
}

impl From<Failure> for Unfinished {
    fn from(failure: Failure) -> Self {
        let undone = true;
        Self { failure, undone }
    }
}

/// One entry of the operation log, as a mutation describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was done.
    pub verb: Verb,
    /// The thread it was done to, if to one.
    pub thread: Option<String>,
    /// The state it led to, if to one.
    pub state_id: Option<Vec<u8>>,
    /// One line for people.
    pub summary: String,
    /// Symbols that it touched, as `file:symbol`.
    pub symbols: Vec<String>,
    /// Kinds of the signals that it raised.
    pub signal_kinds: Vec<String>,
}

impl Entry {
    /// An entry about the repository as a whole.
    pub fn new(verb: Verb, summary: impl Into<String>) -> Self {
        Self {
            verb,
            thread: None,
            state_id: None,
            summary: summary.into(),
            symbols: Vec::new(),
            signal_kinds: Vec::new(),
        }
    }
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The person or agent that the change is attributed to.
    pub actor: Identity,
    /// The agent that acts for the actor: `provider/model`.
    pub agent: Option<String>,
    /// The user of the calling process, as the kernel says.
    pub peer_uid: Option<u32>,
    /// The calling process; advisory, it may be gone.
    pub peer_pid: Option<i32>,
}

/// A call that changes state, apart from the change itself.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method's full name.
    pub method: &'static str,
    /// The `client_operation_id`, if one was given.
    pub key: Option<Uuid>,
    /// The transaction to buffer the call in, if one was named.
    pub transaction: Option<Uuid>,
    /// The request, encoded again: what a retry must repeat.
    pub request: Vec<u8>,
    /// Who acts.
    pub caller: Caller,
    /// The hooks that the call came from.
    pub hooks: HookChain,
}

impl Call {
    /// A change of the daemon's own.
    pub fn own(method: &'static str) -> Self {
        Self {
            method,
            key: None,
            transaction: None,
            request: Vec::new(),
            caller: Caller {
                actor: Identity {
                    name: "heddle".to_owned(),
                    email: String::new(),
                },
                agent: None,
                peer_uid: None,
                peer_pid: None,
            },
            hooks: HookChain::default(),
        }
    }
}
