//! The road itself. It runs detached from its caller: a cancelled call neither aborts nor strands
//! what it began.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    Call, Mutation,
    in_flight::{Answer, Arrival, InFlight, Landing, wait},
};
use crate::{
    failure::{Failure, Reason},
    store::{self, NewOperation, OperationDedupStore, Recorded, Store, Write, WriteTx},
};

/// Encodes a mutation's output into the response that is answered and recorded.
pub type Encode<O> = fn(&O) -> Vec<u8>;

/// The road of one repository's writes. Clones are the same road.
#[derive(Clone)]
pub struct Road {
    store: Store,
    answers: OperationDedupStore,
    in_flight: InFlight,
    newest: watch::Sender<u64>,
    travellers: TaskTracker,
}

impl Road {
    /// The road into `store`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(store: Store) -> Result<Self, store::Error> {
        let newest = store.read(|tx| tx.newest_operation())?;
        Ok(Self {
            answers: OperationDedupStore::new(store.clone()),
            in_flight: InFlight::default(),
            newest: watch::Sender::new(newest),
            travellers: TaskTracker::new(),
            store,
        })
    }

    /// The sequence number of the newest committed operation, as it changes.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
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

        let (method, peer_pid) = (call.method, call.caller.peer_pid);
        let (answer, answered) = oneshot::channel();
        self.store.submit(Box::new(RoadWrite {
            call,
            fingerprint,
            mutation,
            encode,
            newest: self.newest.clone(),
            applied: None,
            answer,
        }));
        let committed = answered
            .await
            .unwrap_or_else(|_| Err(store::Error::Stopped.into()))?;
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

/// A mutation on the writer thread.
struct RoadWrite<M: Mutation> {
    call: Call,
    fingerprint: [u8; 32],
    mutation: M,
    encode: Encode<M::Output>,
    newest: watch::Sender<u64>,
    applied: Option<Applied<M::Output>>,
    answer: oneshot::Sender<Result<Committed, Failure>>,
}

struct Applied<O> {
    output: O,
    seq: Option<u64>,
    committed: Committed,
}

/// What is told of a commit.
struct Committed {
    response: Vec<u8>,
    /// The operation's id, where one was logged.
    operation: Option<Uuid>,
}

impl<M: Mutation> Write for RoadWrite<M> {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        let now_secs = seconds_since_epoch(SystemTime::now());
        let output = self.mutation.apply(tx)?;
        let entry = self.mutation.describe(&output);
        let operation = entry.as_ref().map(|_| Uuid::now_v7());
        let seq = match entry.zip(operation) {
            Some((entry, id)) => Some(tx.append_operation(&NewOperation {
                id,
                timestamp_secs: now_secs,
                verb: entry.verb.name(),
                thread: entry.thread.as_deref(),
                state_id: entry.state_id.as_deref(),
                actor_name: &self.call.caller.actor.name,
                actor_email: &self.call.caller.actor.email,
                agent: self.call.caller.agent.as_deref(),
                peer_uid: self.call.caller.peer_uid,
                peer_pid: self.call.caller.peer_pid,
                summary: &entry.summary,
                symbols: &entry.symbols,
                signal_kinds: &entry.signal_kinds,
            })?),
            None => None,
        };
        let response = (self.encode)(&output);
        if let Some(key) = self.call.key {
            let recorded = Recorded {
                fingerprint: self.fingerprint,
                response: response.clone(),
            };
            tx.record_answer(key, &recorded, now_secs)?;
        }
        self.applied = Some(Applied {
            output,
            seq,
            committed: Committed {
                response,
                operation,
            },
        });
        Ok(())
    }

    fn settle(mut self: Box<Self>, outcome: Result<(), store::Error>) {
        let answer = match (outcome, self.applied.take()) {
            (Ok(()), Some(applied)) => {
                self.mutation.publish(&applied.output);
                if let Some(seq) = applied.seq {
                    self.newest.send_replace(seq);
                }
                Ok(applied.committed)
            }
            (Ok(()), None) => Err(store::Error::Stopped.into()),
            (Err(error), _) => Err(error.into()),
        };
        // Nobody waits when the runtime is gone; the effect is durable all the same.
        let _ = self.answer.send(answer);
    }
}

fn seconds_since_epoch(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs() as i64,
        Err(before) => -(before.duration().as_secs() as i64),
    }
}
