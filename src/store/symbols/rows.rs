//! What the database of symbols is asked and told, row by row.

use std::sync::{Arc, atomic::Ordering};

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::OwnedMutexGuard;

use super::{Open, SymbolStore, check_room};
use crate::store::{Error, health::integrity_faults};

/// What a database says of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobRecord {
    /// Its outline, as it was given.
    Outline(Vec<u8>),
    /// Why it has none, by the number that was given.
    LeftOut(u8),
}

/// How many files of a folder are in, and how many are left out for each reason.
pub type FolderCounts = [u32; 5];

/// One view of the database.
pub struct SymbolReads<'a> {
    pub(super) connection: &'a Connection,
}

impl SymbolReads<'_> {
    /// How many files of a folder are in, if all of it is.
    pub fn folder(&self, id: i64) -> Result<Option<FolderCounts>, Error> {
        let query =
            "SELECT files, too_large, binary, generated, vendored FROM folder WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(query)?;
        let counts = statement.query_row([id], |row| {
            Ok([
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
            ])
        });
        Ok(counts.optional()?)
    }

    /// What is known of a blob.
    pub fn blob(&self, id: i64) -> Result<Option<BlobRecord>, Error> {
        let query = "SELECT left_out, outline FROM blob WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(query)?;
        let found = statement.query_row([id], |row| {
            Ok(match row.get(0)? {
                Some(why) => BlobRecord::LeftOut(why),
                None => BlobRecord::Outline(row.get(1)?),
            })
        });
        Ok(found.optional()?)
    }

    /// For which reason a blob that was seen at this path has no outline, if it was.
    pub fn seen(&self, blob: i64, path: &[u8]) -> Result<Option<Option<u8>>, Error> {
        let query = "SELECT left_out FROM place WHERE path = ?1 AND blob = ?2";
        let mut statement = self.connection.prepare_cached(query)?;
        let found = statement.query_row(params![path, blob], |row| row.get(0));
        Ok(found.optional()?)
    }

    /// For which reason a blob has no outline, if it is in.
    pub fn left_out(&self, blob: i64) -> Result<Option<Option<u8>>, Error> {
        let query = "SELECT left_out FROM blob WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(query)?;
        Ok(statement.query_row([blob], |row| row.get(0)).optional()?)
    }

    /// Hands on where the blobs of a name were seen, in the order of blobs and paths, until `take`
    /// says that it is enough.
    pub fn places(&self, name: i64, mut take: impl FnMut(i64, &[u8]) -> bool) -> Result<(), Error> {
        let query = "SELECT place.blob, path FROM name JOIN place ON place.blob = name.blob
             WHERE name = ?1 ORDER BY name.blob, path";
        let mut statement = self.connection.prepare_cached(query)?;
        let mut rows = statement.query([name])?;
        while let Some(row) = rows.next()? {
            let path = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            if !take(row.get(0)?, path) {
                break;
            }
        }
        Ok(())
    }

    /// What is wrong with the file, in SQLite's words.
    pub fn faults(&self) -> Result<Vec<String>, Error> {
        integrity_faults(self.connection)
    }

    /// How many places there are.
    pub fn count_places(&self) -> Result<u64, Error> {
        let query = "SELECT count(*) FROM place";
        Ok(self.connection.query_row(query, [], |row| row.get(0))?)
    }
}

/// A transaction that is under way. Dropped, it is undone.
pub struct SymbolWrites<'a> {
    pub(super) store: &'a SymbolStore,
    pub(super) connection: OwnedMutexGuard<Connection>,
    pub(super) open: Arc<Open>,
}

impl SymbolWrites<'_> {
    /// What the database holds, with what was written.
    pub fn reads(&self) -> SymbolReads<'_> {
        SymbolReads {
            connection: &self.connection,
        }
    }

    /// Takes in what is known of a blob.
    pub fn put_blob(&self, id: i64, record: &BlobRecord) -> Result<(), Error> {
        let (left_out, outline) = match record {
            BlobRecord::Outline(outline) => (None, Some(outline)),
            BlobRecord::LeftOut(why) => (Some(why), None),
        };
        self.run(
            "INSERT OR IGNORE INTO blob VALUES (?1, ?2, ?3)",
            params![id, left_out, outline],
        )
    }

    /// Takes in where a blob was seen, and for which reason it has no outline.
    pub fn put_place(&self, blob: i64, path: &[u8], left_out: Option<u8>) -> Result<(), Error> {
        self.run(
            "INSERT OR IGNORE INTO place VALUES (?1, ?2, ?3)",
            params![path, blob, left_out],
        )
    }

    /// Takes in names of blobs. Each is taken in at a place of its own: in order, that is faster.
    pub fn put_names(&self, names: &[(i64, i64)]) -> Result<(), Error> {
        let query = "INSERT OR IGNORE INTO name VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(query)?;
        for (name, blob) in names {
            statement.execute([name, blob])?;
        }
        Ok(())
    }

    /// Says that a folder is in with all that is in it.
    pub fn put_folder(&self, id: i64, counts: FolderCounts) -> Result<(), Error> {
        let [files, large, binary, generated, vendored] = counts;
        self.run(
            "INSERT OR REPLACE INTO folder VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![id, files, large, binary, generated, vendored],
        )
    }

    /// Commits; nothing more is to be written before [`SymbolWrites::go_on`].
    pub fn commit(&self) -> Result<(), Error> {
        self.run("COMMIT", [])?;
        self.store.complained.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Begins the next transaction.
    pub fn go_on(&self) -> Result<(), Error> {
        self.run("BEGIN IMMEDIATE", [])
    }

    /// Tells of what went wrong, and throws away what is damaged.
    pub fn failed(self, error: &Error) {
        let (store, open) = (self.store, Arc::clone(&self.open));
        drop(self);
        store.failed(&open, error);
    }

    /// Whether the disk has room for more.
    ///
    /// # Errors
    /// Where it has not.
    pub fn check_room(&self) -> Result<(), Error> {
        check_room(&self.store.path)
    }

    fn run(&self, statement: &str, values: impl rusqlite::Params) -> Result<(), Error> {
        self.connection.prepare_cached(statement)?.execute(values)?;
        Ok(())
    }
}

impl Drop for SymbolWrites<'_> {
    fn drop(&mut self) {
        // Where the transaction has ended, there is none to undo.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            self.store.failed(&self.open, &error.into());
        }
    }
}
