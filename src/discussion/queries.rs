//! Reading discussions, as they look at a state.

use std::sync::Arc;

use uuid::Uuid;

use super::{Anchor, Discussion, DiscussionRecord, Seen, anchor::Looking, unknown};
use crate::{
    failure::{Failure, Reason},
    git::{GitDir, LinesTo, StateId},
    symbol::Outlines,
    thread::{Places, state_of_id},
};

/// Which discussions are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Those that are not settled.
    Open,
    /// Those that are.
    Resolved,
    /// Those whose symbol is not there.
    Orphaned,
    /// All.
    All,
}

impl Filter {
    /// Reads WIRE.md's discussion status.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "open" => Ok(Self::Open),
            "resolved" => Ok(Self::Resolved),
            "orphaned" => Ok(Self::Orphaned),
            "" | "all" => Ok(Self::All),
            _ => Err(Failure::field(
                Reason::InvalidField,
                "status",
                format!(
                    "status is {:?}; give `open`, `resolved`, `orphaned` or `all`",
                    text.chars().take(64).collect::<String>()
                ),
            )),
        }
    }

    fn lets(self, discussion: &Discussion) -> bool {
        match self {
            Self::Open => discussion.record.resolution.is_none(),
            Self::Resolved => discussion.record.resolution.is_some(),
            Self::Orphaned => discussion.seen.orphaned,
            Self::All => true,
        }
    }
}

/// The discussions of a repository.
pub struct Discussions {
    places: Arc<Places>,
    outlines: Outlines,
}

impl Discussions {
    /// Those of the repository of these places.
    pub fn new(places: Arc<Places>) -> Self {
        Self {
            places,
            outlines: Outlines::default(),
        }
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    pub(super) fn looking<'a>(&'a self, git: &'a GitDir) -> Looking<'a> {
        Looking {
            git,
            outlines: &self.outlines,
        }
    }

    /// One discussion, as it looks at a state; an empty one is the current. Blocks.
    ///
    /// # Errors
    /// When there is no such discussion or state.
    pub fn one(&self, id: Uuid, repo_path: &str, state: &[u8]) -> Result<Discussion, Failure> {
        let at = state_of_id(&self.places, repo_path, state, "state_id")?;
        let found = self.places.store().read(|tx| {
            let record = tx.discussion(id)?;
            Ok((record, tx.turns(id)?))
        })?;
        let (Some(record), turns) = found else {
            return Err(unknown(id));
        };
        let git = self.places.git()?;
        let seen = self.seen(&git, &record, &mut LinesTo::new(&git, at))?;
        Ok(Discussion {
            record,
            turns,
            seen,
        })
    }

    /// All that the filter lets through, as they look at a state, in the order of their opening.
    /// Blocks.
    ///
    /// # Errors
    /// When the state is none, or Git or the store cannot be read.
    pub fn at(
        &self,
        repo_path: &str,
        state: &[u8],
        filter: Filter,
    ) -> Result<Vec<Discussion>, Failure> {
        let store = self.places.store();
        let records = store.read(|tx| tx.discussions())?;
        let at = match state_of_id(&self.places, repo_path, state, "state_id") {
            // Before the first state there is nothing to discuss.
            Err(failure) if state.is_empty() && failure.reason == Reason::StateUnknown => {
                return Ok(Vec::new());
            }
            at => at?,
        };
        let git = self.places.git()?;
        let mut lines = LinesTo::new(&git, at);
        let mut found = Vec::new();
        for record in records {
            let seen = self.seen(&git, &record, &mut lines)?;
            let discussion = Discussion {
                turns: store.read(|tx| tx.turns(record.id))?,
                record,
                seen,
            };
            if filter.lets(&discussion) {
                found.push(discussion);
            }
        }
        Ok(found)
    }

    /// Those of a symbol: opened on it, or on what it was before. Blocks.
    ///
    /// # Errors
    /// When Git or the store cannot be read.
    pub fn of(
        &self,
        repo_path: &str,
        anchor: &Anchor,
        filter: Filter,
    ) -> Result<Vec<Discussion>, Failure> {
        let mut all = self.at(repo_path, &[], filter)?;
        all.retain(|it| it.seen.anchor == *anchor || it.record.anchor() == *anchor);
        Ok(all)
    }

    /// What has become of a discussion's symbol at the state that the lines lead to.
    fn seen(
        &self,
        git: &GitDir,
        record: &DiscussionRecord,
        lines: &mut LinesTo<'_>,
    ) -> Result<Seen, Failure> {
        let opened = StateId::from_bytes(&record.opened_against).ok_or_else(|| {
            Failure::new(
                Reason::StoreCorrupt,
                format!("the discussion {} is damaged in the database", record.id),
            )
        })?;
        let looking = self.looking(git);
        let first = looking.require(opened, &record.anchor())?;
        let held = looking.follow(&lines.from(opened)?, first.clone())?;
        Ok(Seen {
            body_changed: held.text != first.text,
            orphaned: !held.is_there,
            anchor: held.anchor,
        })
    }
}

impl DiscussionRecord {
    /// What it was opened on.
    pub fn anchor(&self) -> Anchor {
        Anchor {
            file: self.file.clone(),
            symbol: self.symbol.clone(),
        }
    }
}
