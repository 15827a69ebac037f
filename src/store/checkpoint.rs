//! Folds the write-ahead log into the database beside the writer, so that no commit waits for it.

use std::{
    path::Path,
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, MAIN_DB, wal::CheckpointMode};

use super::{Error, engine::configure};

/// Pages in the log from which on a checkpoint is worth its syncs: 4 MiB, SQLite's own default.
const WORTH_IT: i32 = 1_000;

/// Pages in the log at which the writer itself must wait for one: 64 MiB.
pub(super) const TOO_LONG: i32 = 16_000;

pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(database: &Path) -> Result<Self, Error> {
        let (wake, woken) = sync_channel::<()>(1);
        let path = database.to_owned();
        let thread = thread::Builder::new()
            .name("checkpoint".into())
            .stack_size(256 * 1024)
            .spawn(move || {
                let mut connection = None;
                while woken.recv().is_ok() {
                    if let Err(error) = fold(&mut connection, &path) {
                        tracing::warn!("the write-ahead log could not be folded in: {error}");
                    }
                }
            })?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Tells how long the log is after a commit; wakes the thread when that is long enough.
    pub(super) fn log_is(&self, pages: i32) {
        if pages >= WORTH_IT
            && let Some(wake) = &self.wake
        {
            // Full means that it is awake already.
            let _ = wake.try_send(());
        }
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
            let opened = Connection::open(path)?;
            configure(&opened)?;
            opened.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -256;")?;
            connection.insert(opened)
        }
    };
    connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE)?;
    Ok(())
}
