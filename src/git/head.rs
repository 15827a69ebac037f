//! Where a worktree stands: its branch and its commit.

use std::fs;

use super::{Error, StateId};

/// A worktree's HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The branch that is checked out, or that a rebase is about, without `refs/heads/`.
    pub branch: Option<String>,
    /// The commit; `None` before the first.
    pub commit: Option<StateId>,
}

impl Head {
    /// Reads HEAD as it is now.
    ///
    /// # Errors
    /// When Git's files cannot be read.
    pub fn of(git: &gix::Repository) -> Result<Self, Error> {
        let head = git.head().map_err(|e| Error::unreadable(git, &e))?;
        let branch = match head.referent_name() {
            Some(name) => Some(name.shorten().to_string()),
            None => rebased_branch(git),
        };
        let commit = if head.is_unborn() {
            None
        } else {
            let id = head
                .into_peeled_id()
                .map_err(|e| Error::unreadable(git, &e))?;
            Some(id.detach().into())
        };
        Ok(Self { branch, commit })
    }
}

/// The branch of a rebase under way; HEAD is detached meanwhile.
fn rebased_branch(git: &gix::Repository) -> Option<String> {
    ["rebase-merge/head-name", "rebase-apply/head-name"]
        .into_iter()
        .find_map(|file| {
            let text = fs::read_to_string(git.git_dir().join(file)).ok()?;
            text.trim().strip_prefix("refs/heads/").map(str::to_owned)
        })
}
