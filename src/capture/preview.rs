//! What a restore would do.

use std::sync::Arc;

use super::{
    Captures,
    look::Look,
    restore::{RestoreRequest, check_paths},
};
use crate::{
    failure::Failure,
    git::{Change, RepoPath, StateId},
    mutation::blocking,
};

/// What a restore would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The state that it goes to.
    pub state: StateId,
    /// The worktree's thread.
    pub thread: String,
    /// What would change in the worktree, in order.
    pub changes: Vec<Change>,
}

/// Tells what a restore would do, and does none of it.
///
/// # Errors
/// What would refuse the restore: the target, a path, the worktree.
pub async fn preview(captures: &Arc<Captures>, asked: RestoreRequest) -> Result<Preview, Failure> {
    let (place, mut held) = captures.hold(&asked.repo_path).await?;
    let captures = Arc::clone(captures);
    blocking(move || {
        let root = &place.worktree.root;
        let paths = asked.paths.iter().map(|path| RepoPath::parse(root, path));
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        let git = captures.places.git_of(&place.worktree)?;
        let look = Look::take(&captures, place, &mut held)?;
        let goal = asked.target.resolve(&captures, &git, &look)?;
        check_paths(&git, [look.tree, goal.tree], &paths)?;
        Ok(Preview {
            state: goal.state,
            thread: look.place.thread.as_str().to_owned(),
            changes: git.diff(look.tree, goal.tree, &paths)?,
        })
    })
    .await
}
