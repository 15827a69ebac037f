//! `symbols.db`: what is known of the symbols in a repository's files, beside the store and apart from
//! it. It is a cache: where it is lost, damaged or of another edition it is made anew, and what it
//! cannot say is found out again. Its connections are its own, so that it is never in the way of the
//! store's writer.

mod rows;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use nix::sys::statvfs::statvfs;
use rusqlite::{Connection, OpenFlags};

use super::{
    Error,
    engine::{open_database, with_suffix},
    files::Files,
    readers::Readers,
};
use crate::failure::{Failure, Reason};

pub use rows::{BlobRecord, FolderCounts, SymbolReads, SymbolWrites};

const NAME: &str = "symbols.db";

/// Free bytes of the disk below which nothing is taken in: what is left is for what must be kept.
const ROOM: u64 = 64 << 20;

/// Raised whenever the tables change.
const SCHEMA: u32 = 2;

/// Every id is one that its maker derives from what it stands for, so that it is the same in each
/// database.
const TABLES: &str = "
    -- What is in a file: its outline, or the number of why there is none.
    CREATE TABLE blob (id INTEGER PRIMARY KEY, left_out INTEGER, outline BLOB);
    -- Where it was ever seen, and again why it has none.
    -- What is in one folder is close together.
    CREATE TABLE place (
        path BLOB, blob INTEGER, left_out INTEGER, PRIMARY KEY (path, blob)
    ) WITHOUT ROWID;
    CREATE INDEX place_of_blob ON place (blob);
    -- What it defines or uses.
    CREATE TABLE name (name INTEGER, blob INTEGER, PRIMARY KEY (name, blob)) WITHOUT ROWID;
    -- Folders that are in with all that is in them, and how many files are.
    CREATE TABLE folder (
        id INTEGER PRIMARY KEY, files INTEGER, too_large INTEGER, binary INTEGER,
        generated INTEGER, vendored INTEGER
    );";

/// The database of symbols.
pub struct SymbolStore {
    path: PathBuf,
    edition: i32,
    open: Mutex<Option<Arc<Open>>>,
    complained: AtomicBool,
    times_opened: AtomicU64,
}

struct Open {
    files: Files,
    readers: Readers,
    /// It writes, and keeps the log there, whose file is looked at.
    writer: Arc<tokio::sync::Mutex<Connection>>,
}

impl SymbolStore {
    /// That of a store's folder. Nothing is opened before it is needed. A database of another `edition`
    /// is made anew: what is in it was found by other rules.
    pub fn new(folder: &Path, edition: u32) -> Self {
        Self {
            path: folder.join(NAME),
            edition: (edition.wrapping_mul(31).wrapping_add(SCHEMA) | 1) as i32,
            open: Mutex::default(),
            complained: AtomicBool::new(false),
            times_opened: AtomicU64::new(0),
        }
    }

    /// Reads, beside any write; `None` where nothing can be read, which the log tells of once.
    pub fn read<T>(&self, read: impl FnOnce(&SymbolReads<'_>) -> Result<T, Error>) -> Option<T> {
        let open = self.opened().map_err(|error| self.complain(&error)).ok()?;
        let found = open.readers.read(|tx| {
            read(&SymbolReads {
                connection: tx.connection,
            })
        });
        found.map_err(|error| self.failed(&open, &error)).ok()
    }

    /// Begins to write; `None` where nothing can be written, which the log tells of once. Blocks while
    /// another writes.
    pub fn write(&self) -> Option<SymbolWrites<'_>> {
        let begun = self.opened().and_then(|open| {
            let connection = Arc::clone(&open.writer).blocking_lock_owned();
            if !open.files.in_place() {
                // It was thrown away meanwhile.
                return Ok(None);
            }
            check_room(&self.path)?;
            connection.execute_batch("BEGIN IMMEDIATE")?;
            Ok(Some(SymbolWrites {
                store: self,
                connection,
                open,
            }))
        });
        begun.map_err(|error| self.complain(&error)).ok()?
    }

