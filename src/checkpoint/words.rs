//! What a checkpoint says: who, when, and one line for people.

use super::Checkpoint;
use crate::{
    git::{Committed, Identity, LogName, ReflogLine, StateId},
    mutation::now_secs,
};

impl Checkpoint {
    /// A move that a reflog has; of a HEAD, on the thread `off_branch`.
    pub(super) fn of(name: &LogName, line: &ReflogLine, off_branch: Option<&str>) -> Self {
        Self {
            // Whoever sets GIT_COMMITTER_DATE can be ahead; nothing was made later than now.
            secs: line.secs.min(now_secs()),
            thread: name.branch().or(off_branch.map(str::to_owned)),
            state: line.new.or(line.old),
            who: line.who.clone(),
            summary: said(name, line),
        }
    }

    /// A move that no reflog has: a branch is not where it was.
    pub(super) fn moved(
        name: &LogName,
        (old, before): (Option<StateId>, Option<Committed>),
        (new, commit): (StateId, Option<Committed>),
    ) -> Self {
        let now = now_secs();
        let subject = commit.as_ref().map(|commit| commit.subject.clone());
        let verb = if old.is_some() { "moved" } else { "created" };
        // A branch that went on to a newer commit did so when that was made, as far as is known.
        let secs = match (&before, &commit) {
            (Some(before), Some(commit)) if commit.secs >= before.secs => commit.secs.min(now),
            _ => now,
        };
        let ids = ids(old, Some(new));
        Self {
            secs,
            thread: name.branch(),
            state: Some(new),
            who: commit.map_or_else(unknown, |commit| commit.who),
            summary: with(
                format!("{verb} {}, {ids}", place(name)),
                &subject.unwrap_or_default(),
            ),
        }
    }

    /// A branch that is gone. Git writes down nowhere who removed it, nor when.
    pub(super) fn deleted(name: &LogName, old: StateId) -> Self {
        Self {
            secs: now_secs(),
            thread: name.branch(),
            state: Some(old),
            who: unknown(),
            summary: format!("deleted {}, which was at {}", place(name), old.short()),
        }
    }
}

/// Somebody of whom nothing is known.
fn unknown() -> Identity {
    Identity {
        name: "unknown".to_owned(),
        email: String::new(),
    }
}

fn said(name: &LogName, line: &ReflogLine) -> String {
    let (action, rest) = line.action();
    let (place, ids) = (place(name), ids(line.old, line.new));
    match action {
        "" if line.old.is_none() => format!("created {place}, {ids}"),
        "" => format!("moved {place}, {ids}"),
        action => with(format!("{action} on {place}, {ids}"), rest),
    }
}

fn with(text: String, rest: &str) -> String {
    match rest {
        "" => text,
        rest => format!("{text}: {rest}"),
    }
}

fn place(name: &LogName) -> String {
    match (name.branch(), name.worktree()) {
        (Some(branch), _) => branch,
        // Detached, or on a branch that is gone by now.
        (None, Some(worktree)) => format!("HEAD of worktree {worktree}"),
        (None, None) if name.is_head() => "HEAD".to_owned(),
        (None, None) => "a branch that is being renamed".to_owned(),
    }
}

/// `old..new`, or the one that there is.
fn ids(old: Option<StateId>, new: Option<StateId>) -> String {
    match (old, new) {
        (Some(old), Some(new)) if old != new => format!("{}..{}", old.short(), new.short()),
        (_, Some(new)) => new.short(),
        (Some(old), None) => old.short(),
        (None, None) => "nowhere".to_owned(),
    }
}
