//! What captures have told that they leave out: said again with every capture it would only be noise.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Captured;
use crate::git::LeftOut;

/// Paths of a thread that are remembered: answers name no more.
const REMEMBERED: usize = 1_000;

/// By thread, what its last capture left out. A daemon that starts anew tells it all once more.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<String, HashSet<LeftOut>>>);

impl Told {
    /// Marks what the capture before left out as well, for the same reason.
    pub(super) fn mark(&self, captured: &mut Captured) {
        if captured.left_out.is_empty() {
            return;
        }
        let threads = self.threads();
        if let Some(before) = threads.get(&captured.thread) {
            for left_out in &mut captured.left_out {
                left_out.as_before = before.contains(left_out);
            }
        }
    }

    /// It is told.
    pub(super) fn remember(&self, captured: &Captured) {
        let told = captured.left_out.iter().take(REMEMBERED);
        let told: HashSet<LeftOut> = told
            .map(|left_out| LeftOut {
                as_before: false,
                ..left_out.clone()
            })
            .collect();
        let mut threads = self.threads();
        if told.is_empty() {
            threads.remove(&captured.thread);
        } else {
            threads.insert(captured.thread.clone(), told);
        }
    }

    fn threads(&self) -> MutexGuard<'_, HashMap<String, HashSet<LeftOut>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
