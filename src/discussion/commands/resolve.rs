//! Settling a discussion.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{entry, seen_now, still_open};
use crate::{
    discussion::{AnnotationKind, Discussion, Discussions, Resolution, Seen, check_body},
    failure::Failure,
    git::StateId,
    mutation::{Entry, Mutation, Parcel, Verb, blocking, now_millis, unprepared},
    store::{AnnotationRecord, WriteTx},
    thread::state_of_id,
};

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
    /// The state that the annotation is about, as upkeep looks for states in buffered calls.
    state: Option<StateId>,
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
    let (mut annotation, mut about) = (None, None);
    let resolution = match settlement {
        Settlement::Annotation {
            kind,
            content,
            tags,
        } => {
            let here = state_of_id(places, repo_path, &[], "repo_path")?;
            about = Some(here);
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
        state: about,
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
