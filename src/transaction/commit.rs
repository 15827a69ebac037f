//! Committing a transaction: every call that was buffered is applied, in one SQLite transaction, or
//! none is.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::{
    Ledger, TransactionState, active,
    ledger::{check_thread, read},
    reference, rewind_reference,
};
use crate::{
    capture::Captures,
    failure::Failure,
    git::{RefMove, StateId},
    mutation::{Entry, Gates, Mutation, Replayed, Told, Verb, blocking, log, now_secs},
    store::WriteTx,
    thread::newest_of,
};

/// Commits a transaction.
pub struct CommitTransaction {
    captures: Arc<Captures>,
    ledger: Arc<Ledger>,
    id: Uuid,
    gates: Gates,
    /// The worktree's HEAD now.
    head: Option<StateId>,
    applied: Vec<Box<dyn Replayed>>,
    /// Held until it is published: a capture waits, and comes after what is committed.
    thread: Option<OwnedMutexGuard<()>>,
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
    pub fn new(captures: Arc<Captures>, ledger: Arc<Ledger>, id: Uuid, gates: Gates) -> Self {
        Self {
            captures,
            ledger,
            id,
            gates,
            head: None,
            applied: Vec::new(),
            thread: None,
        }
    }
}

impl Mutation for CommitTransaction {
    type Output = Committed;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let transaction = self
            .captures
            .places()
            .store()
            .read(|tx| tx.transaction(self.id))?;
        if let Some(known) = &transaction {
            let held = self
                .captures
                .hold_thread(&known.thread, &self.gates)
                .await?;
            self.thread = Some(held);
        }
        if let Some(worktree) = transaction.and_then(|known| known.worktree) {
            self.head = self.captures.head_at(worktree).await?;
        }
        let (captures, ledger, id) = (
            Arc::clone(&self.captures),
            Arc::clone(&self.ledger),
            self.id,
        );
        blocking(move || ledger.check_states(id, &captures.places().git()?)).await
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Committed, Failure> {
        let transaction = active(tx, self.id)?;
        check_thread(tx, &transaction, self.head)?;
        self.applied = self.ledger.replay(tx, self.id, |change, call| {
            if let Some(entry) = change.entry() {
                log(tx, &read(self.id, &call.caller)?, &entry)?;
            }
            Ok(())
        })?;
        tx.end_transaction(self.id, TransactionState::Committed, None, now_secs())?;
        let thread = tx.reads().thread(&transaction.thread)?;
        Ok(Committed {
            state: newest_of(thread, self.head).map(StateId::to_vec),
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
