//! The one road of a write: recognise, prepare, commit, publish. Every state-changing call is one
//! value of a [`Mutation`] and travels it; no handler writes by itself.

mod in_flight;
mod road;
mod verb;

use std::future::Future;

use uuid::Uuid;

pub use road::Road;
pub use verb::Verb;

use crate::{failure::Failure, git::Identity, store::WriteTx};

/// A change, as a value.
pub trait Mutation: Send + 'static {
    /// What the caller is answered.
    type Output: Send;

    /// Everything that must not happen in the store: gates, Git objects, computing. It runs once,
    /// before [`Mutation::apply`].
    fn prepare(&mut self) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// Makes the change. It may run again from scratch when the commit it shared was rolled back.
    ///
    /// # Errors
    /// Whatever refuses the change; nothing of it then remains.
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Self::Output, Failure>;

    /// The entry of the operation log; `None` when nothing changed.
    fn describe(&self, output: &Self::Output) -> Option<Entry>;

    /// Makes the committed change visible in memory. It runs in the order of commits, after the
    /// sync and before the answer, on the writer thread: it must be quick and cannot fail.
    fn publish(&mut self, output: &Self::Output) {
        let _ = output;
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub transaction: Option<String>,
    /// The request, encoded again: what a retry must repeat.
    pub request: Vec<u8>,
    /// Who acts.
    pub caller: Caller,
}
