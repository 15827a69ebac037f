//! A line on the terminal that says what is being waited for, once that takes longer than a moment.
//! It tells how long so far and never how long still: nobody knows.

use std::{cell::RefCell, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::output;

/// How long is a moment.
const MOMENT: Duration = Duration::from_millis(500);
/// How often the line is drawn again.
const TICK: Duration = Duration::from_millis(100);

/// The line, as long as something is waited for. It is drawn on standard error, and only where that
/// is a terminal; it is gone when it is dropped.
pub(super) struct Progress {
    doing: &'static str,
    since: Instant,
    bar: RefCell<Option<ProgressBar>>,
}

impl Progress {
    /// Begins to wait for what `doing` names, such as `capturing`.
    pub(super) fn new(doing: &'static str) -> Self {
        Self {
            doing,
            since: Instant::now(),
            bar: RefCell::new(None),
        }
    }

    /// Waits for `work`, and shows it when that takes longer than a moment.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let first = self.since + MOMENT;
        let mut ticks = interval_at(first.max(Instant::now()), TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = ticks.tick() => self.draw(),
            }
        }
    }

    /// Prints a warning beside the line, not into it.
    pub(super) fn warning(&self, message: &str) {
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(|| output::warning(message)),
            None => output::warning(message),
        }
    }

    fn draw(&self) {
        let mut bar = self.bar.borrow_mut();
        bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner().with_elapsed(self.since.elapsed());
            // A template that cannot be read is a mistake here; the plain line does then.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(self.doing);
            bar
        })
        .tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
