//! Adding a turn to a discussion.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{entry, seen_now, still_open, turn};
use crate::{
    discussion::{DISCUSSION_BYTES, Discussion, Discussions, Seen, TurnRecord, check_body},
    failure::{Failure, Reason},
    git::Identity,
    mutation::{Entry, Mutation, Parcel, Verb, blocking},
    store::WriteTx,
};

/// Adds a turn.
pub struct AppendTurn {
    discussions: Arc<Discussions>,
    repo_path: String,
    appended: AppendedTurn,
}

/// A turn that is about to be added: what a transaction keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppendedTurn {
    id: Uuid,
    turn: TurnRecord,
    seen: Option<Seen>,
}

impl AppendTurn {
    /// The change that adds what `author` says to a discussion.
    ///
    /// # Errors
    /// When that is nothing, or too long.
    pub fn new(
        discussions: Arc<Discussions>,
        repo_path: String,
        id: Uuid,
        body: &str,
        author: &Identity,
    ) -> Result<Self, Failure> {
        check_body(body, "body")?;
        let appended = AppendedTurn {
            id,
            turn: turn(author, body),
            seen: None,
        };
        Ok(Self {
            discussions,
            repo_path,
            appended,
        })
    }
}

impl Mutation for AppendTurn {
    type Output = Discussion;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let discussions = Arc::clone(&self.discussions);
        let (here, id) = (self.repo_path.clone(), self.appended.id);
        self.appended.seen = blocking(move || seen_now(&discussions, &here, id)).await?;
        Ok(())
    }

    fn parcel(&self) -> Option<Parcel> {
        Some(Parcel::new("append_turn.1", &self.appended))
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Discussion, Failure> {
        self.appended.apply(tx)
    }

    fn describe(&self, discussion: &Discussion) -> Option<Entry> {
        self.appended.describe(discussion)
    }
}

impl Mutation for AppendedTurn {
    type Output = Discussion;

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Discussion, Failure> {
        let record = still_open(tx, self.id)?;
        let mut turns = tx.reads().turns(self.id)?;
        let bytes: usize = turns.iter().map(TurnRecord::bytes).sum();
        if bytes + self.turn.bytes() > DISCUSSION_BYTES {
            return Err(Failure::new(
                Reason::DiscussionFull,
                format!(
                    "the turns of the discussion {} have {bytes} bytes, and {DISCUSSION_BYTES} are the limit; resolve it and open another one",
                    self.id
                ),
            ));
        }
        tx.add_turn(self.id, &self.turn)?;
        turns.push(self.turn.clone());
        let seen = self.seen.clone();
        Ok(Discussion {
            seen: seen.unwrap_or_else(|| Seen::unchanged(record.anchor())),
            record,
            turns,
        })
    }

    fn describe(&self, discussion: &Discussion) -> Option<Entry> {
        Some(entry(Verb::DiscussionAppend, discussion, "replied to"))
    }
}
