//! Reading transactions.

use uuid::Uuid;

use super::{Transaction, known};
use crate::{failure::Failure, store::Store};

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
