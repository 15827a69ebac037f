//! Read-only connections. Each read has one to itself and sees one snapshot; in WAL mode it neither
//! waits for the writer nor holds it up (sqlite.org/wal.html).

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard},
};

use rusqlite::{Connection, OpenFlags};

use super::{Error, engine::open_database};

/// Connections kept open between reads.
const KEPT: usize = 4;

/// A consistent view of the store; each noun adds its queries.
pub struct ReadTx<'a> {
    pub(super) connection: &'a Connection,
}

pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            idle: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTx<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let connection = match self.idle().pop() {
            Some(connection) => connection,
            None => self.open()?,
        };
        let result = read(&ReadTx {
            connection: &connection,
        });
        let mut idle = self.idle();
        // A connection that failed may hold a broken view of the file: do not keep it.
        if result.is_ok() && idle.len() < KEPT {
            idle.push(connection);
        }
        result
    }

    pub(super) fn close(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn open(&self) -> Result<Connection, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = open_database(&self.path, flags)?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -512;")?;
        Ok(connection)
    }
}
