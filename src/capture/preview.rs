//! What a restore would do.

use std::sync::Arc;

use super::{
    Captures,
    look::Look,
    restore::{RestoreRequest, check_paths},
    target::Goal,
};
use crate::{
    failure::{Failure, Reason},
    git::{Change, GitDir, ObjectId, RepoPath, StateId},
    mutation::blocking,
    thread::Place,
};

/// What a restore would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The state that it goes to.
    pub state: StateId,
    /// The worktree's thread.
    pub thread: String,
    /// The tree that the worktree has.
    pub from: ObjectId,
    /// What would change in the worktree, in order.
    pub changes: Vec<Change>,
}

/// Tells what a restore would do, and does none of it. With `from`, the raw id of a tree, the worktree
/// is taken to have that, and is not looked at.
///
/// # Errors
/// What would refuse the restore: the target, a path, the worktree.
pub async fn preview(
    captures: &Arc<Captures>,
    asked: RestoreRequest,
    from: &[u8],
) -> Result<Preview, Failure> {
    if !from.is_empty() {
        let from = ObjectId::try_from(from).map_err(|_| not_a_tree())?;
        let captures = Arc::clone(captures);
        return blocking(move || {
            let here = captures.places.worktree(&asked.repo_path)?;
            let place = captures.places.find(here, "")?;
            let git = captures.places.git_of(&place.worktree)?;
            if !git.has_tree(from) {
                return Err(not_a_tree());
            }
            let goal = asked.target.resolve_apart(&captures, &git)?;
            foreseen(&git, &place, from, goal, &asked.paths)
        })
        .await;
    }
    let (place, mut held) = captures.hold(&asked.repo_path).await?;
    let captures = Arc::clone(captures);
    blocking(move || {
        let git = captures.places.git_of(&place.worktree)?;
        let look = Look::take(&captures, place, &mut held)?;
        // Others may go on while the trees are told apart.
        drop(held);
        let goal = asked.target.resolve(&captures, &git, &look)?;
        foreseen(&git, &look.place, look.tree, goal, &asked.paths)
    })
    .await
}

fn foreseen(
    git: &GitDir,
    place: &Place,
    from: ObjectId,
    goal: Goal,
    paths: &[String],
) -> Result<Preview, Failure> {
    let root = &place.worktree.root;
    let paths = paths.iter().map(|path| RepoPath::parse(root, path));
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    check_paths(git, [from, goal.tree], &paths)?;
    Ok(Preview {
        state: goal.state,
        thread: place.thread.as_str().to_owned(),
        from,
        changes: git.diff(from, goal.tree, &paths)?,
    })
}

fn not_a_tree() -> Failure {
    Failure::field(
        Reason::InvalidField,
        "from_tree",
        "from_tree is not the id of a tree in this repository; give that of an earlier answer, or none",
    )
}
