//! Whose turn it is to take something into the index.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use parking_lot::{Mutex, MutexGuard};

/// One at a time has it.
#[derive(Default)]
pub(super) struct Turn {
    taken: Mutex<()>,
    waiting: AtomicUsize,
}

impl Turn {
    /// Waits for the turn, until then at most. It is given back when the guard is dropped.
    pub(super) fn take(&self, until: Option<Instant>) -> Option<MutexGuard<'_, ()>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let turn = match until {
            None => Some(self.taken.lock()),
            Some(until) => self.taken.try_lock_until(until),
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        turn
    }

    /// Whether somebody waits for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}
