//! Telling states apart, and the worktree from a state.

use std::sync::Arc;

use super::{Captures, look::Look, restore::check_paths};
use crate::{
    deadline::Deadline,
    failure::{Failure, Reason},
    git::{Compare, Comparison, GitDir, ObjectId, RepoPath, compare_trees},
    mutation::blocking,
    thread::{Place, state_named},
};

/// What to compare, and how much of it to tell.
#[derive(Debug, Clone)]
pub struct CompareRequest {
    /// A path in the worktree that is meant; empty for the main one.
    pub repo_path: String,
    /// The older side; empty for the newest state.
    pub from: String,
    /// The newer side; empty for the worktree as it is now.
    pub to: String,
    /// Files and folders to look at; none means everything.
    pub paths: Vec<String>,
    /// Whether patches are wanted.
    pub patch: bool,
    /// Go on after this path.
    pub after: String,
    /// Changes to tell at most.
    pub limit: usize,
    /// Bytes of patches to tell at most.
    pub patch_bytes: usize,
}

/// How two sides differ.
#[derive(Debug)]
pub struct Compared {
    /// The older side's tree.
    pub from: ObjectId,
    /// The newer side's tree.
    pub to: ObjectId,
    /// A page of what differs.
    pub page: Comparison,
}

/// Tells two sides apart.
///
/// # Errors
/// When a side or a path is not known, or the worktree cannot be read.
pub async fn compare(captures: &Arc<Captures>, asked: CompareRequest) -> Result<Compared, Failure> {
    if asked.to.is_empty() {
        let held = captures.hold(&asked.repo_path).await;
        let (place, mut held) = held.map_err(|refused| match refused.reason {
            Reason::NoWorktree => both_needed(refused),
            _ => refused,
        })?;
        let captures = Arc::clone(captures);
        return blocking(move || {
            let git = captures.places.git_of(&place.worktree)?;
            let look = Look::take(&captures, place.clone(), &mut held)?;
            // Others may go on while Git compares.
            drop(held);
            let newest = look
                .newest
                .map_or_else(|| git.empty_tree(), |(_, tree)| tree);
            let from = captures.side(&git, &asked.from, "from", newest)?;
            page(&captures, Some(&place), &git, (from, look.tree), &asked)
        })
        .await;
    }
    let captures = Arc::clone(captures);
    blocking(move || {
        let (place, git) = captures.where_told(&asked)?;
        let newest = match &place {
            Some(place) => captures.newest_tree(place, &git)?,
            None => git.empty_tree(),
        };
        let from = captures.side(&git, &asked.from, "from", newest)?;
        let to = captures.side(&git, &asked.to, "to", newest)?;
        page(&captures, place.as_ref(), &git, (from, to), &asked)
    })
    .await
}

impl Captures {
    /// The place that is meant, and Git. Two states that are both named can be told apart where there
    /// is no worktree as well.
    fn where_told(&self, asked: &CompareRequest) -> Result<(Option<Place>, GitDir), Failure> {
        match self.places.worktree(&asked.repo_path) {
            Err(bare) if bare.reason == Reason::NoWorktree && !asked.from.is_empty() => {
                Ok((None, self.places.git()?))
            }
            Err(bare) if bare.reason == Reason::NoWorktree => Err(both_needed(bare)),
            here => {
                let place = self.places.find(here?, "")?;
                let git = self.places.git_of(&place.worktree)?;
                Ok((Some(place), git))
            }
        }
    }

    fn newest_tree(&self, place: &Place, git: &GitDir) -> Result<ObjectId, Failure> {
        let head = git.head()?.commit;
        match self.places.current_state(&place.thread, head)? {
            Some(state) => Ok(git.tree_of(state)?),
            None => Ok(git.empty_tree()),
        }
    }

    fn side(
        &self,
        git: &GitDir,
        name: &str,
        field: &'static str,
        newest: ObjectId,
    ) -> Result<ObjectId, Failure> {
        if name.is_empty() {
            return Ok(newest);
        }
        let state = state_named(&self.places, git, name, field)?;
        Ok(git.tree_of(state)?)
    }
}

/// Where there is no worktree there is no newest state.
fn both_needed(mut bare: Failure) -> Failure {
    bare.message += ", or name two states to tell apart";
    bare
}

fn page(
    captures: &Captures,
    place: Option<&Place>,
    git: &GitDir,
    (from, to): (ObjectId, ObjectId),
    asked: &CompareRequest,
) -> Result<Compared, Failure> {
    let worktree = place.map(|place| place.worktree.root.as_path());
    let root = worktree.unwrap_or(captures.places.repository().root());
    let paths = asked.paths.iter().map(|path| RepoPath::parse(root, path));
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    check_paths(git, [from, to], &paths)?;
    let page = compare_trees(
        git,
        &Compare {
            from,
            to,
            worktree,
            paths: &paths,
            patch: asked.patch,
            after: &asked.after,
            limit: asked.limit,
            patch_bytes: asked.patch_bytes,
        },
        &Deadline::default(),
    )?;
    Ok(Compared { from, to, page })
}
