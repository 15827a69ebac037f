//! How long an answer is waited for. What takes its time looks at it between its steps, and answers
//! with what it has by then.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tokio_util::sync::{CancellationToken, DropGuard};

/// Until when somebody waits for an answer: until a time, and no longer than they are there. By default
/// for ever.
#[derive(Debug, Clone, Default)]
pub struct Deadline {
    until: Option<Instant>,
    gone: CancellationToken,
}

impl Deadline {
    /// So long from now; for ever, where no clock can tell it.
    pub fn within(time: Duration) -> Self {
        Self {
            until: Instant::now().checked_add(time),
            ..Self::default()
        }
    }

    /// The same, for whom nobody waits once the token is cancelled.
    pub fn unless(self, gone: CancellationToken) -> Self {
        Self { gone, ..self }
    }

    /// Nobody waits any more once the guard is dropped.
    pub fn guard(&self) -> DropGuard {
        self.gone.clone().drop_guard()
    }

    /// Whether nobody waits any more. Once it is so it stays so.
    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until) || self.gone.is_cancelled()
    }

    /// The time that is left; `None` for ever.
    fn left(&self) -> Option<Duration> {
        let until = self.until?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// What is to come, unless nobody waits for it any more.
    pub async fn wait<T>(&self, coming: impl Future<Output = T>) -> Option<T> {
        let coming = self.gone.run_until_cancelled(coming);
        match self.left() {
            None => coming.await,
            Some(left) => tokio::time::timeout(left, coming).await.ok().flatten(),
        }
    }

    /// The same on a thread that may block. It needs no runtime.
    pub fn block_on<T>(&self, coming: impl Future<Output = T>) -> Option<T> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut coming = pin!(self.gone.run_until_cancelled(coming));
        loop {
            if let Poll::Ready(come) = coming.as_mut().poll(&mut context) {
                return come;
            }
            match self.left() {
                None => thread::park(),
                Some(left) if left.is_zero() => return None,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[test]
    fn it_is_over_with_its_time_or_with_whoever_waits() {
        let for_ever = Deadline::within(Duration::MAX);
        assert!(!for_ever.is_over() && !Deadline::default().is_over());
        assert!(Deadline::within(Duration::ZERO).is_over());
        let copy = for_ever.clone();
        drop(for_ever.guard());
        assert!(copy.is_over());
    }

    #[test]
    fn what_comes_is_waited_for_no_longer() {
        let late = Deadline::within(Duration::ZERO);
        assert_eq!(late.block_on(ready(1)), Some(1));
        assert_eq!(late.block_on(pending::<()>()), None);
        let left = Deadline::default();
        let guard = left.guard();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| left.block_on(pending::<()>()));
            drop(guard);
            assert_eq!(waiting.join().unwrap(), None);
        });
        assert_eq!(left.block_on(ready(1)), None);
    }
}
