//! Telling notices: they were committed with the change that they tell of, and are told after it, in
//! their order. What a daemon before this one did not get to tell is told again.

use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot, watch};

use crate::{
    failure::Failure,
    store::{self, NOTICE_LIMIT, NoticeRecord, Store, Write, WriteTx},
};

/// Notices that are read at once.
const PAGE: u32 = 32;

/// Notices that may wait for one subscriber.
pub const LAG_LIMIT: i64 = NOTICE_LIMIT / 2;

/// Time after a start in which subscribers that come back are told what they may have missed.
const COMING_BACK: Duration = Duration::from_secs(60);

/// The notices that are kept, and how far they were told.
pub(super) struct Notices {
    store: Store,
    newest: watch::Sender<i64>,
    /// The notices that a daemon before this one left: after the first, up to the second.
    inherited: (i64, i64),
    started: Instant,
    /// A stream has got further, or ended: what was kept for it may go.
    pub(super) moved: Notify,
}

impl Notices {
    pub(super) fn new(store: Store) -> Result<Self, store::Error> {
        let inherited = store.read(|tx| tx.notice_range())?;
        Ok(Self {
            store,
            newest: watch::Sender::new(inherited.1),
            inherited,
            started: Instant::now(),
            moved: Notify::new(),
        })
    }

    /// The last notice that was committed, as it changes.
    pub(super) fn newest(&self) -> watch::Receiver<i64> {
        self.newest.subscribe()
    }

    /// Notices up to this one are committed.
    pub(super) fn told(&self, newest: i64) {
        self.newest.send_if_modified(|known| {
            let is_later = newest > *known;
            *known = newest.max(*known);
            is_later
        });
    }

    /// The next notices after one; with `untold`, of those that commands were not told of.
    pub(super) fn page(&self, after: i64, untold: bool) -> Result<Vec<NoticeRecord>, store::Error> {
        self.store.read(|tx| tx.notices_after(after, untold, PAGE))
    }

    /// After which notice a new stream begins: the last one or, soon after a start, before what a
    /// crash may have kept from those who come back now.
    pub(super) fn beginning(&self) -> i64 {
        if self.coming_back().is_zero() {
            *self.newest.borrow()
        } else {
            self.inherited.0
        }
    }

    /// How long subscribers of before are still waited for, if they may have missed something.
    pub(super) fn coming_back(&self) -> Duration {
        let (before, last) = self.inherited;
        if before == last {
            return Duration::ZERO;
        }
        COMING_BACK.saturating_sub(self.started.elapsed())
    }

    /// The last notice before which nothing is pruned yet.
    fn pruned_from(&self) -> i64 {
        if self.coming_back().is_zero() {
            0
        } else {
            self.inherited.1
        }
    }

    /// Writes down that commands were told up to `up_to`, and lets go of what streams up to `floor`
    /// do not need either.
    pub(super) async fn mark(&self, up_to: i64, floor: i64) -> Result<(), Failure> {
        let (done, answered) = oneshot::channel();
        self.store.submit(Box::new(Mark {
            up_to,
            pruned: (self.pruned_from(), floor),
            done,
        }));
        answered
            .await
            .unwrap_or_else(|_| Err(store::Error::Stopped.into()))
    }

    /// The last notice that this start found.
    pub(super) fn last_inherited(&self) -> i64 {
        self.inherited.1
    }
}

struct Mark {
    up_to: i64,
    pruned: (i64, i64),
    done: oneshot::Sender<Result<(), Failure>>,
}

impl Write for Mark {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        Ok(tx.notices_told(self.up_to, self.pruned)?)
    }

    fn settle(self: Box<Self>, outcome: Result<(), store::Error>) {
        let _ = self.done.send(outcome.map_err(Failure::from));
    }
}
