//! Opening the database and putting its parts together: the writer's connection and thread, the
//! readers, the checkpointer.

use std::{
    any::Any,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, config::DbConfig, wal::CheckpointMode};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinError,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Error, ReadTx, Write, checkpoint::Checkpointer, files::Files, migrations, readers::Readers,
    writer::Writer, writer::WriterStatistics,
};

/// Large reads that may run at once, on the blocking pool.
const LARGE_READS: usize = 4;

/// How long a statement waits while another program has the database locked.
const PATIENCE: Duration = Duration::from_secs(5);

/// A large read of any kind, so that the code of its turn is compiled once and not for each of them.
type LargeRead = Box<dyn FnOnce(&Store) -> Box<dyn Any + Send> + Send>;

/// Asked before each commit: is the folder still the one that we locked (G1)?
pub type StoreGuard = Box<dyn Fn() -> bool + Send>;

/// The open store. Clones share it; [`Store::close`] ends it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    readers: Readers,
    large_reads: Arc<Semaphore>,
    writer: Mutex<Option<Writer>>,
    statistics: Arc<WriterStatistics>,
    stopped: watch::Receiver<Option<&'static str>>,
    files: Files,
}

/// Bytes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The database file.
    pub database: u64,
    /// The write-ahead log beside it.
    pub wal: u64,
}

impl Store {
    /// Opens `heddle.db` in `folder`, makes or migrates it, and starts the writer. The caller holds
    /// the repository's lock; `guard` is asked before each commit whether that is still so.
    ///
    /// # Errors
    /// When the database is newer than this version, damaged, or cannot be opened for writing.
    pub fn open(folder: &Path, guard: StoreGuard) -> Result<Self, Error> {
        let path = folder.join("heddle.db");
        let opened = |source| match source {
            error @ (Error::Newer { .. } | Error::Foreign { .. } | Error::Linked { .. }) => error,
            source => Error::Open {
                path: path.clone(),
                source: Box::new(source),
            },
        };
        let connection = open_for_writing(&path).map_err(opened)?;
        let files = Files::of(&path, with_suffix(&path, "-wal"))?;
        let statistics = Arc::new(WriterStatistics::default());
        let (stopped_tx, stopped) = watch::channel(None);
        let checkpointer = Checkpointer::start(&path, stopped_tx.clone())?;
        let writer = Writer::start(
            connection,
            Box::new({
                let files = files.clone();
                move || guard() && files.in_place()
            }),
            checkpointer,
            Arc::clone(&statistics),
            stopped_tx,
        )?;
        Ok(Self {
            inner: Arc::new(Inner {
                readers: Readers::new(path.clone()),
                path,
                large_reads: Arc::new(Semaphore::new(LARGE_READS)),
                writer: Mutex::new(Some(writer)),
                statistics,
                stopped,
                files,
            }),
        })
    }

    /// Hands a write to the writer thread, which settles it after the sync of its commit. Never
    /// blocks: with too many waiting it is settled at once with [`Error::QueueFull`].
    pub fn submit(&self, write: Box<dyn Write>) {
        let writer = lock(&self.inner.writer);
        match writer.as_ref() {
            Some(writer) => writer.submit(write),
            None => write.settle(Err(Error::Stopped)),
        }
    }

    /// Resolves when the writer thread has come to this question; false when it is gone, or too
    /// much is waiting for it.
    pub async fn writer_answers(&self) -> bool {
        let answered = lock(&self.inner.writer).as_ref().map(Writer::ping);
        match answered {
            Some(answered) => answered.await.is_ok(),
            None => false,
        }
    }

