//! What the road hands to the writer thread: a mutation, and what surrounds one.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::{Call, Intent, Mutation, road::Encode};
use crate::{
    failure::Failure,
    git::{RefMove, RefWriter},
    store::{self, NewOperation, Recorded, Write, WriteTx},
};

/// A mutation on the writer thread.
pub(super) struct RoadWrite<M: Mutation> {
    pub(super) call: Call,
    pub(super) fingerprint: [u8; 32],
    pub(super) mutation: M,
    /// The intent that the change completes.
    pub(super) intent: Option<i64>,
    pub(super) encode: Encode<M::Output>,
    pub(super) newest: watch::Sender<u64>,
    pub(super) refs: RefWriter,
    pub(super) applied: Option<Applied<M::Output>>,
    pub(super) answer: oneshot::Sender<(M, Result<Committed, Failure>)>,
}

pub(super) struct Applied<O> {
    output: O,
    seq: Option<u64>,
    moves: Vec<RefMove>,
    committed: Committed,
}

/// What is told of a commit.
pub(super) struct Committed {
    pub(super) response: Vec<u8>,
    /// The operation's id, where one was logged.
    pub(super) operation: Option<Uuid>,
}

impl<M: Mutation> RoadWrite<M> {
    fn log(&self, tx: &WriteTx<'_>, output: &M::Output) -> Result<Option<(Uuid, u64)>, Failure> {
        let Some(entry) = self.mutation.describe(output) else {
            return Ok(None);
        };
        let id = Uuid::now_v7();
        let caller = &self.call.caller;
        let seq = tx.append_operation(&NewOperation {
            id,
            timestamp_secs: now_secs(),
            verb: entry.verb.name(),
            thread: entry.thread.as_deref(),
            state_id: entry.state_id.as_deref(),
            actor_name: &caller.actor.name,
            actor_email: &caller.actor.email,
            agent: caller.agent.as_deref(),
            peer_uid: caller.peer_uid,
            peer_pid: caller.peer_pid,
            summary: &entry.summary,
            symbols: &entry.symbols,
            signal_kinds: &entry.signal_kinds,
        })?;
        Ok(Some((id, seq)))
    }

    fn moves(&self, tx: &WriteTx<'_>, output: &M::Output) -> Result<Vec<RefMove>, Failure> {
        if let Some(made) = self.refs.made() {
            tx.forget_ref_moves(made)?;
        }
        let mut moves = self.mutation.refs(output);
        for a_move in &mut moves {
            a_move.id = tx.add_ref_move(&a_move.name, a_move.target_bytes())?;
        }
        Ok(moves)
    }
}

impl<M: Mutation> Write for RoadWrite<M> {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        let output = self.mutation.apply(tx)?;
        let logged = self.log(tx, &output)?;
        let moves = self.moves(tx, &output)?;
        if let Some(intent) = self.intent {
            tx.end_intent(intent)?;
        }
        let response = (self.encode)(&output);
        if let Some(key) = self.call.key {
            let recorded = Recorded {
                fingerprint: self.fingerprint,
                response: response.clone(),
            };
            tx.record_answer(key, &recorded, now_secs())?;
        }
        self.applied = Some(Applied {
            output,
            seq: logged.map(|(_, seq)| seq),
            moves,
            committed: Committed {
                response,
                operation: logged.map(|(id, _)| id),
            },
        });
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), store::Error>) {
        let Self {
            mut mutation,
            newest,
            refs,
            applied,
            answer,
            ..
        } = *self;
        // Nobody waits when the runtime is gone; the effect is durable all the same.
        let answer = move |told| drop(answer.send(told));
        match outcome.and(applied.ok_or(store::Error::Stopped)) {
            Ok(applied) => {
                mutation.publish(&applied.output);
                if let Some(seq) = applied.seq {
                    newest.send_replace(seq);
                }
                let told = (mutation, Ok(applied.committed));
                refs.make(applied.moves, move || answer(told));
            }
            Err(error) => answer((mutation, Err(error.into()))),
        }
    }
}

/// Writes down what is about to be done.
pub(super) struct IntentWrite {
    intent: Intent,
    id: Option<i64>,
    done: oneshot::Sender<Result<i64, Failure>>,
}

impl IntentWrite {
    pub(super) fn new(intent: Intent, done: oneshot::Sender<Result<i64, Failure>>) -> Self {
        Self {
            intent,
            id: None,
            done,
        }
    }
}

impl Write for IntentWrite {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        self.id = Some(tx.begin_intent(self.intent.kind, &self.intent.body, now_secs())?);
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), store::Error>) {
        let id = self.id.ok_or(store::Error::Stopped);
        let _ = self.done.send(outcome.and(id).map_err(Failure::from));
    }
}

/// What was begun has been undone.
pub(super) struct IntentEnd {
    id: i64,
    done: oneshot::Sender<Result<(), Failure>>,
}

impl IntentEnd {
    pub(super) fn new(id: i64, done: oneshot::Sender<Result<(), Failure>>) -> Self {
        Self { id, done }
    }
}

impl Write for IntentEnd {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        Ok(tx.end_intent(self.id)?)
    }

    fn settle(self: Box<Self>, outcome: Result<(), store::Error>) {
        let _ = self.done.send(outcome.map_err(Failure::from));
    }
}

/// Now, in seconds since the Unix epoch.
pub fn now_secs() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs() as i64,
        Err(before) => -(before.duration().as_secs() as i64),
    }
}
