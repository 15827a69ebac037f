//! One live subscriber's stream: gates as they are asked, notices as they are committed. Notices are
//! read from the store page by page, so that a slow reader lags and holds no memory.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::watch;

use super::{
    HookEvent, Hooks,
    notices::LAG_LIMIT,
    subscriber::{Delivery, Seat},
};
use crate::{
    failure::{Failure, Reason},
    store::NoticeRecord,
};

/// An open stream of events.
pub struct Subscription {
    hooks: Arc<Hooks>,
    seat: Seat,
    events: Vec<HookEvent>,
    newest: watch::Receiver<i64>,
    /// The last notice that was read.
    read: i64,
    page: VecDeque<NoticeRecord>,
}

impl Subscription {
    pub(super) fn new(hooks: Arc<Hooks>, seat: Seat, events: Vec<HookEvent>) -> Self {
        Self {
            newest: hooks.notices.newest(),
            read: seat.position.load(Ordering::SeqCst),
            hooks,
            seat,
            events,
            page: VecDeque::new(),
        }
    }

    /// The next event; waits for it. It may be dropped and called again without losing one.
    ///
    /// # Errors
    /// `HOOK_EVENTS_MISSED` when the reader is too slow, and when the store cannot be read.
    pub async fn next(&mut self) -> Result<Delivery, Failure> {
        loop {
            if let Ok(question) = self.seat.questions.try_recv() {
                return Ok(question);
            }
            if let Some(notice) = self.page.pop_front() {
                if self.hears(&notice.event) {
                    return Ok(delivery(notice));
                }
                continue;
            }
            // All that was read is on its way.
            self.has_delivered(self.read);
            let newest = *self.newest.borrow_and_update();
            if newest - self.read > LAG_LIMIT {
                return Err(missed());
            }
            if self.read < newest {
                self.page = self.hooks.notices.page(self.read, false)?.into();
                self.read = self.page.back().map_or(newest, |last| last.id);
                continue;
            }
            tokio::select! {
                Some(question) = self.seat.questions.recv() => return Ok(question),
                Ok(()) = self.newest.changed() => {}
                // Neither ends while this and the hooks live.
                else => std::future::pending().await,
            }
        }
    }

    fn hears(&self, event: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|known| known.name() == event)
    }

    fn has_delivered(&self, up_to: i64) {
        if self.seat.position.swap(up_to, Ordering::SeqCst) != up_to {
            self.hooks.notices.moved.notify_one();
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The seat goes right after this; the teller looks when it comes to it.
        self.hooks.notices.moved.notify_one();
    }
}

fn delivery(notice: NoticeRecord) -> Delivery {
    Delivery {
        id: notice.event_id,
        event: notice.event,
        payload: notice.payload.into(),
        emitted_ms: notice.emitted_ms,
    }
}

fn missed() -> Failure {
    Failure::new(
        Reason::HookEventsMissed,
        format!(
            "the subscriber is more than {LAG_LIMIT} notices behind, and some are not kept for it any more; subscribe again, and look at the log for what happened meanwhile"
        ),
    )
}