    /// A small read, on this thread: microseconds, beside any write.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn read<T>(&self, read: impl FnOnce(&ReadTx<'_>) -> Result<T, Error>) -> Result<T, Error> {
        self.inner.readers.read(read)
    }

    /// A read that may take long, on the blocking pool; a few run at once, the rest wait.
    ///
    /// It goes on by itself: a stream whose client does not read is not polled, and must not hold
    /// the turn of others meanwhile (G8).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read_large<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let read: LargeRead = Box::new(|store| Box::new(store.read(read)));
        let turn = tokio::spawn(self.clone().read_in_turn(read));
        let done = AbortOnDropHandle::new(turn).await.and_then(|done| done);
        let failed = match done.map(|done| done.downcast()) {
            Ok(Ok(result)) => return *result,
            Ok(Err(_)) => "it answered something else".to_owned(),
            Err(failed) => failed.to_string(),
        };
        tracing::error!("a read ended without an answer: {failed}");
        Err(Error::ReadFailed)
    }

    async fn read_in_turn(self, read: LargeRead) -> Result<Box<dyn Any + Send>, JoinError> {
        let turns = Arc::clone(&self.inner.large_reads);
        let turn = turns.acquire_owned().await;
        let read = tokio::task::spawn_blocking(move || {
            let result = read(&self);
            drop(turn);
            result
        });
        read.await
    }

    /// Writes and commits since the start.
    pub fn statistics(&self) -> &WriterStatistics {
        &self.inner.statistics
    }

    /// What the database takes on disk; nothing where it is gone.
    pub fn sizes(&self) -> Sizes {
        let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        Sizes {
            database: size(&self.inner.path),
            wal: size(&with_suffix(&self.inner.path, "-wal")),
        }
    }

    /// Whether the files that it has open are still the ones at their paths.
    pub fn in_place(&self) -> bool {
        self.inner.files.in_place()
    }

    /// Whether the writer has stopped. What it was given last may be durable all the same.
    pub fn has_stopped(&self) -> bool {
        self.inner.stopped.borrow().is_some()
    }

    /// Resolves with the reason when the writer had to stop by itself: a failed sync, or a lost
    /// folder. The daemon then leaves.
    pub async fn stopped(&self) -> &'static str {
        let mut stopped = self.inner.stopped.clone();
        loop {
            let reason = *stopped.borrow_and_update();
            match reason {
                Some(reason) => return reason,
                // An orderly close drops the sender without a reason: then there is none to give.
                None if stopped.changed().await.is_err() => std::future::pending().await,
                None => {}
            }
        }
    }

    /// Commits what is queued, stops the writer, and folds the log into the database. Blocks.
    pub fn close(&self) {
        let writer = lock(&self.inner.writer).take();
        // The last connection to close folds the log in, and only one that may write can do it.
        self.inner.readers.close();
        if let Some(writer) = writer {
            writer.finish();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(writer) = lock(&self.writer).take() {
            writer.finish();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn open_for_writing(path: &Path) -> Result<Connection, Error> {
    let mut connection = open_database(path, OpenFlags::default())?;
    // Not ours until it is known to be: then nothing of it is changed, not even on closing.
    let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keep_log, true)?;
    let taken = migrations::check(&connection, path)?;
    connection.set_db_config(keep_log, false)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let what = format!("its journal mode stays {mode}");
        return Err(std::io::Error::other(what).into());
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 16777216;
         PRAGMA cache_size = -2048;",
    )?;
    migrations::migrate(&mut connection, taken)?;
    // What a killed daemon wrote and did not sync is recovered from the page cache, and would be
    // answered from, yet a power cut would take it. Folding it in writes and syncs it anew (G4).
    connection.busy_timeout(Duration::ZERO)?;
    match connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::FULL) {
        Ok(_) => {}
        // Another program reads an older state, for as long as it likes: the log stays, and is
        // made durable where it is.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            tracing::warn!(
                "another program has {} open and is in the middle of it",
                path.display()
            );
            let wal = with_suffix(path, "-wal");
            fs::File::open(&wal)?.sync_all()?;
            path.parent()
                .map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())?;
        }
        Err(error) => return Err(error.into()),
    }
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// Opens a database of ours; neither it nor its log may be a symbolic link.
pub(super) fn open_database(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    for suffix in ["", "-wal", "-shm"] {
        let path = with_suffix(path, suffix);
        if path.is_symlink() {
            return Err(Error::Linked { path });
        }
    }
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(32);
    // Else a cached statement is compiled again whenever a parameter that the planner looked at is
    // bound: several times the cost of the read itself.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;")?;
    #[cfg(target_os = "macos")]
    connection.execute_batch("PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;")?;
    Ok(connection)
}
