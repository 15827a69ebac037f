//! The road itself. It runs detached from its caller: a cancelled call neither aborts nor strands
//! what it began.

use sha2::{Digest, Sha256};
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use super::{
    Call, Intent, Mutation, Unfinished,
    in_flight::{Answer, Arrival, InFlight, Landing, wait},
    write::{Committed, IntentEnd, IntentWrite, Projections, RoadWrite},
};
use crate::{
    failure::{Failure, Reason},
    git::{RefMove, RefWriter, Repository, StateId},
    store::{self, OperationDedupStore, RefMoveRecord, Store},
};

/// Encodes a mutation's output into the response that is answered and recorded.
pub type Encode<O> = fn(&O) -> Vec<u8>;

/// The road of one repository's writes. Clones are the same road.
#[derive(Clone)]
pub struct Road {
    store: Store,
    answers: OperationDedupStore,
    in_flight: InFlight,
    projections: Projections,
    travellers: TaskTracker,
}

impl Road {
    /// The road into `store`, and on to the refs of `repository`. Moves of refs that a daemon
    /// before this one committed and did not make are made now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(store: Store, repository: &Repository) -> Result<Self, store::Error> {
        let (newest, moves) = store.read(|tx| Ok((tx.newest_operation()?, tx.ref_moves()?)))?;
        let refs = RefWriter::new(repository.clone());
        refs.catch_up(moves.into_iter().map(to_move).collect());
        Ok(Self {
            projections: Projections {
                newest: watch::Sender::new(newest),
                refs,
            },
            answers: OperationDedupStore::new(store.clone()),
            in_flight: InFlight::default(),
            travellers: TaskTracker::new(),
            store,
        })
    }

    /// The sequence number of the newest committed operation, as it changes.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.projections.newest.subscribe()
    }

    /// Waits until no write is under way; none may begin any more.
    pub async fn settled(&self) {
        self.travellers.close();
        self.travellers.wait().await;
    }

    /// Carries out a call and answers its encoded response: once, however often it is retried with
    /// one key (G3), and only after it is durable (G4).
    ///
    /// # Errors
    /// The mutation's own, or the road's: a key used for something else, a failing store. A failure
    /// is not recorded, so the call may be tried again.
    pub async fn run<M: Mutation>(
        &self,
        mut call: Call,
        mutation: M,
        encode: Encode<M::Output>,
    ) -> Answer {
        if call.transaction.is_some() {
            return Err(Failure::new(
                Reason::NotImplemented,
                format!(
                    "{} cannot be buffered: transactions are not in this version of the daemon; send the call without heddle-transaction-id",
                    call.method
                ),
            ));
        }
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
        let road = self.clone();
        let travel = async move {
            let answer = road.travel(call, fingerprint, mutation, encode).await;
            land(landing, &answer);
            answer
        };
        self.travellers
            .spawn(travel)
            .await
            .unwrap_or_else(|failed| {
                tracing::error!("a write ended without an answer: {failed}");
                Err(Failure::new(
                    Reason::Internal,
                    "the daemon failed while it carried out the call; its log says more",
                ))
            })
    }

    async fn travel<M: Mutation>(
        &self,
        call: Call,
        fingerprint: [u8; 32],
        mut mutation: M,
        encode: Encode<M::Output>,
    ) -> Answer {
        if let Some(key) = call.key
            && let Some(recorded) = self.answers.find(key)?
        {
            return if recorded.fingerprint == fingerprint {
                Ok(recorded.response)
            } else {
                Err(reused())
            };
        }
        mutation.prepare().await?;
        let (mutation, intent) = match mutation.intent() {
            None => (mutation, None),
            Some(intent) => {
                let (mutation, id) = self.effect(&call, mutation, intent).await?;
                (mutation, Some(id))
            }
        };
        let (method, peer_pid) = (call.method, call.caller.peer_pid);
        let (mutation, committed) = self
            .commit(call, fingerprint, mutation, intent, encode)
            .await?;
        let committed = match (committed, intent) {
            (Err(failure), Some(intent)) => {
                return Err(self.take_back(mutation, intent, failure).await);
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

    /// Writes an intent down and does what it says; answers its id.
    async fn effect<M: Mutation>(
        &self,
        call: &Call,
        mutation: M,
        intent: Intent,
    ) -> Result<(M, i64), Failure> {
        let (answer, answered) = oneshot::channel();
        self.store.submit(Box::new(IntentWrite {
            caller: call.caller.clone(),
            mutation,
            intent,
            projections: self.projections.clone(),
            applied: None,
            answer,
        }));
        let (mut mutation, id) = answered.await.map_err(|_| store::Error::Stopped)?;
        let id = id?;
        match mutation.act().await {
            Ok(()) => Ok((mutation, id)),
            Err(Unfinished { failure, undone }) => {
                if undone {
                    self.end_intent(id).await;
                }
                Err(failure)
            }
        }
    }

    /// The change on the writer thread, and its refs; with the mutation, which holds its locks for
    /// as long as it lives.
    async fn commit<M: Mutation>(
        &self,
        call: Call,
        fingerprint: [u8; 32],
        mutation: M,
        intent: Option<i64>,
        encode: Encode<M::Output>,
    ) -> Result<(M, Result<Committed, Failure>), Failure> {
        let (answer, answered) = oneshot::channel();
        self.store.submit(Box::new(RoadWrite {
            call,
            fingerprint,
            mutation,
            intent,
            encode,
            projections: self.projections.clone(),
            applied: None,
            answer,
        }));
        answered.await.map_err(|_| store::Error::Stopped.into())
    }

    /// What was done outside the store is undone: its change could not be committed.
    async fn take_back<M: Mutation>(
        &self,
        mut mutation: M,
        intent: i64,
        failure: Failure,
    ) -> Failure {
        if self.store.has_stopped() {
            // After a failed sync nobody knows whether it is committed; the next start does.
            return failure;
        }
        match mutation.undo().await {
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

fn to_move(record: RefMoveRecord) -> RefMove {
    RefMove {
        id: record.id,
        name: record.name,
        target: record.target.as_deref().and_then(StateId::from_bytes),
    }
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
    hash.update(call.transaction.as_deref().unwrap_or_default());
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
