//! What a start does about effects that were cut short: it undoes them, and never overwrites a file
//! that is neither as before nor as planned (G9): it reports it.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use super::{
    Captures,
    restore::{RESTORE, RestoreIntent},
};
use crate::{
    failure::Failure,
    git::{
        GitDir, ObjectId, Plan, Scanner, Worktree, sweep_checkouts, sweep_indexes, sweep_objects,
        undo_interrupted,
    },
    store::IntentRecord,
    thread::{ADD_WORKTREE, AddedWorktree},
};

impl Captures {
    /// Undoes what was cut short, and removes what only a call under way has; answers the ids of the
    /// intents that need nothing more. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recover(&self) -> Result<Vec<i64>, Failure> {
        let intents = self.places.store().read(|tx| tx.intents())?;
        let mut ended = Vec::new();
        // The newest first: an older one may be what it built upon.
        for intent in intents.iter().rev() {
            match self.undo(intent) {
                Ok(()) => ended.push(intent.id),
                Err(failure) => tracing::error!(
                    "what was cut short could not be undone, and will be tried again: {failure}"
                ),
            }
        }
        let left = intents
            .iter()
            .filter(|intent| !ended.contains(&intent.id))
            .collect::<Vec<_>>();
        if let Err(failure) = self.sweep(&left) {
            tracing::warn!("what a crash left over is not removed yet: {failure}");
        }
        Ok(ended)
    }

    /// Removes what only a call under way has: none is, but for those that could not be undone.
    fn sweep(&self, left: &[&IntentRecord]) -> Result<(), Failure> {
        let repository = self.places.repository();
        let open: Vec<RestoreIntent> = left.iter().filter_map(|open| restore_of(open)).collect();
        for worktree in repository.worktrees()? {
            let is_open = open.iter().any(|open| open.root == worktree.key());
            sweep_checkouts(&worktree.root, !is_open)?;
        }
        if open.is_empty() {
            sweep_indexes(repository)?;
        }
        sweep_objects(&self.places.git()?, repository).map_err(|e| Failure::from(&e))
    }

    /// Undoes restores of a worktree that stayed half done; answers their intents' ids. Nobody else
    /// may restore it meanwhile. Blocks.
    pub(super) fn undo_unfinished(&self, worktree: &Worktree) -> Result<Vec<i64>, Failure> {
        let intents = self.places.store().read(|tx| tx.intents())?;
        let mut ended = Vec::new();
        for intent in intents.iter().rev() {
            if let Some(restore) = restore_of(intent)
                && restore.root == worktree.key()
            {
                self.undo_restore(&restore)?;
                ended.push(intent.id);
            }
        }
        Ok(ended)
    }

    fn undo(&self, intent: &IntentRecord) -> Result<(), Failure> {
        let body = intent.body.as_str();
        match intent.kind.as_str() {
            RESTORE => {
                if let Some(restore) = restore_of(intent) {
                    return self.undo_restore(&restore);
                }
            }
            ADD_WORKTREE => match serde_json::from_str::<AddedWorktree>(body) {
                Ok(added) => {
                    let path = Path::new(OsStr::from_bytes(&added.path));
                    self.places.repository().undo_added_worktree(path)?;
                }
                Err(e) => {
                    tracing::error!("a worktree that was being added is not known any more: {e}")
                }
            },
            other => {
                tracing::warn!("an effect of the kind {other} was cut short, and is not known here")
            }
        }
        Ok(())
    }

    fn undo_restore(&self, restore: &RestoreIntent) -> Result<(), Failure> {
        let root = Path::new(OsStr::from_bytes(&restore.root));
        let Some(worktree) = self.places.repository().worktree_at(root) else {
            tracing::warn!(
                "the worktree {} is gone, and with it a restore that was cut short",
                root.display()
            );
            return Ok(());
        };
        let tree = |hex: &str| ObjectId::from_hex(hex.as_bytes());
        let (Ok(from), Ok(to)) = (tree(&restore.from), tree(&restore.to)) else {
            tracing::error!(
                "a restore of {} that was cut short is damaged",
                root.display()
            );
            return Ok(());
        };
        tracing::info!(worktree = %root.display(), "undoing a restore that was cut short");
        let git = GitDir::open(&worktree.git_dir)?;
        // It knows nothing yet: every path is looked at as it is.
        let nothing_known = self.places.repository().store_dir().join("no-cache");
        let mut scanner = Scanner::new(worktree, nothing_known)?;
        let mut plan = Plan::new(&git, &mut scanner, from, to)?;
        plan.pass_over(&restore.there);
        for path in undo_interrupted(&mut scanner, &plan)? {
            tracing::warn!(
                "{path} was changed after a restore was cut short, and is left as it is"
            );
        }
        if let Some(index) = &restore.index {
            index.take_back()?;
        }
        Ok(())
    }
}

fn restore_of(intent: &IntentRecord) -> Option<RestoreIntent> {
    if intent.kind != RESTORE {
        return None;
    }
    match serde_json::from_str(&intent.body) {
        Ok(restore) => Some(restore),
        Err(e) => {
            tracing::error!("a restore that was cut short is not known any more: {e}");
            None
        }
    }
}
