//! Transactions: calls that are buffered, and applied all together or not at all.

mod abort;
mod begin;
mod commit;
mod expiry;
mod ledger;
mod queries;

use uuid::Uuid;

use crate::{
    failure::{Failure, Reason},
    git::NAMESPACE,
    store::{ReadTx, WriteTx},
};

pub use abort::{AbortRequest, AbortTransaction};
pub use begin::{BeginRequest, BeginTransaction, Begun};
pub use commit::{CommitTransaction, Committed};
pub use expiry::{ExpireTransaction, stalest};
pub use ledger::{Commands, Ledger};
pub(crate) use queries::held_refs;
pub use queries::{list, status};

pub use crate::store::{TransactionRecord as Transaction, TransactionState};

/// Calls that a transaction can hold.
pub const CALL_LIMIT: u32 = 256;

/// Transactions that may be active at once.
pub const ACTIVE_LIMIT: u32 = 256;

/// How long a transaction that has ended is remembered: as long as the answers of its calls.
const RETENTION_SECS: i64 = crate::store::DEDUP_RETENTION.as_secs() as i64;

/// A transaction's id that a caller gave in the request's `field`.
///
/// # Errors
/// `INVALID_FIELD` when it cannot be one.
pub fn parse_id(id: &str, field: &'static str) -> Result<Uuid, Failure> {
    Uuid::try_parse(id).map_err(|_| {
        let asked: String = id.chars().take(64).collect();
        Failure::field(
            Reason::InvalidField,
            field,
            format!("{asked:?} is not the id of a transaction; give the one that BeginTransaction answered"),
        )
    })
}

/// The ref that keeps what the calls of a transaction captured.
fn reference(id: Uuid) -> String {
    format!("{NAMESPACE}transactions/{id}")
}

/// The ref that keeps the state that an abort can go back to.
fn rewind_reference(id: Uuid) -> String {
    format!("{NAMESPACE}rewind/{id}")
}

/// The transaction of this id, which must be there.
fn known(tx: &ReadTx<'_>, id: Uuid) -> Result<Transaction, Failure> {
    tx.transaction(id)?.ok_or_else(|| {
        Failure::new(
            Reason::TransactionUnknown,
            format!("there is no transaction {id}, or it ended more than 7 days ago; `heddle txn list` shows those that are active"),
        )
    })
}

/// The transaction of this id, which must be active.
fn active(tx: &WriteTx<'_>, id: Uuid) -> Result<Transaction, Failure> {
    let transaction = known(&tx.reads(), id)?;
    check_active(&transaction)?;
    Ok(transaction)
}

fn check_active(transaction: &Transaction) -> Result<(), Failure> {
    match transaction.state {
        TransactionState::Active => Ok(()),
        TransactionState::Aborted => Err(aborted(transaction)),
        TransactionState::Committed => Err(Failure::new(
            Reason::TransactionNotActive,
            format!(
                "the transaction {} was committed, and can neither take calls nor end again; begin another one",
                transaction.id
            ),
        )),
    }
}

fn aborted(transaction: &Transaction) -> Failure {
    let why = transaction.reason.as_deref().filter(|why| !why.is_empty());
    Failure::new(
        Reason::TransactionAborted,
        format!(
            "the transaction {} was aborted{}; nothing of it was applied: begin another one",
            transaction.id,
            why.map_or_else(String::new, |why| format!(" ({why})"))
        ),
    )
}
