//! Capturing a thread.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::{
    Captured, Captures,
    scanners::Held,
    snapshot::{Says, Snapshot},
};
use crate::{
    failure::{Failure, Reason},
    git::RefMove,
    mutation::{Caller, Entry, Mutation, blocking},
    store::WriteTx,
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
    prepared: Option<Prepared>,
    applied: Vec<RefMove>,
    entry: Option<Entry>,
}

/// A snapshot, and what keeps others away until it is published.
struct Prepared {
    snapshot: Snapshot,
    _held: Held,
    _thread: OwnedMutexGuard<()>,
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
    ) -> Result<Self, Failure> {
        asked.check()?;
        Ok(Self {
            captures,
            asked,
            caller,
            prepared: None,
            applied: Vec::new(),
            entry: None,
        })
    }
}

impl Mutation for CaptureThread {
    type Output = Captured;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let (here, thread) = (&self.asked.repo_path, &self.asked.thread);
        let place = self.captures.place(here, thread).await?;
        let mut held = self.captures.scanners.hold(&place.worktree).await;
        let thread = self.captures.threads.hold(&place.thread).await;
        let captures = Arc::clone(&self.captures);
        let says = Says {
            actor: self.caller.actor.clone(),
            agent: self.caller.agent.clone(),
            intent: self.asked.intent.clone(),
            confidence: self.asked.confidence,
        };
        self.prepared = Some(
            blocking(move || {
                let snapshot = Snapshot::take(&captures, place, &mut held, &says)?;
                Ok(Prepared {
                    snapshot,
                    _held: held,
                    _thread: thread,
                })
            })
            .await?,
        );
        Ok(())
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Captured, Failure> {
        let prepared = self.prepared.as_ref().ok_or_else(unprepared)?;
        let (captured, trace) = prepared.snapshot.apply(tx)?;
        self.applied = trace.refs;
        self.entry = trace.entry;
        Ok(captured)
    }

    fn describe(&self, _: &Captured) -> Option<Entry> {
        self.entry.clone()
    }

    fn refs(&self, _: &Captured) -> Vec<RefMove> {
        self.applied.clone()
    }
}

/// The road prepares before it applies: this is never told.
pub(super) fn unprepared() -> Failure {
    Failure::new(Reason::Internal, "the change was not prepared")
}
