//! The page that a reviewer reads: what a state changed, in numbers, in words and in the order to read
//! it; what is risky in it, what was said about it, and what must still happen before it is merged.

use std::{
    sync::{Arc, PoisonError, RwLock},
    thread,
};

use super::{
    Order,
    required::{Known, Required, Requirement},
    voices::Voices,
};
use crate::{
    capture::UNSAID,
    deadline::Deadline,
    discussion::{Discussion, Discussions},
    failure::{Failure, Reason},
    git::{
        Change, Compare, Error, FileChange, FileChangeKind, GitDir, ObjectId, StateId,
        compare_trees,
    },
    shorten::shortened,
    signal::{Computed, Signals},
    symbol::{ChangedFile, Changes},
    thread::{Places, state_of_id},
};

/// Bytes of the line that says what a change is.
pub const HEADLINE_LIMIT: usize = 512;
/// Bytes of what else its author said about it.
pub const NARRATIVE_LIMIT: usize = 64 * 1024;

/// Makes pages of reviews.
pub struct Pages {
    places: Arc<Places>,
    signals: Arc<Signals>,
    discussions: Arc<Discussions>,
    required: RwLock<Vec<Required>>,
}

/// What a reviewer needs to read a state.
#[derive(Debug)]
pub struct Page {
    /// The state.
    pub state: StateId,
    /// What it is compared with: its first parent; `None` where it has none, and all of it is new.
    pub parent: Option<StateId>,
    /// The change in a line.
    pub headline: String,
    /// What else its author said about it; empty for nothing.
    pub narrative: String,
    /// Changed files, as Git counts them; where it had no time to, those that were found without it.
    pub files: usize,
    /// Lines added and removed, as Git counts them; `None` where it had no time to.
    pub lines: Option<(u64, u64)>,
    /// What to read, in order.
    pub order: Order,
    /// What to look at first.
    pub signals: Computed,
    /// What was said about it.
    pub discussions: Vec<Discussion>,
    /// What must hold before it is merged.
    pub requirements: Vec<Requirement>,
    /// Whether discussions are missing, as there was no time to look at all of them.
    pub discussions_partial: bool,
}

impl Pages {
    /// Those of the states of the repository of these places.
    pub fn new(places: Arc<Places>, signals: Arc<Signals>, discussions: Arc<Discussions>) -> Self {
        Self {
            places,
            signals,
            discussions,
            required: RwLock::default(),
        }
    }

    /// Sets what must hold of each state before it is merged.
    pub fn require(&self, required: Vec<Required>) {
        *self
            .required
            .write()
            .unwrap_or_else(PoisonError::into_inner) = required;
    }

    /// The page of the state with this raw object id; of the current one where it is empty. What is not
    /// found by the deadline is left out, and the page says so. Blocks.
    ///
    /// # Errors
    /// When there is no such state, or Git or the store cannot be read.
    pub fn of(&self, repo_path: &str, state: &[u8], deadline: &Deadline) -> Result<Page, Failure> {
        let state = state_of_id(&self.places, repo_path, state, "state_id")?;
        let git = self.places.git()?;
        let parent = git.first_parent(state)?;
        let to = git.tree_of(state)?;
        let from = parent.map_or_else(|| Ok(git.empty_tree()), |parent| git.tree_of(parent))?;
        // Git counts lines in a process of its own: meanwhile everything else is found.
        let (counted, found) = thread::scope(|scope| {
            let counting = scope.spawn(|| self.files(&git, from, to, deadline));
            let found = self.signals.between(&git, state, parent, deadline);
            (counting.join(), found)
        });
        let counted = counted.unwrap_or_else(|_| {
            let message = "counting the lines of the change failed; the daemon's log says more";
            Err(Failure::new(Reason::Internal, message))
        })?;
        let (signals, changes) = found?;
        let lines = counted.as_deref().map(lines_of);
        let files = counted.unwrap_or_else(|| uncounted(&changes));
        let order = Order::of(&changes, &files);
        let touches = |anchor: &_| order.touches(anchor);
        let (discussions, discussions_partial) =
            self.discussions.around(&git, state, touches, deadline)?;
        let requirements = match self.required() {
            required if required.is_empty() => Vec::new(),
            required => {
                let voices = self.places.store().read(|tx| Voices::read(tx, state))?;
                let known = Known {
                    voices: &voices,
                    files: &files,
                    has_all_files: lines.is_some(),
                    signals: &signals,
                    discussions: &discussions,
                    has_all_discussions: !discussions_partial,
                };
                required.into_iter().map(|it| it.of(&known)).collect()
            }
        };
        let (headline, narrative) = told(&git.message(state)?);
        Ok(Page {
            state,
            parent,
            headline: headline.unwrap_or_else(|| in_numbers(files.len(), lines)),
            narrative,
            files: files.len(),
            lines,
            order,
            signals,
            discussions,
            requirements,
            discussions_partial,
        })
    }

    fn required(&self) -> Vec<Required> {
        let required = self.required.read();
        required.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The changed files, with their numbers of lines; `None` where Git had no time to find them.
    fn files(
        &self,
        git: &GitDir,
        from: ObjectId,
        to: ObjectId,
        deadline: &Deadline,
    ) -> Result<Option<Vec<FileChange>>, Failure> {
        let worktree = self.places.repository().main_worktree();
        let asked = Compare {
            from,
            to,
            worktree: worktree.as_ref().map(|worktree| worktree.root.as_path()),
            paths: &[],
            patch: false,
            after: "",
            limit: usize::MAX,
            patch_bytes: 0,
        };
        match compare_trees(git, &asked, deadline) {
            Err(Error::Late) => Ok(None),
            compared => Ok(Some(compared?.changes)),
        }
    }
}

/// Lines added and removed.
fn lines_of(files: &[FileChange]) -> (u64, u64) {
    let lines = files.iter().filter_map(|file| file.lines);
    lines.fold((0, 0), |(added, removed), (more, less)| {
        (added + u64::from(more), removed + u64::from(less))
    })
}

/// The changed files where Git did not tell them.
fn uncounted(changes: &Changes) -> Vec<FileChange> {
    let to_change = |file: &ChangedFile| {
        let change = FileChange::from(&Change {
            path: file.path.clone(),
            before: file.before.as_ref().map(|side| side.entry),
            after: file.after.as_ref().map(|side| side.entry),
        });
        match file.old_path.clone() {
            None => change,
            old_path => FileChange {
                kind: FileChangeKind::Renamed,
                old_path,
                ..change
            },
        }
    };
    changes.files.iter().map(to_change).collect()
}

/// The first line of a message, if it has one, and the rest.
fn told(message: &str) -> (Option<String>, String) {
    let message = message.trim();
    let (headline, narrative) = message.split_once('\n').unwrap_or((message, ""));
    let headline = shortened(headline.trim_end(), HEADLINE_LIMIT).into_owned();
    let is_said = |headline: &String| !headline.is_empty() && message != UNSAID;
    let headline = Some(headline).filter(is_said);
    let narrative = shortened(narrative.trim(), NARRATIVE_LIMIT);
    (headline, narrative.into_owned())
}

/// What a change is that nobody said anything of.
fn in_numbers(files: usize, lines: Option<(u64, u64)>) -> String {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let files = format!("{files} file{} changed", plural(files as u64));
    match lines {
        Some((added, removed)) => {
            format!(
                "{files}, {added} line{} added, {removed} removed",
                plural(added)
            )
        }
        None => files,
    }
}