    /// Which opening of the database is in force; `None` where its files are no longer the ones at
    /// their paths. What was read at another may be in it no more.
    pub fn opening(&self) -> Option<u64> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let in_place = open.as_ref().is_some_and(|open| open.files.in_place());
        in_place.then(|| self.times_opened.load(Ordering::Relaxed))
    }

    /// Bytes on disk, with the log.
    pub fn bytes(&self) -> u64 {
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        bytes(&self.path) + bytes(&with_suffix(&self.path, "-wal"))
    }

    /// Throws all of it away.
    pub fn discard(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = None;
        if let Err(error) = remove(&self.path) {
            self.complain(&error);
        }
    }

    /// Lets go of the database's file, and folds its log in. It is opened again when it is needed.
    pub fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn opened(&self) -> Result<Arc<Open>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.as_ref().filter(|open| open.files.in_place()) {
            return Ok(Arc::clone(known));
        }
        // Of files that are gone nothing is to be read any more.
        *open = None;
        let connection = match self.make() {
            Err(error) if error.reason() == Reason::StoreCorrupt => {
                tracing::info!("{NAME} is damaged, and is made anew");
                remove(&self.path)?;
                self.make()?
            }
            Err(Error::Linked { path }) => {
                tracing::warn!(
                    "{} is a symbolic link: it is removed, and {NAME} made anew",
                    path.display()
                );
                remove(&self.path)?;
                self.make()?
            }
            made => made?,
        };
        let made = Arc::new(Open {
            files: Files::of(&self.path, with_suffix(&self.path, "-wal"))?,
            readers: Readers::new(self.path.clone()),
            writer: Arc::new(tokio::sync::Mutex::new(connection)),
        });
        self.times_opened.fetch_add(1, Ordering::Relaxed);
        *open = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Makes the database, unless it is there and of this edition.
    fn make(&self) -> Result<Connection, Error> {
        let mut connection = connect(&self.path)?;
        let edition = |connection: &Connection| -> Result<i32, Error> {
            Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
        };
        match edition(&connection)? {
            0 => {}
            this if this == self.edition => return Ok(connection),
            _ => {
                tracing::info!("{NAME} was made by other rules, and is made anew");
                drop(connection);
                remove(&self.path)?;
                connection = connect(&self.path)?;
            }
        }
        fs::set_permissions(
            &self.path,
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )?;
        let version = self.edition;
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {version}; COMMIT;"
        ))?;
        Ok(connection)
    }

    /// A database that is damaged, or has other tables than we know, is of no more use.
    fn failed(&self, open: &Arc<Open>, error: &Error) {
        match (error, error.reason()) {
            (_, Reason::StoreCorrupt | Reason::Internal) => {}
            (Error::Sqlite(_), Reason::StoreFull) => {
                self.complain(error);
                // A cache gives way to what must be kept.
                return self.discard();
            }
            _ => return self.complain(error),
        }
        let mut now = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may have seen to it.
        if now.as_ref().is_some_and(|now| Arc::ptr_eq(now, open)) {
            tracing::info!("{NAME} is damaged, and is made anew");
            *now = None;
            if let Err(error) = remove(&self.path) {
                self.complain(&error);
            }
        }
    }

    fn complain(&self, error: &Error) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "symbols are looked up without {}: {error}",
                self.path.display()
            );
        }
    }
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let connection = open_database(path, OpenFlags::default())?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
         PRAGMA wal_autocheckpoint = 4096; PRAGMA journal_size_limit = 16777216;
         PRAGMA cache_size = -2048;",
    )?;
    Ok(connection)
}

fn check_room(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    let disk = statvfs(folder).map_err(std::io::Error::from)?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    if free >= ROOM {
        return Ok(());
    }
    let message = "the disk has less than 64 MiB free, which are left for what must be kept";
    Err(Error::Refused(Failure::new(Reason::StoreFull, message)))
}

fn remove(path: &Path) -> Result<(), Error> {
    for suffix in ["", "-wal", "-shm"] {
        match fs::remove_file(with_suffix(path, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
