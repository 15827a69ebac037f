//! Capturing a thread.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::{
    Captured, Captures,
    snapshot::{Says, Snapshot, SnapshotRecord},
};
use crate::{
    failure::{Failure, Reason},
    git::{RefMove, StateId},
    mutation::{
        Caller, Entry, Gates, Mutation, Parcel, Passed, PostCapture, Told, Trace, Within, blocking,
        unprepared,
    },
    store::WriteTx,
    thread::Place,
};

/// Bytes that an intent may have.
const INTENT_LIMIT: usize = 64 * 1024;

/// What is to be captured.
#[derive(Debug, Clone)]
pub struct CaptureRequest {
    /// A path in the worktree that the caller stands in; empty for the main one.
    pub repo_path: String,
    /// The thread; empty for that worktree's own.
    pub thread: String,
    /// What the change is meant to do.
    pub intent: String,
    /// How sure its author is of it, from 0 to 1.
    pub confidence: Option<f32>,
}

impl CaptureRequest {
    fn check(&self) -> Result<(), Failure> {
        if self.intent.len() > INTENT_LIMIT {
            return Err(Failure::field(
                Reason::InvalidField,
                "intent",
                format!(
                    "the intent has {} bytes, and {INTENT_LIMIT} are the limit; say it shorter",
                    self.intent.len()
                ),
            ));
        }
        if self.intent.contains('\0') {
            return Err(Failure::field(
                Reason::InvalidField,
                "intent",
                "the intent has a NUL byte, which a commit message cannot have; leave it out",
            ));
        }
        match self.confidence {
            Some(value) if !(0.0..=1.0).contains(&value) => Err(Failure::field(
                Reason::InvalidField,
                "confidence",
                format!("the confidence {value} is not between 0, a guess, and 1, certain"),
            )),
            _ => Ok(()),
        }
    }
}

/// Captures a thread's worktree as a new state.
pub struct CaptureThread {
    captures: Arc<Captures>,
    asked: CaptureRequest,
    caller: Caller,
    gates: Gates,
    within: Option<Within>,
    prepared: Option<PreparedCapture>,
    _thread: Option<OwnedMutexGuard<()>>,
}

/// A snapshot, and what was said of it at the gate: what a transaction keeps.
pub struct PreparedCapture {
    snapshot: Snapshot,
    passed: Passed,
    trace: Trace,
}

/// A capture as a transaction keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct CaptureRecord {
    snapshot: SnapshotRecord,
    passed: Passed,
}

impl PreparedCapture {
    /// The capture that a transaction kept; `None` where it is damaged.
    pub fn of(record: CaptureRecord) -> Option<Self> {
        Some(Self {
            snapshot: Snapshot::of(record.snapshot)?,
            passed: record.passed,
            trace: Trace::default(),
        })
    }
}

impl CaptureThread {
    /// The change that captures what is asked for.
    ///
    /// # Errors
    /// `INVALID_FIELD` for an intent or a confidence that cannot be.
    pub fn new(
        captures: Arc<Captures>,
        asked: CaptureRequest,
        caller: Caller,
        gates: Gates,
    ) -> Result<Self, Failure> {
        asked.check()?;
        Ok(Self {
            captures,
            asked,
            caller,
            gates,
            within: None,
            prepared: None,
            _thread: None,
        })
    }
}

impl Mutation for CaptureThread {
    type Output = Captured;

    fn enter(&mut self, within: &Within) {
        self.within = Some(within.clone());
    }

