//! What the road hands to the writer thread: a change, and what surrounds one.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::{Notify, oneshot, watch};
use uuid::Uuid;

use super::{
    Call, Caller, Entry, HookChain, Intent, Listeners, Told, Trace, Transactions, Verb,
    change::Change, road::not_bufferable,
};
use crate::{
    failure::{Failure, Reason},
    git::{RefMove, RefWriter, StateId},
    store::{self, BufferedCall, NewOperation, Recorded, Write, WriteTx},
};

/// Gives a change back, and what became of it: it holds its locks for as long as it lives.
pub(super) type Returned<T> = oneshot::Sender<(Box<dyn Change>, Result<T, Failure>)>;

/// Where a commit is told of: to those that follow the log, to Git's refs, and to hooks.
#[derive(Clone)]
pub(super) struct Projections {
    pub(super) newest: watch::Sender<u64>,
    /// Notified of changes that may have captured something.
    pub(super) captured: Arc<Notify>,
    pub(super) refs: RefWriter,
    pub(super) listeners: Arc<dyn Listeners>,
}

/// What was written of a change in the log and the outbox.
pub(super) struct Traced {
    operation: Option<(Uuid, u64)>,
    may_capture: bool,
    moves: Vec<RefMove>,
}

impl Projections {
    fn write(&self, tx: &WriteTx<'_>, caller: &Caller, trace: Trace) -> Result<Traced, Failure> {
        let may_capture = trace.entry.as_ref().is_some_and(|entry| {
            matches!(
                entry.verb,
                Verb::Snapshot | Verb::TransactionCommit | Verb::TransactionAbort
            )
        });
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
        Ok(Traced {
            operation,
            may_capture,
            moves,
        })
    }

    /// After the commit: `done` is called when the refs were moved.
    fn publish(&self, traced: Traced, done: impl FnOnce() + Send + 'static) {
        if let Some((_, seq)) = traced.operation {
            self.newest.send_replace(seq);
        }
        if traced.may_capture {
            self.captured.notify_one();
        }
        self.refs.make(traced.moves, done);
    }
}

/// Adds an entry to the operation log; answers its id and sequence number. What a capture changed, and
/// the kinds of its signals, are added when they are known.
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
    if let (Verb::Snapshot, Some(state)) = (entry.verb, &entry.state_id) {
        tx.await_signals(seq, state)?;
    }
    Ok((id, seq))
}

/// The newest entry of the log before a change that comes from hooks.
fn newest_if_from(tx: &WriteTx<'_>, hooks: &HookChain) -> Result<Option<u64>, store::Error> {
    let is_from_hooks = hooks.depth() > 0;
    is_from_hooks
        .then(|| tx.reads().newest_operation())
        .transpose()
}

/// What was captured since comes from these hooks: what its signals are told of is inside them.
fn captures_came_from(
    tx: &WriteTx<'_>,
    began: Option<u64>,
    hooks: &HookChain,
) -> Result<(), store::Error> {
    began.map_or(Ok(()), |began| {
        tx.captures_came_from(began, &hooks.to_string())
    })
}

/// A change on the writer thread.
pub(super) struct RoadWrite {
    pub(super) call: Call,
    pub(super) fingerprint: [u8; 32],
    pub(super) change: Box<dyn Change>,
    /// The intent that the change completes.
    pub(super) intent: Option<i64>,
    pub(super) projections: Projections,
    pub(super) applied: Option<Applied>,
    pub(super) answer: Returned<Committed>,
}

