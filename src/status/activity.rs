//! What keeps the daemon from being idle, counted by guards: while one lives, it is busy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, futures::Notified};

/// What a guard stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call that is answered once.
    Call,
    /// An open response stream.
    Stream,
    /// An accepted connection that has not made its first call.
    Newcomer,
    /// Notices that hooks are being told of.
    Notice,
    /// Signals of captures that are being computed.
    Signals,
}

/// The counts of what is going on.
#[derive(Debug, Clone, Default)]
pub struct Activity {
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    calls: AtomicUsize,
    streams: AtomicUsize,
    newcomers: AtomicUsize,
    notices: AtomicUsize,
    signals: AtomicUsize,
    connections: AtomicUsize,
    began: Instant,
    /// When something last ended, in nanoseconds since `began`: written on every call, so no lock.
    quiet_since: AtomicU64,
    ended: Notify,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            calls: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            newcomers: AtomicUsize::new(0),
            notices: AtomicUsize::new(0),
            signals: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            began: Instant::now(),
            quiet_since: AtomicU64::new(0),
            ended: Notify::new(),
        }
    }
}

impl Activity {
    /// Marks something as going on until the guard is dropped.
    pub fn begin(&self, kind: Kind) -> Busy {
        self.counts.of(kind).fetch_add(1, Ordering::SeqCst);
        Busy {
            counts: Arc::clone(&self.counts),
            kind,
        }
    }

    /// How many of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.counts.of(kind).load(Ordering::SeqCst)
    }

    /// Everything that is going on; 0 is idle.
    pub fn busy(&self) -> usize {
        // A newcomer becomes a call, never the other way: counted in this order it is always seen.
        let newcomers = self.count(Kind::Newcomer);
        let others = [Kind::Call, Kind::Stream, Kind::Notice, Kind::Signals];
        newcomers + others.map(|kind| self.count(kind)).iter().sum::<usize>()
    }

    /// Since when nothing has been going on; `None` while something is.
    pub fn quiet_since(&self) -> Option<Instant> {
        (self.busy() == 0).then(|| self.counts.quiet_since())
    }

    /// Resolves when something ends after this call: ask first, then look at the counts.
    pub fn ended(&self) -> Notified<'_> {
        self.counts.ended.notified()
    }

    /// Accepted connections that are open.
    pub fn connections(&self) -> &AtomicUsize {
        &self.counts.connections
    }
}

impl Counts {
    fn of(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Call => &self.calls,
            Kind::Stream => &self.streams,
            Kind::Newcomer => &self.newcomers,
            Kind::Notice => &self.notices,
            Kind::Signals => &self.signals,
        }
    }

    fn quiet_since(&self) -> Instant {
        self.began + Duration::from_nanos(self.quiet_since.load(Ordering::SeqCst))
    }
}

/// Something that is going on.
#[derive(Debug)]
pub struct Busy {
    counts: Arc<Counts>,
    kind: Kind,
}

impl Drop for Busy {
    fn drop(&mut self) {
        // The time first: whoever sees the count at zero must see when that came to be.
        let now = self.counts.began.elapsed().as_nanos() as u64;
        self.counts.quiet_since.fetch_max(now, Ordering::SeqCst);
        self.counts.of(self.kind).fetch_sub(1, Ordering::SeqCst);
        self.counts.ended.notify_waiters();
    }
}
