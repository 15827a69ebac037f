//! Folds the write-ahead log into the database beside the writer, so that no commit waits for the
//! bulk of it. What was committed meanwhile is folded in by the writer: only between two commits
//! can the whole log be in the database, and only then does SQLite begin it anew in place, where a
//! sync is cheaper than at the end of a growing file.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, MAIN_DB, OpenFlags, config::DbConfig, wal::CheckpointMode};
use tokio::sync::watch;

use super::{Error, engine::open_database, writer::SYNC_FAILED};

/// Pages added to the log from which on a checkpoint is worth its syncs: 8 MiB, so that fewer than
/// one in a hundred single writes meets one.
const WORTH_IT: i32 = 2_000;

/// Pages in the log at which the writer waits for readers, so that it can be begun anew: 64 MiB.
const TOO_LONG: i32 = 16_000;

pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// The thread is folding; never both it and the writer.
    folding: Arc<AtomicBool>,
    woken: bool,
    /// Pages in the log when it was last folded in; 0 when it was begun anew since.
    folded: i32,
}

impl Checkpointer {
    /// Starts the thread. It says `stopped` when a sync failed.
    pub(super) fn start(
        database: &Path,
        stopped: watch::Sender<Option<&'static str>>,
    ) -> Result<Self, Error> {
        let (wake, woken) = sync_channel::<()>(1);
        let path = database.to_owned();
        let folding = Arc::new(AtomicBool::new(false));
        let now_folding = Arc::clone(&folding);
        let thread = thread::Builder::new()
            .name("checkpoint".into())
            .stack_size(256 * 1024)
            .spawn(move || {
                let mut connection = None;
                while woken.recv().is_ok() {
                    let _done = Done(&now_folding);
                    if let Err(error) = fold(&mut connection, &path) {
                        tracing::warn!("the write-ahead log could not be folded in: {error}");
                        if error.is_failed_sync() {
                            stopped.send_replace(Some(SYNC_FAILED));
                        }
                    }
                }
            })?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            folding,
            woken: false,
            folded: 0,
        })
    }

    /// Told how long the log is after a commit. Wakes the thread when that is long enough; answers
    /// what the writer itself is to do.
    pub(super) fn log_is(&mut self, pages: i32) -> Option<CheckpointMode> {
        if pages < self.folded {
            self.folded = 0;
        }
        if self.folding.load(Ordering::Acquire) {
            return None;
        }
        if self.woken {
            self.woken = false;
            self.folded = pages;
            return if pages < WORTH_IT {
                // Begun anew already.
                None
            } else if pages < TOO_LONG {
                Some(CheckpointMode::PASSIVE)
            } else {
                Some(CheckpointMode::RESTART)
            };
        }
        if pages - self.folded >= WORTH_IT
            && let Some(wake) = &self.wake
        {
            self.folding.store(true, Ordering::Release);
            self.woken = wake.try_send(()).is_ok();
            if !self.woken {
                // The thread is gone: the writer folds by itself.
                self.folding.store(false, Ordering::Release);
                self.folded = pages;
                return Some(match pages {
                    ..TOO_LONG => CheckpointMode::PASSIVE,
                    _ => CheckpointMode::RESTART,
                });
            }
        }
        None
    }
}

/// Says that the thread folds no more, also where it panicked.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn fold(connection: &mut Option<Connection>, path: &Path) -> Result<(), Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => {
            let opened = open_database(path, OpenFlags::default())?;
            // The writer does that when it ends in good order.
            opened.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            opened.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -256;")?;
            connection.insert(opened)
        }
    };
    connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE)?;
    Ok(())
}
