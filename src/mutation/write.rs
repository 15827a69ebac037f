//! What the road hands to the writer thread: a mutation, and what surrounds one.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::{
    Call, Caller, Entry, Intent, Listeners, Mutation, Told, Trace, Transactions, Verb,
    road::{Encode, not_bufferable},
};
use crate::{
    failure::{Failure, Reason},
    git::{RefMove, RefWriter, StateId},
    store::{self, BufferedCall, NewOperation, Recorded, Write, WriteTx},
};

/// Where a commit is told of: to those that follow the log, to Git's refs, and to hooks.
#[derive(Clone)]
pub(super) struct Projections {
    pub(super) newest: watch::Sender<u64>,
    pub(super) refs: RefWriter,
    pub(super) listeners: Arc<dyn Listeners>,
}

/// What was written of a change in the log and the outbox.
pub(super) struct Traced {
    operation: Option<(Uuid, u64)>,
    moves: Vec<RefMove>,
}

impl Projections {
    fn write(&self, tx: &WriteTx<'_>, caller: &Caller, trace: Trace) -> Result<Traced, Failure> {
        let operation = match trace.entry {
            Some(entry) => Some(log(tx, caller, &entry)?),
            None => None,
        };
        if let Some(made) = self.refs.made() {
            tx.forget_ref_moves(made)?;
        }
        let mut moves = trace.refs;
        for a_move in &mut moves {
            a_move.id = tx.add_ref_move(&a_move.name, a_move.target_bytes())?;
        }
        Ok(Traced { operation, moves })
    }

    /// After the commit: `done` is called when the refs were moved.
    fn publish(&self, traced: Traced, done: impl FnOnce() + Send + 'static) {
        if let Some((_, seq)) = traced.operation {
            self.newest.send_replace(seq);
        }
        self.refs.make(traced.moves, done);
    }
}

/// Adds an entry to the operation log; answers its id and sequence number.
///
/// # Errors
/// When the store refuses it.
pub fn log(tx: &WriteTx<'_>, caller: &Caller, entry: &Entry) -> Result<(Uuid, u64), Failure> {
    let id = Uuid::now_v7();
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
    Ok((id, seq))
}

/// A mutation on the writer thread.
pub(super) struct RoadWrite<M: Mutation> {
    pub(super) call: Call,
    pub(super) fingerprint: [u8; 32],
    pub(super) mutation: M,
    /// The intent that the change completes.
    pub(super) intent: Option<i64>,
    pub(super) encode: Encode<M::Output>,
    pub(super) projections: Projections,
    pub(super) applied: Option<Applied<M::Output>>,
    pub(super) answer: oneshot::Sender<(M, Result<Committed, Failure>)>,
}

pub(super) struct Applied<O> {
    output: O,
    traced: Traced,
    /// The last notice to hooks, where there is one.
    notice: Option<i64>,
    committed: Committed,
}

/// What is told of a commit.
pub(super) struct Committed {
    pub(super) response: Vec<u8>,
    /// The operation's id, where one was logged.
    pub(super) operation: Option<Uuid>,
}

impl<M: Mutation> Write for RoadWrite<M> {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        let output = self.mutation.apply(tx)?;
        let trace = Trace {
            entry: self.mutation.describe(&output),
            refs: self.mutation.refs(&output),
        };
        let mut traced = self.projections.write(tx, &self.call.caller, trace)?;
        traced.operation = traced.operation.or(self.mutation.logged(&output));
        let mut told = Told::new(&*self.projections.listeners);
        self.mutation.tell(&output, &mut told);
        let notice = told.write(tx, &self.call.hooks)?;
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
            notice,
            committed: Committed {
                response,
                operation: traced.operation.map(|(id, _)| id),
            },
            traced,
        });
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), store::Error>) {
        let Self {
            mut mutation,
            projections,
            applied,
            answer,
            ..
        } = *self;
        // Nobody waits when the runtime is gone; the effect is durable all the same.
        let answer = move |told| drop(answer.send(told));
        match outcome.and(applied.ok_or(store::Error::Stopped)) {
            Ok(applied) => {
                mutation.publish(&applied.output);
                let listeners = Arc::clone(&projections.listeners);
                let told = (mutation, Ok(applied.committed));
                projections.publish(applied.traced, move || {
                    answer(told);
                    // The refs are where a hook looks for them, and nobody waits for it.
                    if let Some(newest) = applied.notice {
                        listeners.told(newest);
                    }
                });
            }
            Err(error) => answer((mutation, Err(error.into()))),
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::new(Reason::Internal, e.to_string()))
}

