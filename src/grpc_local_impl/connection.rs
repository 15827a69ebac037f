//! One connection, as the services see it: whose it is, and which of its calls are not answered to
//! the end.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::large::LARGE_PER_CONNECTION;
use crate::{hook::PeerProcess, status::Busy};

/// The calls of one connection, and whose it is. Every request carries it.
#[derive(Debug, Clone)]
pub struct ConnectionCalls {
    /// The peer's user, as the kernel says.
    pub uid: u32,
    /// The peer's process when it connected; advisory.
    pub pid: Option<i32>,
    /// The same process, known for certain.
    pub process: Arc<PeerProcess>,
    calls: Arc<Calls>,
}

#[derive(Debug)]
pub(super) struct Calls {
    in_flight: AtomicUsize,
    begun: AtomicU64,
    changed: Notify,
    newcomer: Mutex<Option<Busy>>,
    pub(super) stalled: CancellationToken,
    large: Arc<Semaphore>,
}

impl ConnectionCalls {
    /// A connection without a call. `newcomer` keeps the daemon from being idle until its first.
    pub fn new(uid: u32, pid: Option<i32>, process: PeerProcess, newcomer: Busy) -> Self {
        Self {
            uid,
            pid,
            process: Arc::new(process),
            calls: Arc::new(Calls {
                in_flight: AtomicUsize::new(0),
                begun: AtomicU64::new(0),
                changed: Notify::new(),
                newcomer: Mutex::new(Some(newcomer)),
                stalled: CancellationToken::new(),
                large: Arc::new(Semaphore::new(LARGE_PER_CONNECTION)),
            }),
        }
    }

    /// Whether a call is in flight.
    pub fn is_calling(&self) -> bool {
        self.in_flight() > 0
    }

    /// Calls and streams whose answer is not all on its way to the client.
    pub fn in_flight(&self) -> usize {
        self.calls.in_flight.load(Ordering::SeqCst)
    }

    /// Resolves when the first call has begun.
    pub async fn first(&self) {
        loop {
            let changed = self.calls.changed.notified();
            if self.calls.begun.load(Ordering::SeqCst) > 0 {
                return;
            }
            changed.await;
        }
    }

    /// Resolves when the client has left a large answer unread for too long: the connection must go,
    /// and the memory with it (G8).
    pub async fn stalled(&self) {
        self.calls.stalled.cancelled().await;
    }

    /// The places for its large answers.
    pub(super) fn large(&self) -> &Arc<Semaphore> {
        &self.calls.large
    }

    /// Resolves when there has been no call for `grace`.
    pub async fn quiet_for(&self, grace: Duration) {
        loop {
            let changed = self.calls.changed.notified();
            if self.is_calling() {
                changed.await;
                continue;
            }
            let begun = self.calls.begun.load(Ordering::SeqCst);
            tokio::time::sleep(grace).await;
            if !self.is_calling() && begun == self.calls.begun.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    pub(super) fn begin(&self) -> Arc<InFlight> {
        self.calls.in_flight.fetch_add(1, Ordering::SeqCst);
        if self.calls.begun.fetch_add(1, Ordering::SeqCst) == 0 {
            let mut newcomer = self
                .calls
                .newcomer
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            newcomer.take();
            self.calls.changed.notify_waiters();
        }
        Arc::new(InFlight {
            calls: Arc::clone(&self.calls),
            large: OnceLock::new(),
        })
    }
}

/// A call of this connection, until its answer is written to the socket.
pub(super) struct InFlight {
    pub(super) calls: Arc<Calls>,
    /// Its place among the large answers, if it is one.
    pub(super) large: OnceLock<DropGuard>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.calls.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.calls.changed.notify_waiters();
    }
}
