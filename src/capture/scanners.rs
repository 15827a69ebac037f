//! One scanner for each worktree, which one call has at a time.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

use crate::{
    failure::Failure,
    git::{Repository, Scanner, Worktree},
};

/// The scanners of a repository's worktrees.
pub(super) struct Scanners {
    repository: Repository,
    known: Mutex<HashMap<PathBuf, Slot>>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Scanner>>>;

/// A worktree's scanner, held. Nobody else captures or restores the worktree meanwhile.
pub(super) struct Held {
    slot: OwnedMutexGuard<Option<Scanner>>,
    worktree: Worktree,
    cache_file: PathBuf,
}

impl Scanners {
    pub(super) fn new(repository: Repository) -> Self {
        Self {
            repository,
            known: Mutex::default(),
        }
    }

    /// Waits for the worktree's scanner. Whoever asked first gets it first.
    pub(super) async fn hold(&self, worktree: &Worktree) -> Held {
        let slot = self.slot(worktree).lock_owned().await;
        let name = worktree.name(&self.repository);
        Held {
            slot,
            cache_file: self.repository.store_dir().join(format!("capture-{name}")),
            worktree: worktree.clone(),
        }
    }

    fn slot(&self, worktree: &Worktree) -> Slot {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Worktrees come and go; what is known of those that went is of no use.
        known.retain(|root, slot| Arc::strong_count(slot) > 1 || root.is_dir());
        Arc::clone(known.entry(worktree.root.clone()).or_default())
    }

    /// Saves what the scanners know that nobody holds.
    pub(super) fn save(&self) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in known.values() {
            if let Ok(mut slot) = slot.try_lock()
                && let Some(scanner) = slot.as_mut()
            {
                scanner.save();
            }
        }
    }
}

impl Held {
    /// The scanner, with Git as it is now; the first one reads what an earlier daemon saved. Blocks.
    pub(super) fn scanner(&mut self) -> Result<&mut Scanner, Failure> {
        let scanner = match self.slot.take() {
            Some(mut scanner) => {
                scanner.refresh()?;
                scanner
            }
            None => Scanner::new(self.worktree.clone(), self.cache_file.clone())?,
        };
        Ok(self.slot.insert(scanner))
    }

    pub(super) fn worktree(&self) -> &Worktree {
        &self.worktree
    }
}
