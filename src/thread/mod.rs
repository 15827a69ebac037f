//! Threads: named lines of states. A thread is declared by being started, or is the branch that a
//! worktree has checked out; its newest state is at `refs/heddle/threads/<name>`.

mod commands;
mod name;
mod place;
mod queries;

pub(crate) use commands::{ADD_WORKTREE, AddedWorktree};
pub use commands::{
    CompleteThread, CompletedThread, StartThread, StartThreadRequest, StartedThread,
};
pub use name::{NAME_LIMIT, ThreadName};
pub use place::{Place, Places};
pub(crate) use queries::newest_of;
pub use queries::{Overview, Summary, state_named, state_of_id};

pub use crate::store::ThreadRecord as Thread;

impl Thread {
    /// A thread of which nothing is known yet.
    pub(crate) fn new(name: &ThreadName, now_secs: i64) -> Self {
        Self {
            name: name.as_str().to_owned(),
            declared: false,
            base_state: None,
            current_state: None,
            chain: None,
            chain_head: None,
            path: None,
            parent_thread: None,
            provider: None,
            model: None,
            complete: false,
            conflicted: false,
            confidence: None,
            created_secs: now_secs,
            captured_secs: None,
            active_secs: now_secs,
        }
    }

    /// `active`, `complete` or `conflicted`.
    pub fn coordination_status(&self) -> &'static str {
        match (self.complete, self.conflicted) {
            (true, _) => "complete",
            (false, true) => "conflicted",
            (false, false) => "active",
        }
    }
}
