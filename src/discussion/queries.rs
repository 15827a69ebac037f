//! Reading discussions, as they look at a state.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    Discussion, DiscussionRecord, Resolution, Seen, TurnRecord,
    anchor::{Held, Looking},
    unknown,
};
use crate::{
    deadline::Deadline,
    failure::{Failure, Reason},
    git::{GitDir, LinesTo, StateId},
    symbol::{Index, SymbolRef},
    thread::{Places, state_of_id},
};

/// Bytes of turns that are read for one answer: more than one may have.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

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

    fn lets(self, record: &DiscussionRecord, seen: &Seen) -> bool {
        match self {
            Self::Open => record.resolution.is_none(),
            Self::Resolved => record.resolution.is_some(),
            Self::Orphaned => seen.orphaned,
            Self::All => true,
        }
    }
}

/// The discussions of a repository.
pub struct Discussions {
    places: Arc<Places>,
    index: Arc<Index>,
}

impl Discussions {
    /// Those of the repository of these places.
    pub fn new(places: Arc<Places>, index: Arc<Index>) -> Self {
        Self { places, index }
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    pub(super) fn looking<'a>(&'a self, git: &'a GitDir, deadline: Deadline) -> Looking<'a> {
        Looking {
            git,
            outlines: self.index.outlines(),
            deadline,
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
        let looking = self.looking(&git, Deadline::default());
        let seen = record.seen(&looking, &mut LinesTo::new(&git, at))?;
        Ok(Discussion {
            record,
            turns,
            seen,
        })
    }

    /// Those that the filter lets through, as they look at a state, in the order of their opening, and
    /// after the one of this id: as many as fill an answer. Blocks.
    ///
    /// # Errors
    /// When the state is none, or Git or the store cannot be read.
    pub fn at(
        &self,
        repo_path: &str,
        state: &[u8],
        filter: Filter,
        after: Option<Uuid>,
    ) -> Result<Vec<Discussion>, Failure> {
        self.page(repo_path, state, after, |record, seen| {
            filter.lets(record, seen)
        })
    }

    /// Those that somebody who reviews a state should know of: the open ones of what it has, or has no
    /// longer; those that were opened against it or settled by it; and settled ones of what it changed,
    /// as `touches` says. In the order of their opening, as they look at it; and whether some are
    /// missing, which could not be looked at by the deadline. Blocks.
    ///
    /// # Errors
    /// When Git or the store cannot be read.
    pub fn around(
        &self,
        git: &GitDir,
        state: StateId,
        touches: impl Fn(&SymbolRef) -> bool,
        deadline: &Deadline,
    ) -> Result<(Vec<Discussion>, bool), Failure> {
        let records = self.places.store().read(|tx| tx.discussions())?;
        let looking = self.looking(git, deadline.clone());
        let mut lines = LinesTo::new(git, state);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for record in records {
            if bytes > PAGE_BYTES || deadline.is_over() {
                return Ok((found, true));
            }
            let is_of_state = record.opened_against == state.as_bytes()
                || record.resolution
                    == Some(Resolution::Edit {
                        state: state.to_string(),
                    });
            let is_open = record.resolution.is_none();
            // Settled ones grow in number for ever: what they are about now is not looked for.
            if !is_open && !is_of_state && !touches(&record.anchor()) {
                continue;
            }
            let seen = record.seen(&looking, &mut lines)?;
            // What was cut short says nothing.
            if deadline.is_over() {
                return Ok((found, true));
            }
            // What was never there is of another line of work.
            if is_open
                && seen.orphaned
                && !touches(&seen.anchor)
                && let Some(opened) = StateId::from_bytes(&record.opened_against)
                && git.resolve_bytes(opened.as_bytes()).is_ok()
                && !lines.come_from(opened)?
            {
                continue;
            }
            bytes += self.take(&mut found, record, seen)?;
        }
        Ok((found, false))
    }

    fn page(
        &self,
        repo_path: &str,
        state: &[u8],
        after: Option<Uuid>,
        lets: impl Fn(&DiscussionRecord, &Seen) -> bool,
    ) -> Result<Vec<Discussion>, Failure> {
        let mut records = self.places.store().read(|tx| tx.discussions())?;
        records.retain(|record| after.is_none_or(|after| record.id > after));
        let at = match state_of_id(&self.places, repo_path, state, "state_id") {
            // Before the first state there is nothing to discuss.
            Err(failure) if state.is_empty() && failure.reason == Reason::StateUnknown => {
                return Ok(Vec::new());
            }
            at => at?,
        };
        let git = self.places.git()?;
        let looking = self.looking(&git, Deadline::default());
        let mut lines = LinesTo::new(&git, at);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for record in records {
            let seen = record.seen(&looking, &mut lines)?;
            if !lets(&record, &seen) {
                continue;
            }
            bytes += self.take(&mut found, record, seen)?;
            if bytes > PAGE_BYTES {
                break;
            }
        }
        Ok(found)
    }

    /// Takes a discussion with its turns; answers how many bytes they have.
    fn take(
        &self,
        found: &mut Vec<Discussion>,
        record: DiscussionRecord,
        seen: Seen,
    ) -> Result<usize, Failure> {
        let turns = self.places.store().read(|tx| tx.turns(record.id))?;
        let bytes = turns.iter().map(TurnRecord::bytes).sum();
        found.push(Discussion {
            turns,
            record,
            seen,
        });
        Ok(bytes)
    }

    /// Those of a symbol: opened on it, or on what it was before; a page, as of [`Self::at`]. Blocks.
    ///
    /// # Errors
    /// When Git or the store cannot be read.
    pub fn of(
        &self,
        repo_path: &str,
        anchor: &SymbolRef,
        filter: Filter,
        after: Option<Uuid>,
    ) -> Result<Vec<Discussion>, Failure> {
        self.page(repo_path, &[], after, |record, seen| {
            filter.lets(record, seen) && (seen.anchor == *anchor || record.anchor() == *anchor)
        })
    }
}

/// The state that something was said about, by the raw id that is kept of it.
pub(super) fn opened_at(state: &[u8], id: Uuid) -> Result<StateId, Failure> {
    StateId::from_bytes(state).ok_or_else(|| {
        Failure::new(
            Reason::StoreCorrupt,
            format!("the discussion {id} is damaged in the database"),
        )
    })
}

/// What has become of an anchor of one state at the state that the lines lead to.
pub(super) fn seen(
    looking: &Looking<'_>,
    anchor: SymbolRef,
    opened: StateId,
    lines: &mut LinesTo<'_>,
) -> Result<Seen, Failure> {
    let git = looking.git;
    let to = git.tree_of(lines.to())?;
    // Its commit may have been rewritten and pruned since, and is not to hide the discussion.
    let from = match git.resolve_bytes(opened.as_bytes()) {
        Ok(opened) => Some(git.tree_of(opened)?),
        Err(_) => None,
    };
    let text = match from {
        Some(from) => looking.look(from, &anchor)?,
        None => None,
    };
    let Some(first) = text else {
        let now = looking.look(to, &anchor)?;
        return Ok(Seen {
            anchor,
            body_changed: true,
            orphaned: now.is_none(),
        });
    };
    // Where the file is the same there is nothing to follow, however long the way is.
    let file = |tree| git.file_at(tree, anchor.file.as_bytes());
    if let Some(from) = from
        && file(from)? == file(to)?
    {
        return Ok(Seen::unchanged(anchor));
    }
    let held = looking.follow(&lines.from(opened)?, Held::new(anchor, first.clone()))?;
    Ok(Seen {
        body_changed: held.text != first,
        orphaned: !held.is_there,
        anchor: held.anchor,
    })
}

impl DiscussionRecord {
    /// What has become of its symbol at the state that the lines lead to.
    fn seen(&self, looking: &Looking<'_>, lines: &mut LinesTo<'_>) -> Result<Seen, Failure> {
        let opened = opened_at(&self.opened_against, self.id)?;
        seen(looking, self.anchor(), opened, lines)
    }

    /// What it was opened on.
    pub fn anchor(&self) -> SymbolRef {
        SymbolRef {
            file: self.file.clone(),
            symbol: self.symbol.clone(),
        }
    }
}
