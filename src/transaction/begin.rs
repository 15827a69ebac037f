//! Beginning a transaction.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    ACTIVE_LIMIT, RETENTION_SECS, Transaction, TransactionState, reference, rewind_reference,
};
use crate::{
    capture::{Captures, Standing, moved},
    failure::{Failure, Reason},
    git::{RefMove, StateId},
    mutation::{Caller, Entry, Mutation, Verb, now_secs},
    store::WriteTx,
    thread::newest_of,
};

/// Bytes that a message may have.
const MESSAGE_LIMIT: usize = 64 * 1024;

/// What is to begin.
#[derive(Debug, Clone)]
pub struct BeginRequest {
    /// A path in the worktree that the caller stands in; empty for the main one.
    pub repo_path: String,
    /// The thread; empty for that worktree's own.
    pub thread: String,
    /// What it is for.
    pub message: String,
}

/// Begins a transaction.
pub struct BeginTransaction {
    captures: Arc<Captures>,
    asked: BeginRequest,
    caller: Caller,
    id: Uuid,
    standing: Option<Standing>,
}

/// A transaction that has begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Its id.
    pub id: Uuid,
    /// When, in seconds since the Unix epoch.
    pub started_secs: i64,
    thread: String,
    rewind: Option<StateId>,
}

impl BeginTransaction {
    /// The change that begins a transaction.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a message that is too long.
    pub fn new(
        captures: Arc<Captures>,
        asked: BeginRequest,
        caller: Caller,
    ) -> Result<Self, Failure> {
        if asked.message.len() > MESSAGE_LIMIT {
            return Err(Failure::field(
                Reason::InvalidField,
                "message",
                format!(
                    "the message has {} bytes, and {MESSAGE_LIMIT} are the limit; say it shorter",
                    asked.message.len()
                ),
            ));
        }
        Ok(Self {
            captures,
            asked,
            caller,
            id: Uuid::now_v7(),
            standing: None,
        })
    }
}

impl Mutation for BeginTransaction {
    type Output = Begun;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let Self {
            captures,
            asked,
            caller,
            ..
        } = self;
        let standing = captures
            .standing(&asked.repo_path, &asked.thread, caller)
            .await?;
        self.standing = Some(standing);
        Ok(())
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Begun, Failure> {
        let standing = self
            .standing
            .as_ref()
            .ok_or_else(|| Failure::new(Reason::Internal, "the change was not prepared"))?;
        let thread = standing.thread.as_str();
        if let Some(other) = tx.reads().transaction_on(thread)? {
            return Err(Failure::new(
                Reason::TransactionActive,
                format!(
                    "the transaction {} is active on thread `{thread}` already; commit or abort it first",
                    other.id
                ),
            ));
        }
        let newest = newest_of(tx.reads().thread(thread)?, standing.head);
        if newest != standing.newest {
            return Err(moved(&standing.thread));
        }
        let active = tx.reads().transactions(true, ACTIVE_LIMIT)?.len();
        if active >= ACTIVE_LIMIT as usize {
            return Err(Failure::new(
                Reason::TooManyTransactions,
                format!(
                    "{ACTIVE_LIMIT} transactions are active, which is the limit; commit or abort some first (`heddle txn list`)"
                ),
            ));
        }
        let now = now_secs();
        tx.forget_transactions(now - RETENTION_SECS)?;
        tx.add_transaction(&Transaction {
            id: self.id,
            thread: thread.to_owned(),
            message: self.asked.message.clone(),
            state: TransactionState::Active,
            reason: None,
            started_secs: now,
            used_secs: now,
            worktree: standing.worktree.clone(),
            rewind_state: standing.content.map(StateId::to_vec),
            base_state: standing.newest.map(StateId::to_vec),
            base_head: standing.head.map(StateId::to_vec),
            view: None,
            calls: 0,
        })?;
        Ok(Begun {
            id: self.id,
            started_secs: now,
            thread: thread.to_owned(),
            rewind: standing.content,
        })
    }

    fn describe(&self, begun: &Begun) -> Option<Entry> {
        let first = self.asked.message.trim().lines().next().unwrap_or_default();
        let summary = match first {
            "" => format!("began transaction {}", begun.id),
            first => first.chars().take(200).collect(),
        };
        Some(Entry {
            thread: Some(begun.thread.clone()),
            ..Entry::new(Verb::TransactionBegin, summary)
        })
    }

    fn refs(&self, begun: &Begun) -> Vec<RefMove> {
        let newest = self.standing.as_ref().and_then(|standing| standing.newest);
        let keep = newest.map(|newest| RefMove::to(reference(begun.id), newest));
        let rewind = begun
            .rewind
            .map(|state| RefMove::to(rewind_reference(begun.id), state));
        keep.into_iter().chain(rewind).collect()
    }
}