pub(super) struct Applied {
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

impl Write for RoadWrite {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        let began = newest_if_from(tx, &self.call.hooks)?;
        self.change.apply(tx)?;
        let trace = Trace {
            entry: self.change.entry(),
            refs: self.change.refs(),
        };
        let mut traced = self.projections.write(tx, &self.call.caller, trace)?;
        traced.operation = traced.operation.or(self.change.logged());
        captures_came_from(tx, began, &self.call.hooks)?;
        let mut told = Told::new(&*self.projections.listeners);
        self.change.tell(&mut told);
        let notice = told.write(tx, &self.call.hooks)?;
        if let Some(intent) = self.intent {
            tx.end_intent(intent)?;
        }
        let response = self.change.response();
        if let Some(key) = self.call.key {
            let recorded = Recorded {
                fingerprint: self.fingerprint,
                response: response.clone(),
            };
            tx.record_answer(key, &recorded, now_secs())?;
        }
        self.applied = Some(Applied {
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
            mut change,
            projections,
            applied,
            answer,
            ..
        } = *self;
        // Nobody waits when the runtime is gone; the effect is durable all the same.
        let answer = move |told| drop(answer.send(told));
        match outcome.and(applied.ok_or(store::Error::Stopped)) {
            Ok(applied) => {
                change.publish();
                let listeners = Arc::clone(&projections.listeners);
                let told = (change, Ok(applied.committed));
                projections.publish(applied.traced, move || {
                    answer(told);
                    // The refs are where a hook looks for them, and nobody waits for it.
                    if let Some(newest) = applied.notice {
                        listeners.told(newest);
                    }
                });
            }
            Err(error) => answer((change, Err(error.into()))),
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::new(Reason::Internal, e.to_string()))
}

/// A call on the writer thread that is kept until its transaction is committed.
pub(super) struct BufferWrite {
    pub(super) call: Call,
    pub(super) transaction: Uuid,
    pub(super) fingerprint: [u8; 32],
    pub(super) change: Box<dyn Change>,
    pub(super) projections: Projections,
    pub(super) transactions: Arc<dyn Transactions>,
    pub(super) applied: Option<(Vec<u8>, Traced)>,
    pub(super) answer: Returned<Vec<u8>>,
}

impl Write for BufferWrite {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        let mut tried = None;
        let (change, call) = (&mut self.change, &self.call);
        self.transactions.buffer(tx, self.transaction, &mut |tx| {
            change.apply(tx)?;
            let captured = change.entry().filter(|e| e.verb == Verb::Snapshot);
            let state = captured.and_then(|entry| entry.state_id);
            tried = Some((change.response(), state));
            let parcel = change.parcel().ok_or_else(|| not_bufferable(call))?;
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
            change,
            projections,
            applied,
            answer,
            ..
        } = *self;
        let answer = move |told| drop(answer.send(told));
        match outcome.and(applied.ok_or(store::Error::Stopped)) {
            Ok((response, traced)) => {
                projections.publish(traced, move || answer((change, Ok(response))));
            }
            Err(error) => answer((change, Err(error.into()))),
        }
    }
}

/// Writes down what is about to be done, and what goes before it.
pub(super) struct IntentWrite {
    pub(super) caller: Caller,
    pub(super) hooks: HookChain,
    pub(super) change: Box<dyn Change>,
    pub(super) intent: Intent,
    pub(super) projections: Projections,
    pub(super) applied: Option<(i64, Traced)>,
    pub(super) answer: Returned<i64>,
}

impl Write for IntentWrite {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        let began = newest_if_from(tx, &self.hooks)?;
        let trace = self.change.before(tx)?;
        let traced = self.projections.write(tx, &self.caller, trace)?;
        captures_came_from(tx, began, &self.hooks)?;
        let id = tx.begin_intent(self.intent.kind, &self.intent.body, now_secs())?;
        self.applied = Some((id, traced));
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), store::Error>) {
        let Self {
            change,
            projections,
            applied,
            answer,
            ..
        } = *self;
        let answer = move |told| drop(answer.send(told));
        match outcome.and(applied.ok_or(store::Error::Stopped)) {
            Ok((id, traced)) => projections.publish(traced, move || answer((change, Ok(id)))),
            Err(error) => answer((change, Err(error.into()))),
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