/// A call on the writer thread that is kept until its transaction is committed.
pub(super) struct BufferWrite<M: Mutation> {
    pub(super) call: Call,
    pub(super) transaction: Uuid,
    pub(super) fingerprint: [u8; 32],
    pub(super) mutation: M,
    pub(super) encode: Encode<M::Output>,
    pub(super) projections: Projections,
    pub(super) transactions: Arc<dyn Transactions>,
    pub(super) applied: Option<(Vec<u8>, Traced)>,
    pub(super) answer: oneshot::Sender<(M, Result<Vec<u8>, Failure>)>,
}

impl<M: Mutation> Write for BufferWrite<M> {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        let mut tried = None;
        let (mutation, encode, call) = (&mut self.mutation, self.encode, &self.call);
        self.transactions.buffer(tx, self.transaction, &mut |tx| {
            let output = mutation.apply(tx)?;
            let captured = mutation
                .describe(&output)
                .filter(|e| e.verb == Verb::Snapshot);
            let state = captured.and_then(|entry| entry.state_id);
            tried = Some((encode(&output), state));
            let parcel = mutation.parcel().ok_or_else(|| not_bufferable(call))?;
            Ok(BufferedCall {
                method: call.method.to_owned(),
                command: json(&parcel)?,
                caller: json(&call.caller)?,
            })
        })?;
        let (response, state) = tried.ok_or(store::Error::Stopped)?;
        if let Some(key) = self.call.key {
            let recorded = Recorded {
                fingerprint: self.fingerprint,
                response: response.clone(),
            };
            tx.record_answer(key, &recorded, now_secs())?;
        }
        // Nothing else leads to what was captured, and `git gc` must not take it.
        let state = state.as_deref().and_then(StateId::from_bytes);
        let keep =
            state.map(|state| RefMove::to(self.transactions.reference(self.transaction), state));
        let trace = Trace {
            entry: None,
            refs: keep.into_iter().collect(),
        };
        let traced = self.projections.write(tx, &self.call.caller, trace)?;
        self.applied = Some((response, traced));
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), store::Error>) {
        let Self {
            mutation,
            projections,
            applied,
            answer,
            ..
        } = *self;
        let answer = move |told| drop(answer.send(told));
        match outcome.and(applied.ok_or(store::Error::Stopped)) {
            Ok((response, traced)) => {
                projections.publish(traced, move || answer((mutation, Ok(response))));
            }
            Err(error) => answer((mutation, Err(error.into()))),
        }
    }
}

/// Writes down what is about to be done, and what goes before it.
pub(super) struct IntentWrite<M: Mutation> {
    pub(super) caller: Caller,
    pub(super) mutation: M,
    pub(super) intent: Intent,
    pub(super) projections: Projections,
    pub(super) applied: Option<(i64, Traced)>,
    pub(super) answer: oneshot::Sender<(M, Result<i64, Failure>)>,
}

impl<M: Mutation> Write for IntentWrite<M> {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        let trace = self.mutation.before(tx)?;
        let traced = self.projections.write(tx, &self.caller, trace)?;
        let id = tx.begin_intent(self.intent.kind, &self.intent.body, now_secs())?;
        self.applied = Some((id, traced));
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), store::Error>) {
        let Self {
            mutation,
            projections,
            applied,
            answer,
            ..
        } = *self;
        let answer = move |told| drop(answer.send(told));
        match outcome.and(applied.ok_or(store::Error::Stopped)) {
            Ok((id, traced)) => projections.publish(traced, move || answer((mutation, Ok(id)))),
            Err(error) => answer((mutation, Err(error.into()))),
        }
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

/// Now, in milliseconds since the Unix epoch.
pub fn now_millis() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

/// Now, in seconds since the Unix epoch.
pub fn now_secs() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs() as i64,
        Err(before) => -(before.duration().as_secs() as i64),
    }
}
