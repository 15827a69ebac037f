//! Aborting a transaction, and taking its worktree back to where it was when it began.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use uuid::Uuid;

use super::{TransactionState, active, known, reference, rewind_reference};
use crate::{
    capture::{Captures, RestoreRequest, RestoreState, Restored, Target},
    failure::{Failure, Reason},
    git::{RefMove, StateId},
    mutation::{Caller, Entry, Gates, Intent, Mutation, Trace, Unfinished, Verb, log, now_secs},
    store::WriteTx,
};

/// Bytes that a reason may have.
const REASON_LIMIT: usize = 64 * 1024;

/// What is to be aborted.
#[derive(Debug, Clone)]
pub struct AbortRequest {
    /// The transaction.
    pub id: Uuid,
    /// Why.
    pub reason: String,
    /// Whether the worktree goes back to where it was when the transaction began.
    pub rewind_worktree: bool,
}

/// Aborts a transaction.
pub struct AbortTransaction {
    captures: Arc<Captures>,
    asked: AbortRequest,
    caller: Caller,
    gates: Gates,
    rewind: Option<RestoreState>,
    rewound: Option<Restored>,
    thread: Option<String>,
}

impl AbortTransaction {
    /// The change that aborts a transaction.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a reason that is too long.
    pub fn new(
        captures: Arc<Captures>,
        asked: AbortRequest,
        caller: Caller,
        gates: Gates,
    ) -> Result<Self, Failure> {
        if asked.reason.len() > REASON_LIMIT {
            return Err(Failure::field(
                Reason::InvalidField,
                "reason",
                format!(
                    "the reason has {} bytes, and {REASON_LIMIT} are the limit; say it shorter",
                    asked.reason.len()
                ),
            ));
        }
        Ok(Self {
            captures,
            asked,
            caller,
            gates,
            rewind: None,
            rewound: None,
            thread: None,
        })
    }

    /// The restore that takes the worktree back.
    async fn restore(&self) -> Result<RestoreState, Failure> {
        let id = self.asked.id;
        let transaction = self
            .captures
            .places()
            .store()
            .read(|tx| Ok(known(tx, id)))??;
        if transaction.state != TransactionState::Active {
            return Err(Failure::new(
                Reason::TransactionNotActive,
                format!(
                    "the transaction {id} is {}, and its worktree cannot be rewound any more; `heddle restore` goes to any state",
                    transaction.state.name()
                ),
            ));
        }
        let state = transaction
            .rewind_state
            .as_deref()
            .and_then(StateId::from_bytes);
        let (Some(worktree), Some(state)) = (transaction.worktree, state) else {
            return Err(Failure::field(
                Reason::NoWorktree,
                "rewind_worktree",
                format!(
                    "the transaction {id} began without a worktree, or before there was anything in it; abort it without rewind_worktree"
                ),
            ));
        };
        // Its path may lead elsewhere when it is gone.
        self.captures.head_at(worktree.clone()).await?;
        let root = Path::new(OsStr::from_bytes(&worktree));
        Ok(RestoreState::new(
            Arc::clone(&self.captures),
            RestoreRequest {
                repo_path: root.to_string_lossy().into_owned(),
                target: Target::State(state.to_string()),
                paths: Vec::new(),
                update_index: false,
            },
            self.caller.clone(),
            self.gates.clone(),
        ))
    }
}

impl Mutation for AbortTransaction {
    /// Whether this call aborted it.
    type Output = bool;

    async fn prepare(&mut self) -> Result<(), Failure> {
        if self.asked.rewind_worktree {
            let mut restore = self.restore().await?;
            restore.prepare().await?;
            self.rewind = Some(restore);
        }
        Ok(())
    }

    fn intent(&self) -> Option<Intent> {
        self.rewind.as_ref().and_then(Mutation::intent)
    }

    fn before(&mut self, tx: &WriteTx<'_>) -> Result<Trace, Failure> {
        match &mut self.rewind {
            Some(restore) => restore.before(tx),
            None => Ok(Trace::default()),
        }
    }

    async fn act(&mut self) -> Result<(), Unfinished> {
        match &mut self.rewind {
            Some(restore) => restore.act().await,
            None => Ok(()),
        }
    }

    async fn undo(&mut self) -> Result<(), Failure> {
        match &mut self.rewind {
            Some(restore) => restore.undo().await,
            None => Ok(()),
        }
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<bool, Failure> {
        let id = self.asked.id;
        let transaction = known(&tx.reads(), id)?;
        if transaction.state == TransactionState::Aborted && self.rewind.is_none() {
            return Ok(false);
        }
        active(tx, id)?;
        if let Some(restore) = &mut self.rewind {
            let restored = restore.apply(tx)?;
            if let Some(entry) = restore.describe(&restored) {
                log(tx, &self.caller, &entry)?;
            }
            self.rewound = Some(restored);
        }
        let reason = Some(self.asked.reason.as_str());
        tx.end_transaction(id, TransactionState::Aborted, reason, now_secs())?;
        self.thread = Some(transaction.thread);
        Ok(true)
    }

    fn describe(&self, aborted: &bool) -> Option<Entry> {
        let id = self.asked.id;
        let why = match self.asked.reason.trim().lines().next() {
            None | Some("") => String::new(),
            Some(first) => format!(": {}", first.chars().take(200).collect::<String>()),
        };
        aborted.then(|| Entry {
            thread: self.thread.clone(),
            ..Entry::new(
                Verb::TransactionAbort,
                format!("aborted transaction {id}{why}"),
            )
        })
    }

    fn refs(&self, aborted: &bool) -> Vec<RefMove> {
        if !aborted {
            return Vec::new();
        }
        let rewound = self.rewind.as_ref().zip(self.rewound.as_ref());
        let moved = rewound.map_or_else(Vec::new, |(restore, restored)| restore.refs(restored));
        let let_go = [reference(self.asked.id), rewind_reference(self.asked.id)];
        moved
            .into_iter()
            .chain(let_go.map(RefMove::delete))
            .collect()
    }

    fn publish(&mut self, _: &bool) {
        if let Some((restore, restored)) = self.rewind.as_mut().zip(self.rewound.as_ref()) {
            restore.publish(restored);
        }
    }
}
