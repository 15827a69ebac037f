//! Reading transactions.

use uuid::Uuid;

use super::{ACTIVE_LIMIT, Transaction, known, reference, rewind_reference};
use crate::{
    failure::Failure,
    git::StateId,
    store::{self, ReadTx, Store},
};

/// Transactions in one answer.
const LIST_LIMIT: u32 = 1_000;

/// How a transaction stands.
///
/// # Errors
/// `TRANSACTION_UNKNOWN`.
pub fn status(store: &Store, id: Uuid) -> Result<Transaction, Failure> {
    store.read(|tx| Ok(known(tx, id)))?
}

/// Transactions, the newest first; only those that are active, unless `ended` ones are wanted too.
///
/// # Errors
/// When the store cannot be read.
pub fn list(store: &Store, ended: bool) -> Result<Vec<Transaction>, Failure> {
    Ok(store.read(|tx| tx.transactions(!ended, LIST_LIMIT))?)
}

/// The refs that active transactions hold, and where they led at first: buffered captures move them
/// on.
pub(crate) fn held_refs(tx: &ReadTx<'_>) -> Result<Vec<(String, StateId)>, store::Error> {
    let active = tx.transactions(true, ACTIVE_LIMIT)?.into_iter();
    let held = active.flat_map(|transaction| {
        [
            (reference(transaction.id), transaction.base_state),
            (rewind_reference(transaction.id), transaction.rewind_state),
        ]
    });
    let led = |(name, state): (String, Option<Vec<u8>>)| {
        let state = StateId::from_bytes(state.as_deref()?)?;
        Some((name, state))
    };
    Ok(held.filter_map(led).collect())
}
