//! The one thread that writes. Writes that wait share one SQLite transaction and one sync (group
//! commit), each in a savepoint of its own, and are settled in their order after the sync (G4).

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, ErrorCode, MAIN_DB, config::DbConfig};
use tokio::sync::{oneshot, watch};

use super::{Error, StoreGuard, checkpoint::Checkpointer};
use crate::failure::{Failure, Reason};

/// Writes that may wait; one more is refused.
pub const QUEUE_LIMIT: usize = 1_024;

/// Writes that share one commit at most, so that the first of them does not wait for ever.
const BATCH_LIMIT: usize = 256;

/// Why the store stops when data that was written may not have reached the disk (G4).
pub(super) const SYNC_FAILED: &str = "a sync to disk failed";

/// An open write transaction; each noun adds its statements.
pub struct WriteTx<'a> {
    pub(super) connection: &'a Connection,
}

/// A write as the writer thread sees it.
pub trait Write: Send {
    /// Makes the change. It may be called again, from scratch, when SQLite rolled the whole batch
    /// back because of another write in it.
    ///
    /// # Errors
    /// Whatever makes this one write fail; its changes are then undone and the others go on.
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure>;

    /// Told once how it ended, on the writer thread: `Ok` only after the sync.
    fn settle(self: Box<Self>, outcome: Result<(), Error>);
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct WriterStatistics {
    /// Writes committed.
    pub writes: AtomicU64,
    /// Commits, and so syncs, that they took.
    pub commits: AtomicU64,
}

/// What the writer thread is sent.
enum Job {
    Write(Box<dyn Write>),
    /// Answered as soon as it is this one's turn: the thread lives and gets on.
    Ping(oneshot::Sender<()>),
}

pub(super) struct Writer {
    queue: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl Writer {
    pub(super) fn start(
        mut connection: Connection,
        guard: StoreGuard,
        checkpointer: Checkpointer,
        statistics: Arc<WriterStatistics>,
        stopped: watch::Sender<Option<&'static str>>,
    ) -> Result<Self, Error> {
        let log_pages = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&log_pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            seen.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let mut committer = Committer {
            connection,
            guard,
            checkpointer,
            statistics,
            stopped,
            log_pages,
        };
        let (queue, waiting) = sync_channel(QUEUE_LIMIT);
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || committer.run(&waiting))?;
        Ok(Self { queue, thread })
    }

    pub(super) fn submit(&self, write: Box<dyn Write>) {
        match self.queue.try_send(Job::Write(write)) {
            Err(TrySendError::Full(Job::Write(write))) => write.settle(Err(Error::QueueFull)),
            Err(TrySendError::Disconnected(Job::Write(write))) => write.settle(Err(Error::Stopped)),
            _ => {}
        }
    }

    /// Resolves when it is this question's turn; with an error when the thread is gone.
    pub(super) fn ping(&self) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        // A full queue drops the question, which is the answer.
        let _ = self.queue.try_send(Job::Ping(answer));
        answered
    }

