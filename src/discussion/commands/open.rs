//! Opening a discussion.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{entry, turn};
use crate::{
    deadline::Deadline,
    discussion::{
        Discussion, DiscussionRecord, Discussions, Seen, TurnRecord, Visibility, check_body,
    },
    failure::{Failure, Reason},
    git::{Identity, RepoPath, StateId},
    mutation::{Entry, Mutation, Parcel, Verb, blocking, unprepared},
    store::WriteTx,
    symbol::SymbolRef,
    thread::{ThreadName, state_of_id},
};

/// What is to be discussed.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// A path in the worktree that the caller stands in; empty for the main one.
    pub repo_path: String,
    /// The state's raw object id; empty for the current one.
    pub state: Vec<u8>,
    /// What it is about.
    pub anchor: SymbolRef,
    /// The first turn.
    pub body: String,
    /// For whom it is meant.
    pub visibility: String,
    /// The thread that it belongs to; empty for none.
    pub thread: String,
}

/// Opens a discussion.
pub struct OpenDiscussion {
    discussions: Arc<Discussions>,
    asked: OpenRequest,
    author: Identity,
    opened: Option<OpenedDiscussion>,
}

/// A discussion that is about to be opened: what a transaction keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenedDiscussion {
    /// What it is opened against, as upkeep looks for states in buffered calls.
    state: StateId,
    record: DiscussionRecord,
    turn: TurnRecord,
}

impl OpenDiscussion {
    /// The change that opens it.
    pub fn new(discussions: Arc<Discussions>, asked: OpenRequest, author: Identity) -> Self {
        Self {
            discussions,
            asked,
            author,
            opened: None,
        }
    }
}

/// Checks what is asked against the state, and gives it an id. Blocks.
fn open(
    discussions: &Discussions,
    asked: &OpenRequest,
    author: &Identity,
) -> Result<OpenedDiscussion, Failure> {
    check_body(&asked.body, "body")?;
    let visibility = Visibility::parse(&asked.visibility)?;
    if !asked.thread.is_empty() {
        ThreadName::parse(&asked.thread, "thread_ref")?;
    }
    let places = discussions.places();
    let root = places.repository().root();
    let fault = |message: String| Failure::field(Reason::PathInvalid, "anchor.file", message);
    let path = RepoPath::parse(root, &asked.anchor.file).map_err(|e| fault(e.to_string()))?;
    let anchor = SymbolRef {
        file: path.as_bstr().to_string(),
        symbol: asked.anchor.symbol.clone(),
    };
    if anchor.file.is_empty() {
        let message = "the anchor names no file; give its path from the repository's root";
        return Err(fault(message.to_owned()));
    }
    let state = state_of_id(places, &asked.repo_path, &asked.state, "state_id")?;
    let git = places.git()?;
    discussions
        .looking(&git, Deadline::default())
        .require(state, &anchor)?;
    let turn = turn(author, &asked.body);
    Ok(OpenedDiscussion {
        state,
        record: DiscussionRecord {
            id: Uuid::now_v7(),
            file: anchor.file,
            symbol: anchor.symbol,
            opened_against: state.to_vec(),
            opened_ms: turn.posted_ms,
            thread: asked.thread.clone(),
            visibility: visibility.as_str().to_owned(),
            resolution: None,
        },
        turn,
    })
}

impl Mutation for OpenDiscussion {
    type Output = Discussion;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let (discussions, author) = (Arc::clone(&self.discussions), self.author.clone());
        let asked = self.asked.clone();
        self.opened = Some(blocking(move || open(&discussions, &asked, &author)).await?);
        Ok(())
    }

    fn parcel(&self) -> Option<Parcel> {
        let opened = self.opened.as_ref()?;
        Some(Parcel::new("open_discussion.1", opened))
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Discussion, Failure> {
        self.opened.as_mut().ok_or_else(unprepared)?.apply(tx)
    }

    fn describe(&self, discussion: &Discussion) -> Option<Entry> {
        Some(entry(Verb::DiscussionOpen, discussion, "opened"))
    }
}

impl Mutation for OpenedDiscussion {
    type Output = Discussion;

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Discussion, Failure> {
        tx.put_discussion(&self.record)?;
        tx.add_turn(self.record.id, &self.turn)?;
        Ok(Discussion {
            seen: Seen::unchanged(self.record.anchor()),
            record: self.record.clone(),
            turns: vec![self.turn.clone()],
        })
    }

    fn describe(&self, discussion: &Discussion) -> Option<Entry> {
        Some(entry(Verb::DiscussionOpen, discussion, "opened"))
    }
}
