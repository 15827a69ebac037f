//! Where a thread stands when a transaction begins.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf, sync::Arc};

use super::{
    Captures,
    snapshot::{Says, Snapshot},
};
use crate::{
    failure::{Failure, Reason},
    git::{GitDir, StateId},
    mutation::{Caller, blocking},
    thread::ThreadName,
};

/// A thread and its worktree at one moment.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The thread.
    pub thread: ThreadName,
    /// The worktree's root, in bytes; `None` in a bare repository.
    pub worktree: Option<Vec<u8>>,
    /// The worktree's HEAD.
    pub head: Option<StateId>,
    /// The thread's newest state.
    pub newest: Option<StateId>,
    /// A state with the worktree's content: the newest, or else one that only who asked knows of.
    pub content: Option<StateId>,
}

impl Captures {
    /// Where the thread stands that a caller at `repo_path` means. The worktree's content is kept as
    /// a state, durably, that nothing refers to yet.
    ///
    /// # Errors
    /// When the thread is not known, or the worktree cannot be read.
    pub async fn standing(
        self: &Arc<Self>,
        repo_path: &str,
        thread: &str,
        caller: &Caller,
    ) -> Result<Standing, Failure> {
        let place = match self.place(repo_path, thread).await {
            Err(failure) if failure.reason == Reason::NoWorktree => {
                return self.standing_bare(thread);
            }
            place => place?,
        };
        let says = Says {
            actor: caller.actor.clone(),
            agent: caller.agent.clone(),
            intent: "Before a transaction".to_owned(),
            confidence: None,
        };
        let mut held = self.scanners.hold(&place.worktree).await;
        let captures = Arc::clone(self);
        blocking(move || {
            let snapshot = Snapshot::take(&captures, place, &mut held, None, &says)?;
            let look = &snapshot.look;
            Ok(Standing {
                thread: look.place.thread.clone(),
                worktree: Some(look.place.worktree.key().to_vec()),
                head: look.head,
                newest: look.newest.map(|(state, _)| state),
                content: Some(snapshot.state),
            })
        })
        .await
    }

    /// In a bare repository, a thread is what is known of it.
    fn standing_bare(&self, thread: &str) -> Result<Standing, Failure> {
        let thread = self.places.named("", thread)?;
        let newest = self.places.current_state(&thread, None)?;
        Ok(Standing {
            thread,
            worktree: None,
            head: None,
            newest,
            content: None,
        })
    }

    /// The HEAD of the worktree at a path, in bytes.
    ///
    /// # Errors
    /// `WORKTREE_GONE`, or when Git cannot be read.
    pub async fn head_at(self: &Arc<Self>, worktree: Vec<u8>) -> Result<Option<StateId>, Failure> {
        let captures = Arc::clone(self);
        blocking(move || {
            let root = PathBuf::from(OsString::from_vec(worktree));
            let found = captures.places.repository().worktree_at(&root);
            let worktree = found.ok_or_else(|| {
                Failure::new(
                    Reason::WorktreeGone,
                    format!(
                        "the worktree {} is gone, in which the transaction began; abort it, without rewinding",
                        root.display()
                    ),
                )
            })?;
            Ok(GitDir::open(&worktree.git_dir)?.head()?.commit)
        })
        .await
    }
}