    /// Lets the thread commit what it has and end. It is waited for, but on the thread itself: a write may
    /// have been the last to hold the store.
    pub(super) fn finish(self) {
        drop(self.queue);
        if self.thread.thread().id() == thread::current().id() {
            return;
        }
        if self.thread.join().is_err() {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

struct Committer {
    // Before the connection: whoever closes last folds the log in.
    checkpointer: Checkpointer,
    connection: Connection,
    guard: StoreGuard,
    statistics: Arc<WriterStatistics>,
    stopped: watch::Sender<Option<&'static str>>,
    log_pages: Arc<AtomicI32>,
}

impl Drop for Committer {
    fn drop(&mut self) {
        // Whoever still waits must not wait for ever, and a daemon that cannot write must go.
        if thread::panicking() {
            self.stopped.send_replace(Some("the store's writer failed"));
        }
        // The log has what the database may lack, and must not be removed for it.
        if *self.stopped.borrow() == Some(SYNC_FAILED) {
            let option = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            if let Err(error) = self.connection.set_db_config(option, true) {
                tracing::error!("the write-ahead log may be folded in: {error}");
            }
        }
    }
}

/// How a batch ended, when it did not end well.
enum Broken {
    /// This write of it took the whole transaction down; the others may be tried again.
    By(usize, Failure),
    /// The commit itself failed.
    Commit(Error),
}

impl Committer {
    fn run(&mut self, waiting: &Receiver<Job>) {
        while let Ok(first) = waiting.recv() {
            let mut batch = Vec::new();
            for job in [first]
                .into_iter()
                .chain(waiting.try_iter().take(BATCH_LIMIT - 1))
            {
                match job {
                    Job::Write(write) => batch.push(write),
                    Job::Ping(answer) => drop(answer.send(())),
                }
            }
            self.commit(batch);
            if self.stopped.borrow().is_some() {
                return;
            }
            self.tend_log();
            if self.stopped.borrow().is_some() {
                return;
            }
        }
    }

    /// Commits a batch, without those that fail, until what is left of it is settled.
    fn commit(&mut self, mut batch: Vec<Box<dyn Write>>) {
        while !batch.is_empty() {
            let mut outcomes: Vec<Result<(), Failure>> = Vec::with_capacity(batch.len());
            match self.attempt(&mut batch, &mut outcomes) {
                Ok(()) => {
                    let written = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                    self.statistics.commits.fetch_add(1, Ordering::Relaxed);
                    self.statistics
                        .writes
                        .fetch_add(written as u64, Ordering::Relaxed);
                    for (write, outcome) in mem::take(&mut batch).into_iter().zip(outcomes) {
                        write.settle(outcome.map_err(Error::Refused));
                    }
                }
                Err(Broken::By(index, failure)) => {
                    batch.remove(index).settle(Err(Error::Refused(failure)));
                }
                Err(Broken::Commit(error)) => self.commit_failed(mem::take(&mut batch), error),
            }
        }
    }

    fn attempt(
        &mut self,
        batch: &mut [Box<dyn Write>],
        outcomes: &mut Vec<Result<(), Failure>>,
    ) -> Result<(), Broken> {
        let commit = |error: rusqlite::Error| Broken::Commit(error.into());
        self.execute("BEGIN IMMEDIATE").map_err(commit)?;
        for (index, write) in batch.iter_mut().enumerate() {
            self.execute("SAVEPOINT one_write").map_err(commit)?;
            let outcome = write.apply(&WriteTx {
                connection: &self.connection,
            });
            // On a full disk, among others, SQLite undoes everything (lang_transaction.html).
            if self.connection.is_autocommit() {
                let failure = outcome.err().unwrap_or_else(|| Error::Stopped.into());
                return Err(Broken::By(index, failure));
            }
            if outcome.is_err() {
                self.execute("ROLLBACK TO one_write").map_err(commit)?;
            }
            self.execute("RELEASE one_write").map_err(commit)?;
            outcomes.push(outcome);
        }
        // The other thread may have had to stop meanwhile.
        if self.stopped.borrow().is_some() {
            return Err(Broken::Commit(Error::Stopped));
        }
        if !(self.guard)() {
            return Err(Broken::Commit(Error::Lost));
        }
        self.execute("COMMIT").map_err(commit)
    }

    fn execute(&self, statement: &str) -> Result<(), rusqlite::Error> {
        self.connection
            .prepare_cached(statement)?
            .execute([])
            .map(drop)
    }

    /// Nothing of the batch is in the database. What stops the process stops it here.
    fn commit_failed(&mut self, batch: Vec<Box<dyn Write>>, error: Error) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            tracing::error!("a failed commit could not be rolled back: {error}");
        }
        let fatal = match &error {
            Error::Lost => Some("the heddle folder was removed or replaced"),
            error if error.is_failed_sync() => Some(SYNC_FAILED),
            _ => None,
        };
        if let Some(reason) = fatal {
            tracing::error!("{reason}: the daemon writes no more and leaves");
            self.stopped.send_replace(Some(reason));
        } else if batch.len() > 1 && error.reason() == Reason::StoreFull {
            // One of them may be too large for what the disk has left: give each its own chance.
            return batch.into_iter().for_each(|write| self.commit(vec![write]));
        }
        let failure = Failure::from(error);
        for write in batch {
            write.settle(Err(Error::Refused(failure.clone())));
        }
    }

    /// Keeps the write-ahead log from growing without end.
    fn tend_log(&mut self) {
        let pages = self.log_pages.load(Ordering::Relaxed);
        let Some(mode) = self.checkpointer.log_is(pages) else {
            return;
        };
        match self.connection.wal_checkpoint_v2(Some(MAIN_DB), mode) {
            Ok(_) => {}
            // Somebody reads what the log held long ago: next time.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                tracing::debug!(pages, "the write-ahead log is still being read");
            }
            Err(error) => {
                let error = Error::from(error);
                tracing::warn!("the write-ahead log could not be folded in: {error}");
                if error.is_failed_sync() {
                    self.stopped.send_replace(Some(SYNC_FAILED));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Sender};

    use super::*;
    use crate::store::Store;

    /// A write that holds the store.
    struct Last {
        store: Store,
        go: Receiver<()>,
        settled: Sender<Result<(), Error>>,
    }

    impl Write for Last {
        fn apply(&mut self, _: &WriteTx<'_>) -> Result<(), Failure> {
            let _ = self.go.recv();
            Ok(())
        }

        fn settle(self: Box<Self>, outcome: Result<(), Error>) {
            drop(self.store);
            let _ = self.settled.send(outcome);
        }
    }

    #[test]
    fn a_store_may_end_with_a_write() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Box::new(|| true)).unwrap();
        let (going, go) = mpsc::channel();
        let (settled, ended) = mpsc::channel();
        store.submit(Box::new(Last {
            store: store.clone(),
            go,
            settled,
        }));
        drop(store);
        drop(going);
        assert!(ended.recv().unwrap().is_ok());
    }
}
