//! Whose turn it is to take something into the index, and who goes before whom.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, MutexGuard};

use crate::deadline::Deadline;

/// How soon somebody needs it. One gives way to those who need it sooner and to nobody else: two who
/// gave way to each other would both get nowhere.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need {
    /// Whenever nobody else wants something.
    InAdvance,
    /// As what has happened is to be told of.
    Soon,
    /// A call waits.
    Now,
}

/// One at a time has it, in the order in which they ask.
#[derive(Default)]
pub(super) struct Turn {
    taken: Mutex<()>,
    /// Those who wait, by their need.
    waiting: [AtomicUsize; 3],
}

impl Turn {
    /// Waits for the turn, until the deadline at most. It is given back when the guard is dropped: to
    /// who waits, and not to who asks next.
    pub(super) fn take(&self, need: Need, deadline: &Deadline) -> Option<MutexGuard<'_, ()>> {
        let waiting = &self.waiting[need as usize];
        waiting.fetch_add(1, Ordering::Relaxed);
        let turn = deadline.block_on(self.taken.lock());
        waiting.fetch_sub(1, Ordering::Relaxed);
        turn
    }

    /// Whether somebody waits for it who needs it sooner than that.
    pub(super) fn is_wanted_before(&self, need: Need) -> bool {
        let sooner = &self.waiting[need as usize + 1..];
        sooner.iter().any(|it| it.load(Ordering::Relaxed) > 0)
    }
}
