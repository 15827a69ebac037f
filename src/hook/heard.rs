//! Which events anybody listens to. It is looked at on every write, so it is one number.

use std::sync::atomic::{AtomicU32, Ordering};

use super::HookEvent;

#[derive(Debug, Default)]
pub(super) struct Heard(AtomicU32);

impl Heard {
    /// Takes note of all listeners anew, by what each of them listens to.
    pub(super) fn set<'a>(&self, listeners: impl Iterator<Item = &'a [HookEvent]>) {
        let all = listeners.fold(0, |all, events| all | mask(events));
        self.0.store(all, Ordering::Relaxed);
    }

    pub(super) fn has(&self, event: HookEvent) -> bool {
        self.0.load(Ordering::Relaxed) & event.bit() != 0
    }
}

/// The events that somebody listens to; none named means every one.
fn mask(events: &[HookEvent]) -> u32 {
    let all = HookEvent::ALL;
    let events = if events.is_empty() { all } else { events };
    events.iter().fold(0, |mask, event| mask | event.bit())
}
