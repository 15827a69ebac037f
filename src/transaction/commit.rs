//! Committing a transaction: every call that was buffered is applied, in one SQLite transaction, or
//! none is.

use std::sync::Arc;

use uuid::Uuid;

use super::{Transaction, TransactionState, active, known, reference, rewind_reference};
use crate::{
    capture::Captures,
    failure::{Failure, Reason},
    git::{RefMove, StateId},
    mutation::{Caller, Commands, Entry, Mutation, Parcel, Replayed, Told, Verb, log, now_secs},
    store::WriteTx,
};

/// Commits a transaction.
pub struct CommitTransaction {
    captures: Arc<Captures>,
    commands: Arc<dyn Commands>,
    id: Uuid,
    /// The worktree's HEAD now.
    head: Option<StateId>,
    applied: Vec<Box<dyn Replayed>>,
}

/// A transaction that was committed.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The thread's state after it.
    pub state: Option<Vec<u8>>,
    /// Calls that were applied.
    pub calls: u32,
    thread: String,
}

impl CommitTransaction {
    /// The change that commits the transaction `id`.
    pub fn new(captures: Arc<Captures>, commands: Arc<dyn Commands>, id: Uuid) -> Self {
        Self {
            captures,
            commands,
            id,
            head: None,
            applied: Vec::new(),
        }
    }

    /// Refuses where the thread was moved since the transaction began: by another call, or by a
    /// commit of the user's.
    fn check_thread(&self, tx: &WriteTx<'_>, transaction: &Transaction) -> Result<(), Failure> {
        let now = tx.reads().thread(&transaction.thread)?;
        let head = self.head.map(StateId::to_vec);
        let newest = now.and_then(|mut thread| {
            thread.follow(self.head);
            thread.current_state
        });
        let newest = newest.or_else(|| head.clone());
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
}

/// Why a transaction cannot be committed: a call of it no longer applies.
fn conflict(id: Uuid, number: usize, method: &str, failure: &Failure) -> Failure {
    let method = method.trim_start_matches('/');
    Failure::new(
        Reason::TransactionConflict,
        format!(
            "call {} of the transaction {id}, {method}, no longer applies: {}; nothing was applied and it stays active: abort it and begin anew",
            number + 1,
            failure.message
        ),
    )
}

/// Applies the calls of a transaction. On any error, all must be taken back.
pub(crate) fn replay(
    commands: &dyn Commands,
    tx: &WriteTx<'_>,
    id: Uuid,
    mut each: impl FnMut(&dyn Replayed, &str) -> Result<(), Failure>,
) -> Result<Vec<Box<dyn Replayed>>, Failure> {
    let mut applied = Vec::new();
    for (number, call) in tx.reads().buffered_calls(id)?.into_iter().enumerate() {
        let parcel: Parcel = serde_json::from_str(&call.command).map_err(|e| damaged(id, &e))?;
        let mut change = commands.revive(parcel)?;
        change.apply(tx).map_err(|failure| match failure.reason {
            // A full disk and the like are not the call's.
            reason if reason.is_of_store() => failure,
            _ => conflict(id, number, &call.method, &failure),
        })?;
        each(&*change, &call.caller)?;
        applied.push(change);
    }
    Ok(applied)
}

fn damaged(id: Uuid, error: &serde_json::Error) -> Failure {
    tracing::error!("a buffered call of the transaction {id} is damaged: {error}");
    Failure::new(
        Reason::StoreCorrupt,
        format!("a buffered call of the transaction {id} is damaged; abort it and begin anew"),
    )
}

impl Mutation for CommitTransaction {
    type Output = Committed;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let transaction = self.captures.places().store().read(|tx| tx.transaction(self.id))?;
        if let Some(worktree) = transaction.and_then(|known| known.worktree) {
            self.head = self.captures.head_at(worktree).await?;
        }
        Ok(())
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Committed, Failure> {
        let transaction = active(tx, self.id)?;
        self.check_thread(tx, &transaction)?;
        self.applied = replay(&*self.commands, tx, self.id, |change, caller| {
            let caller: Caller =
                serde_json::from_str(caller).map_err(|e| damaged(transaction.id, &e))?;
            if let Some(entry) = change.entry() {
                log(tx, &caller, &entry)?;
            }
            Ok(())
        })?;
        tx.end_transaction(self.id, TransactionState::Committed, None, now_secs())?;
        let thread = tx.reads().thread(&transaction.thread)?;
        let state = thread.and_then(|thread| thread.current_state);
        Ok(Committed {
            state: state.or(transaction.base_state),
            calls: transaction.calls,
            thread: transaction.thread,
        })
    }

    fn describe(&self, committed: &Committed) -> Option<Entry> {
        let calls = match committed.calls {
            1 => "1 call".to_owned(),
            calls => format!("{calls} calls"),
        };
        Some(Entry {
            thread: Some(committed.thread.clone()),
            state_id: committed.state.clone(),
            ..Entry::new(
                Verb::TransactionCommit,
                format!("committed transaction {} with {calls}", self.id),
            )
        })
    }

    fn refs(&self, _: &Committed) -> Vec<RefMove> {
        let moved = self.applied.iter().flat_map(|change| change.refs());
        let let_go = [reference(self.id), rewind_reference(self.id)];
        moved.chain(let_go.map(RefMove::delete)).collect()
    }

    fn tell(&self, _: &Committed, told: &mut Told<'_>) {
        for change in &self.applied {
            change.tell(told);
        }
    }

    fn publish(&mut self, _: &Committed) {
        for change in &mut self.applied {
            change.publish();
        }
    }
}

/// Whether a transaction can take a call now, and what the call then sees.
pub(crate) fn check_active(
    tx: &crate::store::ReadTx<'_>,
    id: Uuid,
) -> Result<Transaction, Failure> {
    known(tx, id)
}
