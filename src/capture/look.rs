//! A worktree's content as it is now, with durable objects (G4): what a capture makes a state of.

use super::{Captures, scanners::Held};
use crate::{
    failure::{Failure, Reason},
    git::{LeftOut, ObjectBatch, ObjectId, StateId},
    store::{self, ReadTx},
    thread::{Place, Thread, ThreadName, newest_of},
};

/// A worktree's content as it is now; its trees and files are among Git's objects.
pub(super) struct Look {
    pub(super) place: Place,
    pub(super) head: Option<StateId>,
    /// The thread as it was when the content was taken.
    pub(super) seen: Option<Thread>,
    /// The newest state, and its tree.
    pub(super) newest: Option<(StateId, ObjectId)>,
    pub(super) tree: ObjectId,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) unmerged: bool,
}

/// Steps of a worktree's history that are yet to be written down.
pub(super) struct Pending {
    /// The newest state: it was not a step yet.
    pub(super) newest: bool,
    /// The present content.
    pub(super) present: bool,
}

impl Look {
    /// Looks at the worktree that `held` is for. New objects are durable then. Blocks.
    pub(super) fn take(
        captures: &Captures,
        place: Place,
        held: &mut Held,
    ) -> Result<Self, Failure> {
        Self::with(captures, place, held, None, |_, _| Ok(())).map(|(look, ())| look)
    }

    /// The same; `view` is the thread as a transaction leaves it. `also` may add objects that are then
    /// made durable with the others.
    pub(super) fn with<T>(
        captures: &Captures,
        place: Place,
        held: &mut Held,
        view: Option<Thread>,
        also: impl FnOnce(&Self, &ObjectBatch) -> Result<T, Failure>,
    ) -> Result<(Self, T), Failure> {
        let git = captures.places.git_of(&place.worktree)?;
        let stands = git.head()?;
        let head = stands.commit;
        let store = captures.places.store();
        let seen = match view {
            Some(view) => Some(view),
            None => store.read(|tx| tx.thread(place.thread.as_str()))?,
        };
        let newest = match newest_of(seen.clone(), head) {
            Some(state) => Some((state, git.tree_of(state)?)),
            None => None,
        };
        let scanner = held.scanner()?;
        let objects = ObjectBatch::new(scanner.git());
        let mut scanned = scanner.scan(&objects, captures.size_guard())?;
        // A checkout or commit meanwhile: what was seen may be of both.
        if git.head()? != stands {
            return Err(moved(&place.thread));
        }
        let look = Self {
            place,
            head,
            seen,
            newest,
            tree: scanned.tree,
            left_out: std::mem::take(&mut scanned.left_out),
            unmerged: scanned.unmerged,
        };
        let added = also(&look, &objects)?;
        // Also when nothing changed: what is settled is not looked at again, and Git may have written
        // it without a sync.
        objects.finish().map_err(|e| Failure::from(&e))?;
        scanner.settle(scanned);
        Ok((look, added))
    }

    /// Whether nothing changed since the newest state.
    pub(super) fn is_newest(&self) -> bool {
        self.newest.is_some_and(|(_, tree)| tree == self.tree)
    }

    /// The steps that are yet to be written down.
    pub(super) fn pending(&self, tx: &ReadTx<'_>) -> Result<Pending, store::Error> {
        let at = tx.current_step(self.place.line())?;
        // What a restore left alone is no change of the user's: a step has the tree that it led to.
        let stands_at = |(state, tree): &(StateId, ObjectId)| {
            at.as_ref()
                .is_some_and(|at| at.state_id == state.as_bytes() || at.tree == tree.as_bytes())
        };
        let newest = self.newest.filter(|newest| !stands_at(newest));
        let last = match &newest {
            Some((_, tree)) => Some(tree.as_bytes()),
            None => at.as_ref().map(|at| at.tree.as_slice()),
        };
        Ok(Pending {
            newest: newest.is_some(),
            present: last != Some(self.tree.as_bytes()),
        })
    }
}

pub(crate) fn moved(name: &ThreadName) -> Failure {
    Failure::new(
        Reason::ThreadMoved,
        format!(
            "the thread `{name}` was moved by another call meanwhile; nothing was changed: try again"
        ),
    )
}