    async fn prepare(&mut self) -> Result<(), Failure> {
        let (here, thread) = (&self.asked.repo_path, &self.asked.thread);
        let (place, thread, mut held) = self.captures.enter(here, thread, &self.gates).await?;
        self.check_thread(&place)?;
        self._thread = Some(thread);
        let captures = Arc::clone(&self.captures);
        let says = Says {
            actor: self.caller.actor.clone(),
            agent: self.caller.agent.clone(),
            intent: self.asked.intent.clone(),
            confidence: self.asked.confidence,
        };
        let view = self.within.as_ref().and_then(|within| within.view.clone());
        // The scanner goes back before the gate: a hook may want to look at the worktree.
        let take = move || Snapshot::take(&captures, place, &mut held, view, &says);
        let snapshot = blocking(take).await?;
        self.check_head(&snapshot)?;
        // Where nothing changed there is nothing to ask about.
        let passed = match snapshot.is_unchanged() {
            true => Passed::default(),
            false => {
                let question = || snapshot.question(&self.asked.intent);
                self.gates.ask(question).await?
            }
        };
        self.prepared = Some(PreparedCapture {
            snapshot,
            passed,
            trace: Trace::default(),
        });
        Ok(())
    }

    fn parcel(&self) -> Option<Parcel> {
        let PreparedCapture {
            snapshot, passed, ..
        } = self.prepared.as_ref()?;
        let record = CaptureRecord {
            snapshot: snapshot.record(),
            passed: passed.clone(),
        };
        Some(Parcel::new("capture_thread.1", &record))
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Captured, Failure> {
        let mut captured = self.prepared.as_mut().ok_or_else(unprepared)?.apply(tx)?;
        self.captures.told.mark(&mut captured);
        Ok(captured)
    }

    fn publish(&mut self, captured: &Captured) {
        self.captures.told.remember(captured);
    }

    fn describe(&self, captured: &Captured) -> Option<Entry> {
        self.prepared.as_ref()?.describe(captured)
    }

    fn refs(&self, captured: &Captured) -> Vec<RefMove> {
        let prepared = self.prepared.as_ref();
        prepared.map_or_else(Vec::new, |prepared| prepared.refs(captured))
    }

    fn tell(&self, captured: &Captured, told: &mut Told<'_>) {
        if let Some(prepared) = &self.prepared {
            prepared.tell(captured, told);
        }
    }
}

impl CaptureThread {
    /// A transaction is about one thread.
    fn check_thread(&self, place: &Place) -> Result<(), Failure> {
        match &self.within {
            Some(within) if within.thread != place.thread.as_str() => Err(Failure::field(
                Reason::TransactionThread,
                "name",
                format!(
                    "the transaction {} is about the thread `{}`, and `{}` was to be captured; capture it without heddle-transaction-id, or in a transaction of its own",
                    within.transaction, within.thread, place.thread
                ),
            )),
            _ => Ok(()),
        }
    }
}

impl CaptureThread {
    /// What would be captured at another HEAD than the transaction began at could not be committed, and
    /// would come after none of the captures before it.
    fn check_head(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        match &self.within {
            Some(within) if within.head.is_some() && within.head != snapshot.look.head => {
                Err(Failure::new(
                    Reason::ThreadMoved,
                    format!(
                        "the thread `{}` was moved by a commit, a checkout or another move of HEAD since the transaction {} began; nothing was captured and it stays active: abort it and begin anew",
                        within.thread, within.transaction
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Mutation for PreparedCapture {
    type Output = Captured;

    fn state(&self) -> Option<StateId> {
        Some(self.snapshot.state)
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Captured, Failure> {
        let (captured, trace) = self.snapshot.apply(tx)?;
        self.trace = trace;
        self.passed.keep(tx, captured.state)?;
        Ok(captured)
    }

    fn describe(&self, _: &Captured) -> Option<Entry> {
        self.trace.entry.clone()
    }

    fn refs(&self, _: &Captured) -> Vec<RefMove> {
        self.trace.refs.clone()
    }

    fn tell(&self, captured: &Captured, told: &mut Told<'_>) {
        if captured.unchanged {
            return;
        }
        told.tell(|| PostCapture {
            thread: captured.thread.clone(),
            state_id: Some(captured.state),
            parent_state: captured.parent,
        });
    }
}
