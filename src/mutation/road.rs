//! The road itself. It runs detached from its caller: a cancelled call neither aborts nor strands
//! what it began.

use std::{sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::sync::{Notify, oneshot, watch};
use uuid::Uuid;

use super::{
    Call, Carried, Intent, Listeners, Mutation, Transactions, Unfinished, Within,
    change::{Change, Encode},
    in_flight::{Answer, Arrival, InFlight, Landing, wait},
    under_way::{UnderWay, Unended},
    write::{BufferWrite, Committed, IntentEnd, IntentWrite, Projections, RoadWrite},
};
use crate::{
    failure::{Failure, Reason},
    git::{RefWriter, Repository},
    store::{self, OperationDedupStore, Store},
};

/// The road of one repository's writes. Clones are the same road.
#[derive(Clone)]
pub struct Road {
    store: Store,
    answers: OperationDedupStore,
    in_flight: InFlight,
    projections: Projections,
    transactions: Arc<dyn Transactions>,
    under_way: UnderWay,
}

impl Road {
    /// The road into `store`, and on to the refs of `repository`. Moves of refs that a daemon
    /// before this one committed and did not make are `upkeep::reconcile`'s to make. `listeners` are
    /// told of changes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(
        store: Store,
        repository: &Repository,
        listeners: Arc<dyn Listeners>,
        transactions: Arc<dyn Transactions>,
    ) -> Result<Self, store::Error> {
        let newest = store.read(|tx| tx.newest_operation())?;
        Ok(Self {
            projections: Projections {
                newest: watch::Sender::new(newest),
                captured: Arc::default(),
                refs: RefWriter::new(repository.clone()),
                listeners,
            },
            answers: OperationDedupStore::new(store.clone()),
            in_flight: InFlight::default(),
            transactions,
            under_way: UnderWay::default(),
            store,
        })
    }

    /// The sequence number of the newest committed operation, as it changes.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.projections.newest.subscribe()
    }

    /// Notified when something may have been captured.
    pub fn captured(&self) -> Arc<Notify> {
        Arc::clone(&self.projections.captured)
    }

    /// Waits until the refs of everything that is committed by now have been moved, where they can
    /// be.
    pub async fn refs_made(&self) {
        // A commit is told to the refs before the writer comes to this question.
        self.store.writer_answers().await;
        let (done, made) = oneshot::channel();
        self.projections.refs.after_all(move || {
            let _ = done.send(());
        });
        // It is dropped where there is no thread to move refs with, and nothing to wait for.
        let _ = made.await;
    }

    /// Whether the answer to this key is recorded.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_answer(&self, key: Uuid) -> Result<bool, store::Error> {
        Ok(self.answers.find(key)?.is_some())
    }

    /// Waits for this long until no write is under way; none may begin any more. Answers those that
    /// still are. What they do not come to commit is as after a kill: not acknowledged, and undone
    /// by the next start where it was begun.
    pub async fn settled(&self, patience: Duration) -> Vec<Unended> {
        self.under_way.settled(patience).await
    }

    /// Carries out a call and answers its encoded response: once, however often it is retried with
    /// one key (G3), and only after it is durable (G4).
    ///
    /// # Errors
    /// The mutation's own, or the road's: a key used for something else, a failing store. A failure
    /// is not recorded, so the call may be tried again.
    pub async fn run<M: Mutation>(
        &self,
        call: Call,
        mutation: M,
        encode: Encode<M::Output>,
    ) -> Answer {
        self.carry(call, Box::new(Carried::new(mutation, encode)))
            .await
    }

    /// The same for a change of whichever type.
    async fn carry(&self, mut call: Call, change: Box<dyn Change>) -> Answer {
        let fingerprint = fingerprint(&call);
        // Up to 4 MiB that nobody needs any more, with a queue of writes before it.
        call.request = Vec::new();
        let landing = match call.key {
            None => None,
            Some(key) => loop {
                match self.in_flight.arrive(key, fingerprint) {
                    Arrival::First(landing) => break Some(landing),
                    Arrival::Same(answer) => return wait(answer).await,
                    // It may itself be refused, as the key's answer may be ours: what is recorded
                    // tells, once it has ended.
                    Arrival::Different(answer) => drop(wait(answer).await),
                }
            },
        };
        let (road, method) = (self.clone(), call.method);
        let travel = async move {
            let answer = road.travel(call, fingerprint, change).await;
            land(landing, &answer);
            answer
        };
        let travelled = self.under_way.run(method, travel).await;
        travelled.unwrap_or_else(|failed| {
            tracing::error!("a write ended without an answer: {failed}");
            Err(Failure::new(
                Reason::Internal,
                "the daemon failed while it carried out the call; its log says more",
            ))
        })
    }

    async fn travel(
        &self,
        call: Call,
        fingerprint: [u8; 32],
        mut change: Box<dyn Change>,
    ) -> Answer {
        // The answers of a transaction that was aborted are void.
        let within = match call.transaction {
            Some(id) => Some(self.transactions.within(id)?),
            None => None,
        };
        if let Some(key) = call.key
            && let Some(recorded) = self.answers.find(key)?
        {
            return if recorded.fingerprint == fingerprint {
                Ok(recorded.response)
            } else {
                Err(reused())
            };
        }
        if let Some(mut within) = within {
            // Before it is prepared, and somebody is asked in vain.
            if let Some(refused) = within.refused.take() {
                return Err(refused);
            }
            return self.buffer(call, within, fingerprint, change).await;
        }
        change.prepare().await?;
        let (change, intent) = match change.intent() {
            None => (change, None),
            Some(intent) => {
                let (change, id) = self.effect(&call, change, intent).await?;
                (change, Some(id))
            }
        };
        let (method, peer_pid) = (call.method, call.caller.peer_pid);
        let (change, committed) = self.commit(call, fingerprint, change, intent).await?;
        let committed = match (committed, intent) {
            (Err(failure), Some(intent)) => {
                return Err(self.take_back(change, intent, failure).await);
            }
            (committed, _) => committed?,
        };
        if let Some(operation) = committed.operation {
            tracing::info!(
                heddle_method = method,
                heddle_operation_id = %operation,
                heddle_peer_pid = peer_pid,
                "committed"
            );
        }
        Ok(committed.response)
    }

    /// Prepares a call and keeps it until its transaction is committed; its answer is final.
    async fn buffer(
        &self,
        call: Call,
        within: Within,
        fingerprint: [u8; 32],
        mut change: Box<dyn Change>,
    ) -> Answer {
        change.enter(&within);
        change.prepare().await?;
        if change.parcel().is_none() {
            return Err(not_bufferable(&call));
        }
        let (answer, answered) = oneshot::channel();
        self.store.submit(Box::new(BufferWrite {
            call,
            transaction: within.transaction,
            fingerprint,
            change,
            projections: self.projections.clone(),
            transactions: Arc::clone(&self.transactions),
            applied: None,
            answer,
        }));
        // With the change go its locks.
        let (_change, answer) = answered.await.map_err(|_| store::Error::Stopped)?;
        answer
    }

    /// Writes an intent down and does what it says; answers its id.
    async fn effect(
        &self,
        call: &Call,
        change: Box<dyn Change>,
        intent: Intent,
    ) -> Result<(Box<dyn Change>, i64), Failure> {
        let (answer, answered) = oneshot::channel();
        self.store.submit(Box::new(IntentWrite {
            caller: call.caller.clone(),
            hooks: call.hooks.clone(),
            change,
            intent,
            projections: self.projections.clone(),
            applied: None,
            answer,
        }));
        let (mut change, id) = answered.await.map_err(|_| store::Error::Stopped)?;
        let id = id?;
        match change.act().await {
            Ok(()) => Ok((change, id)),
            Err(Unfinished { failure, undone }) => {
                if undone {
                    self.end_intent(id).await;
                }
                Err(failure)
            }
        }
    }

    /// The change on the writer thread, and its refs; given back, for it holds its locks for as long
    /// as it lives.
    async fn commit(
        &self,
        call: Call,
        fingerprint: [u8; 32],
        change: Box<dyn Change>,
        intent: Option<i64>,
    ) -> Result<(Box<dyn Change>, Result<Committed, Failure>), Failure> {
        let (answer, answered) = oneshot::channel();
        self.store.submit(Box::new(RoadWrite {
            call,
            fingerprint,
            change,
            intent,
            projections: self.projections.clone(),
            applied: None,
            answer,
        }));
        answered.await.map_err(|_| store::Error::Stopped.into())
    }

    /// What was done outside the store is undone: its change could not be committed.
    async fn take_back(
        &self,
        mut change: Box<dyn Change>,
        intent: i64,
        failure: Failure,
    ) -> Failure {
        if self.store.has_stopped() {
            // After a failed sync nobody knows whether it is committed; the next start does.
            return failure;
        }
        match change.undo().await {
            Ok(()) => self.end_intent(intent).await,
            // It stays open, and the next start tries again.
            Err(undo) => tracing::error!("what was begun could not be undone: {undo}"),
        }
        failure
    }

    /// An effect has ended, or was undone: the next start has nothing to do with it.
    pub async fn end_intent(&self, id: i64) {
        let (done, answered) = oneshot::channel();
        self.store.submit(Box::new(IntentEnd::new(id, done)));
        let ended = answered
            .await
            .unwrap_or_else(|_| Err(store::Error::Stopped.into()));
        if let Err(failure) = ended {
            tracing::warn!("what was undone is not written down as such: {failure}");
        }
    }
}

pub(super) fn not_bufferable(call: &Call) -> Failure {
    let method = call.method.trim_start_matches('/');
    Failure::new(
        Reason::NotBufferable,
        format!(
            "{method}, as it was called, cannot be part of a transaction; nothing was changed: make the call without heddle-transaction-id"
        ),
    )
}

fn land(landing: Option<Landing>, answer: &Answer) {
    if let Some(landing) = landing {
        landing.land(answer.clone());
    }
}

/// SHA-256 over method, transaction and request: what makes a retry the same call.
fn fingerprint(call: &Call) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(call.method);
    hash.update([0]);
    if let Some(transaction) = call.transaction {
        hash.update(transaction.to_string());
    }
    hash.update([0]);
    hash.update(&call.request);
    hash.finalize().into()
}

fn reused() -> Failure {
    Failure::field(
        Reason::OperationIdReused,
        "client_operation_id",
        "this client_operation_id was used before for a different request; use a new UUID for each new request, and the same one only for a retry",
    )
}
