//! The writes under way: counted, so that a stop knows when the last has ended, and named, so that it
//! can say which of them it does not wait for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::task::TaskTracker;

/// A write that has not ended.
#[derive(Debug, Clone, Copy)]
pub struct Unended {
    /// The method's full name.
    pub method: &'static str,
    /// How long it has been under way.
    pub since: Duration,
}

#[derive(Clone, Default)]
pub(super) struct UnderWay {
    tasks: TaskTracker,
    begun: Arc<Mutex<Begun>>,
}

#[derive(Default)]
struct Begun {
    count: u64,
    writes: BTreeMap<u64, (&'static str, Instant)>,
}

impl UnderWay {
    /// Carries out a write on a task of its own.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        method: &'static str,
        write: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let open = self.open(method);
        let task = async move {
            let _open = open;
            write.await
        };
        self.tasks.spawn(task).await
    }

    /// Waits for this long until all have ended; none may begin any more. Answers those that have
    /// not.
    pub(super) async fn settled(&self, patience: Duration) -> Vec<Unended> {
        self.tasks.close();
        let ended = tokio::time::timeout(patience, self.tasks.wait()).await;
        if ended.is_ok() {
            return Vec::new();
        }
        let begun = lock(&self.begun);
        let unended = begun.writes.values().map(|(method, began)| Unended {
            method,
            since: began.elapsed(),
        });
        unended.collect()
    }

    fn open(&self, method: &'static str) -> Open {
        let mut begun = lock(&self.begun);
        begun.count += 1;
        let number = begun.count;
        begun.writes.insert(number, (method, Instant::now()));
        let begun = Arc::clone(&self.begun);
        Open { number, begun }
    }
}

/// Ends with its write, also where that panics.
struct Open {
    number: u64,
    begun: Arc<Mutex<Begun>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.begun).writes.remove(&self.number);
    }
}

fn lock(begun: &Mutex<Begun>) -> MutexGuard<'_, Begun> {
    begun.lock().unwrap_or_else(PoisonError::into_inner)
}
