//! Calls that are buffered in a transaction: what the road needs to know of them. `command` knows
//! which there are, and makes changes of them again.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    failure::Failure,
    git::StateId,
    store::{BufferedCall, ThreadRecord, WriteTx},
};

/// A prepared change, as it outlives the daemon until its transaction is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// Which command it is, with the version of its content.
    pub kind: String,
    /// All that is needed to apply it, in JSON.
    pub body: String,
}

impl Parcel {
    /// A parcel of this kind.
    pub fn new(kind: &'static str, body: &impl Serialize) -> Self {
        Self {
            kind: kind.to_owned(),
            // Plain data of ours, with keys that are texts: it can always be written.
            body: serde_json::to_string(body).unwrap_or_default(),
        }
    }
}

/// What a call sees that is made within a transaction.
#[derive(Debug, Clone)]
pub struct Within {
    /// The transaction.
    pub transaction: Uuid,
    /// Its thread.
    pub thread: String,
    /// The HEAD that it began at, and can be committed at.
    pub head: Option<StateId>,
    /// That thread as the calls before this one leave it; `None` while none touched it.
    pub view: Option<ThreadRecord>,
    /// Why it takes no more calls, if it does not: those that it has taken are answered all the same.
    pub refused: Option<Failure>,
}

/// What the road asks of transactions: `transaction` keeps them.
pub trait Transactions: Send + Sync {
    /// What a call sees that is made within this transaction.
    ///
    /// # Errors
    /// When it is unknown, or was aborted.
    fn within(&self, id: Uuid) -> Result<Within, Failure>;

    /// Keeps a call until the commit, if it applies after those before it: `apply` tries it out, and
    /// answers what is to be kept.
    ///
    /// # Errors
    /// When the transaction takes no call, or the calls no longer apply.
    fn buffer(
        &self,
        tx: &WriteTx<'_>,
        id: Uuid,
        apply: &mut dyn FnMut(&WriteTx<'_>) -> Result<BufferedCall, Failure>,
    ) -> Result<(), Failure>;

    /// The ref that keeps what the calls of a transaction captured.
    fn reference(&self, id: Uuid) -> String;
}
