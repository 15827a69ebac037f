//! Transactions that were left alone for too long are aborted.

use std::time::Duration;

use uuid::Uuid;

use super::{TransactionState, reference, rewind_reference};
use crate::{
    failure::Failure,
    git::RefMove,
    mutation::{Entry, Mutation, Verb, now_secs},
    store::{self, Store, WriteTx},
};

/// Why such a transaction was aborted.
pub const EXPIRED: &str = "expired";

/// The active transaction that was left alone for the longest time, and how long it still has.
///
/// # Errors
/// When the store cannot be read.
pub fn stalest(
    store: &Store,
    patience: Duration,
) -> Result<Option<(Uuid, Duration)>, store::Error> {
    let stalest = store.read(|tx| tx.stalest_transaction())?;
    Ok(stalest.map(|(id, used_secs)| {
        let end = used_secs.saturating_add(patience.as_secs() as i64);
        let left = end.saturating_sub(now_secs()).max(0);
        (id, Duration::from_secs(left as u64))
    }))
}

/// Aborts a transaction, if it was left alone for too long.
pub struct ExpireTransaction {
    id: Uuid,
    patience: Duration,
    thread: Option<String>,
}

impl ExpireTransaction {
    /// The change that aborts the transaction `id`, if nobody used it for `patience`.
    pub fn new(id: Uuid, patience: Duration) -> Self {
        Self {
            id,
            patience,
            thread: None,
        }
    }
}

impl Mutation for ExpireTransaction {
    /// Whether it was aborted.
    type Output = bool;

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<bool, Failure> {
        let Some(transaction) = tx.reads().transaction(self.id)? else {
            return Ok(false);
        };
        let end = transaction
            .used_secs
            .saturating_add(self.patience.as_secs() as i64);
        if transaction.state != TransactionState::Active || now_secs() < end {
            return Ok(false);
        }
        tx.end_transaction(
            self.id,
            TransactionState::Aborted,
            Some(EXPIRED),
            now_secs(),
        )?;
        self.thread = Some(transaction.thread);
        Ok(true)
    }

    fn describe(&self, aborted: &bool) -> Option<Entry> {
        aborted.then(|| Entry {
            thread: self.thread.clone(),
            ..Entry::new(
                Verb::TransactionAbort,
                format!("aborted transaction {}: {EXPIRED}", self.id),
            )
        })
    }

    fn refs(&self, aborted: &bool) -> Vec<RefMove> {
        let let_go = [reference(self.id), rewind_reference(self.id)];
        let let_go = let_go.map(RefMove::delete).into_iter();
        let_go.filter(|_| *aborted).collect()
    }
}
