//! The calls that are buffered: kept in the store, and tried out and applied in their order.

use std::sync::Arc;

use uuid::Uuid;

use super::{CALL_LIMIT, Transaction, TransactionState, aborted, check_active, known, reference};
use crate::{
    failure::{Failure, Reason},
    git::{GitDir, StateId},
    mutation::{Parcel, Replayed, Transactions, Within, now_secs},
    store::{BufferedCall, Store, WriteTx},
    thread::newest_of,
};

/// Makes changes of parcels again.
pub trait Commands: Send + Sync {
    /// The change of a parcel.
    ///
    /// # Errors
    /// When it is none that this version knows.
    fn revive(&self, parcel: &Parcel) -> Result<Box<dyn Replayed>, Failure>;
}

/// The buffered calls of all transactions.
pub struct Ledger {
    store: Store,
    commands: Arc<dyn Commands>,
}

impl Ledger {
    /// The calls in this store.
    pub fn new(store: Store, commands: Arc<dyn Commands>) -> Self {
        Self { store, commands }
    }

    /// Applies the calls of a transaction, and hands each to `each`. On any error, all must be taken
    /// back.
    ///
    /// # Errors
    /// `TRANSACTION_CONFLICT` naming the call that no longer applies, or what `each` says.
    pub(super) fn replay(
        &self,
        tx: &WriteTx<'_>,
        id: Uuid,
        mut each: impl FnMut(&dyn Replayed, &BufferedCall) -> Result<(), Failure>,
    ) -> Result<Vec<Box<dyn Replayed>>, Failure> {
        let mut applied = Vec::new();
        for (number, call) in tx.reads().buffered_calls(id)?.into_iter().enumerate() {
            let parcel: Parcel = read(id, &call.command)?;
            let mut change = self.commands.revive(&parcel)?;
            change.apply(tx).map_err(|failure| {
                // A full disk and the like are not the call's.
                if failure.reason.is_of_store() {
                    failure
                } else {
                    conflict(id, number, &call.method, &failure)
                }
            })?;
            each(&*change, &call)?;
            applied.push(change);
        }
        Ok(applied)
    }
}

impl Ledger {
    /// Refuses a commit whose refs would lead to what Git has no more: a transaction keeps what its
    /// calls captured, and not what they named. Blocks.
    ///
    /// # Errors
    /// `TRANSACTION_CONFLICT` naming the call.
    pub(super) fn check_states(&self, id: Uuid, git: &GitDir) -> Result<(), Failure> {
        let calls = self.store.read(|tx| tx.buffered_calls(id))?;
        for (number, call) in calls.into_iter().enumerate() {
            let change = self.commands.revive(&read(id, &call.command)?)?;
            if let Some(state) = change.state().filter(|&state| !git.has_object(state)) {
                let gone = format!("the state {state} is not in the repository any more");
                let gone = Failure::new(Reason::StateUnknown, gone);
                return Err(conflict(id, number, &call.method, &gone));
            }
        }
        Ok(())
    }
}

/// What was kept of a call in JSON.
pub(super) fn read<T: serde::de::DeserializeOwned>(id: Uuid, json: &str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|e| {
        tracing::error!("a buffered call of the transaction {id} is damaged: {e}");
        Failure::new(
            Reason::StoreCorrupt,
            format!("a buffered call of the transaction {id} is damaged; abort it and begin anew"),
        )
    })
}

/// Why the calls of a transaction do not apply: the first that does not.
fn conflict(id: Uuid, number: usize, method: &str, failure: &Failure) -> Failure {
    let why = match failure.reason {
        // To try it again, as a call by itself is told to, is of no use.
        Reason::ThreadMoved => "another call moved the thread",
        _ => &failure.message,
    };
    Failure::new(
        Reason::TransactionConflict,
        format!(
            "call {} of the transaction {id}, {}, no longer applies: {}; nothing was applied and it stays active: abort it and begin anew",
            number + 1,
            method.trim_start_matches('/'),
            why
        ),
    )
}

/// Refuses where a transaction's thread was moved since it began: by another call, or by a commit of
/// the user's, which `head` tells.
pub(super) fn check_thread(
    tx: &WriteTx<'_>,
    transaction: &Transaction,
    head: Option<StateId>,
) -> Result<(), Failure> {
    let newest = newest_of(tx.reads().thread(&transaction.thread)?, head);
    let newest = newest.map(StateId::to_vec);
    let head = head.map(StateId::to_vec);
    if newest == transaction.base_state && head == transaction.base_head {
        return Ok(());
    }
    let what = if head == transaction.base_head {
        "another call"
    } else {
        "a commit, a checkout or another move of HEAD"
    };
    Err(Failure::new(
        Reason::ThreadMoved,
        format!(
            "the thread `{}` was moved by {what} since the transaction {} began; nothing was applied and it stays active: abort it, begin anew from the state that the thread has now, and make the calls again",
            transaction.thread, transaction.id
        ),
    ))
}

/// Refuses where a transaction takes no more calls.
fn check_room(transaction: &Transaction) -> Result<(), Failure> {
    check_active(transaction)?;
    if transaction.calls < CALL_LIMIT {
        return Ok(());
    }
    Err(Failure::new(
        Reason::TransactionFull,
        format!(
            "the transaction {} holds {CALL_LIMIT} calls, which is the limit; commit it and begin another",
            transaction.id
        ),
    ))
}

impl Transactions for Ledger {
    fn within(&self, id: Uuid) -> Result<Within, Failure> {
        let transaction = self.store.read(|tx| Ok(known(tx, id)))??;
        if transaction.state == TransactionState::Aborted {
            return Err(aborted(&transaction));
        }
        let view = transaction.view.as_deref();
        let head = transaction.base_head.as_deref();
        Ok(Within {
            transaction: id,
            head: head.and_then(StateId::from_bytes),
            refused: check_room(&transaction).err(),
            view: view.map(|view| read(id, view)).transpose()?,
            thread: transaction.thread,
        })
    }

    fn buffer(
        &self,
        tx: &WriteTx<'_>,
        id: Uuid,
        apply: &mut dyn FnMut(&WriteTx<'_>) -> Result<BufferedCall, Failure>,
    ) -> Result<(), Failure> {
        let transaction = known(&tx.reads(), id)?;
        check_room(&transaction)?;
        let (call, view) = tx.try_out(|| {
            self.replay(tx, id, |_, _| Ok(()))?;
            let call = apply(tx)?;
            Ok((call, tx.reads().thread(&transaction.thread)?))
        })?;
        let view = view.as_ref().map(serde_json::to_string).transpose();
        let view = view.map_err(|e| Failure::new(Reason::Internal, e.to_string()))?;
        Ok(tx.buffer_call(id, &call, view.as_deref(), now_secs())?)
    }

    fn reference(&self, id: Uuid) -> String {
        reference(id)
    }
}
