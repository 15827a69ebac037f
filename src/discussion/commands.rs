//! The writes on discussions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    AnnotationKind, DISCUSSION_BYTES, Discussion, DiscussionRecord, Discussions, Resolution, Seen,
    TurnRecord, Visibility, check_body, settled, unknown,
};
use crate::{
    failure::{Failure, Reason},
    git::{Identity, RepoPath, StateId},
    mutation::{Entry, Mutation, Parcel, Verb, blocking, now_millis, unprepared},
    store::{AnnotationRecord, WriteTx},
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

fn turn(author: &Identity, body: &str) -> TurnRecord {
    TurnRecord {
        author_name: author.name.clone(),
        author_email: author.email.clone(),
        body: body.to_owned(),
        posted_ms: now_millis(),
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
    discussions.looking(&git).require(state, &anchor)?;
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

/// What a discussion's symbol is at the current state, where it is known: one that is opened in the
/// same transaction is not yet. Blocks.
fn seen_now(discussions: &Discussions, repo_path: &str, id: Uuid) -> Result<Option<Seen>, Failure> {
    match discussions.one(id, repo_path, &[]) {
        Ok(discussion) => Ok(Some(discussion.seen)),
        Err(failure) if failure.reason == Reason::DiscussionUnknown => Ok(None),
        Err(failure) => Err(failure),
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

/// An open discussion, as the store has it now.
fn still_open(tx: &WriteTx<'_>, id: Uuid) -> Result<DiscussionRecord, Failure> {
    let record = tx.reads().discussion(id)?.ok_or_else(|| unknown(id))?;
    match record.resolution {
        None => Ok(record),
        Some(_) => Err(settled(&record)),
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

/// How a discussion is to be settled.
#[derive(Debug, Clone)]
pub enum Settlement {
    /// By an annotation.
    Annotation {
        /// What it says about the code.
        kind: AnnotationKind,
        /// Its text.
        content: String,
        /// Words to find it by.
        tags: Vec<String>,
    },
    /// By a change of the code.
    Edit {
        /// The raw object id of the state that has it; empty for the current one.
        state: Vec<u8>,
    },
    /// Without consequence.
    Dismissed {
        /// Why.
        reason: String,
    },
}

/// Settles a discussion.
pub struct ResolveDiscussion {
    discussions: Arc<Discussions>,
    repo_path: String,
    id: Uuid,
    settlement: Settlement,
    resolved: Option<ResolvedDiscussion>,
}

/// A discussion that is about to be settled: what a transaction keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResolvedDiscussion {
    id: Uuid,
    resolution: Resolution,
    /// The state at which it is settled, as upkeep looks for states in buffered calls.
    state: StateId,
    /// `None` unless it is settled by one.
    annotation: Option<AnnotationRecord>,
    seen: Option<Seen>,
}

impl ResolveDiscussion {
    /// The change that settles it.
    ///
    /// # Errors
    /// When what is to be said is nothing, or too long.
    pub fn new(
        discussions: Arc<Discussions>,
        repo_path: String,
        id: Uuid,
        settlement: Settlement,
    ) -> Result<Self, Failure> {
        match &settlement {
            Settlement::Annotation { content, tags, .. } => {
                check_body(content, "into_annotation.content")?;
                for tag in tags {
                    check_body(tag, "into_annotation.tags")?;
                }
            }
            Settlement::Dismissed { reason } => check_body(reason, "dismissed.reason")?,
            Settlement::Edit { .. } => {}
        }
        Ok(Self {
            discussions,
            repo_path,
            id,
            settlement,
            resolved: None,
        })
    }
}

/// Blocks.
fn resolve(
    discussions: &Discussions,
    repo_path: &str,
    id: Uuid,
    settlement: Settlement,
) -> Result<ResolvedDiscussion, Failure> {
    let places = discussions.places();
    let seen = seen_now(discussions, repo_path, id)?;
    let here = state_of_id(places, repo_path, &[], "repo_path")?;
    let mut annotation = None;
    let resolution = match settlement {
        Settlement::Annotation {
            kind,
            content,
            tags,
        } => {
            let made = AnnotationRecord {
                id: Uuid::now_v7(),
                discussion: id,
                file: String::new(),
                symbol: String::new(),
                state_id: here.to_vec(),
                kind: kind.as_str().to_owned(),
                content,
                tags,
                made_ms: now_millis(),
            };
            let id = annotation.insert(made).id;
            Resolution::Annotation { id }
        }
        Settlement::Edit { state } => {
            let state = state_of_id(places, repo_path, &state, "by_edit.state_id")?;
            Resolution::Edit {
                state: state.to_string(),
            }
        }
        Settlement::Dismissed { reason } => Resolution::Dismissed { reason },
    };
    Ok(ResolvedDiscussion {
        id,
        state: here,
        resolution,
        annotation,
        seen,
    })
}

impl Mutation for ResolveDiscussion {
    type Output = Discussion;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let discussions = Arc::clone(&self.discussions);
        let (here, id, how) = (self.repo_path.clone(), self.id, self.settlement.clone());
        let resolved = blocking(move || resolve(&discussions, &here, id, how)).await?;
        self.resolved = Some(resolved);
        Ok(())
    }

    fn parcel(&self) -> Option<Parcel> {
        let resolved = self.resolved.as_ref()?;
        Some(Parcel::new("resolve_discussion.1", resolved))
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Discussion, Failure> {
        self.resolved.as_mut().ok_or_else(unprepared)?.apply(tx)
    }

    fn describe(&self, discussion: &Discussion) -> Option<Entry> {
        self.resolved.as_ref()?.describe(discussion)
    }
}

impl Mutation for ResolvedDiscussion {
    type Output = Discussion;

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Discussion, Failure> {
        let mut record = still_open(tx, self.id)?;
        let seen = self.seen.clone();
        let seen = seen.unwrap_or_else(|| Seen::unchanged(record.anchor()));
        if let Some(annotation) = &self.annotation {
            tx.add_annotation(&AnnotationRecord {
                file: seen.anchor.file.clone(),
                symbol: seen.anchor.symbol.clone(),
                ..annotation.clone()
            })?;
        }
        record.resolution = Some(self.resolution.clone());
        tx.put_discussion(&record)?;
        Ok(Discussion {
            turns: tx.reads().turns(self.id)?,
            record,
            seen,
        })
    }

    fn describe(&self, discussion: &Discussion) -> Option<Entry> {
        let how = match &self.resolution {
            Resolution::Annotation { .. } => "resolved into an annotation",
            Resolution::Edit { .. } => "resolved by an edit",
            Resolution::Dismissed { .. } => "dismissed",
        };
        Some(entry(Verb::DiscussionResolve, discussion, how))
    }
}

fn entry(verb: Verb, discussion: &Discussion, what: &str) -> Entry {
    let record = &discussion.record;
    let SymbolRef { file, symbol } = &discussion.seen.anchor;
    let about = match symbol.as_str() {
        "" => format!("`{file}`"),
        symbol => format!("`{symbol}` in `{file}`"),
    };
    Entry {
        thread: (!record.thread.is_empty()).then(|| record.thread.clone()),
        state_id: Some(record.opened_against.clone()),
        symbols: vec![format!("{file}:{symbol}")],
        ..Entry::new(verb, format!("{what} the discussion of {about}"))
    }
}
