//! What a check asks of the database: whether it is sound, and whether it agrees with itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{Error, ReadTx, engine::open_database, migrations};
use crate::failure::Reason;

/// Faults that SQLite is asked for at most: one is enough to know.
const FAULTS: u32 = 3;

/// Rows that lead to nothing. Each counts those that there should be none of.
const STRAYS: &[(&str, &str)] = &[
    (
        "captures that belong to no chain",
        "SELECT count(*) FROM state WHERE chain NOT IN (SELECT id FROM chain)",
    ),
    (
        "threads on a chain that is not under way",
        "SELECT count(*) FROM thread WHERE chain IS NOT NULL
             AND chain NOT IN (SELECT id FROM chain WHERE ended_secs IS NULL)",
    ),
    (
        "chains under way that no thread is on",
        "SELECT count(*) FROM chain WHERE ended_secs IS NULL
             AND id NOT IN (SELECT chain FROM thread WHERE chain IS NOT NULL)",
    ),
    (
        "chains without a capture",
        "SELECT count(*) FROM chain WHERE id NOT IN (SELECT chain FROM state)",
    ),
    (
        "worktrees at a step that is gone",
        "SELECT count(*) FROM line WHERE step NOT IN (SELECT id FROM step)",
    ),
    (
        "symbols of operations that are gone",
        "SELECT count(*) FROM operation_symbol WHERE seq NOT IN (SELECT seq FROM operation)",
    ),
];

/// How a database file stands.
#[derive(Debug)]
pub enum Condition {
    /// There is none.
    Missing,
    /// It can be used.
    Sound,
    /// It is damaged, in SQLite's words.
    Damaged(String),
    /// It is not ours to use or to move away.
    Unusable(Error),
}

/// Which version made a database, and which can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Its number.
    pub number: usize,
    /// The version of heddle that changed it last.
    pub written_by: String,
    /// Bytes of the database file.
    pub bytes: u64,
}

/// A state's raw object id.
type StateBytes = Vec<u8>;
/// A tree's raw object id.
type TreeBytes = Vec<u8>;

impl ReadTx<'_> {
    /// What is wrong with the file, in SQLite's words. Reads all of it.
    pub(crate) fn integrity_faults(&self) -> Result<Vec<String>, Error> {
        integrity_faults(self.connection)
    }

    /// What leads to nothing, and how many of it there are; only what there is any of.
    pub(crate) fn strays(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        let count = |(what, query): &(&'static str, &str)| {
            let count = self.connection.query_row(query, [], |row| row.get(0))?;
            Ok((*what, count))
        };
        let counts: Vec<_> = STRAYS.iter().map(count).collect::<Result<_, Error>>()?;
        Ok(counts.into_iter().filter(|(_, count)| *count > 0).collect())
    }

    /// Its schema and size.
    pub(crate) fn schema(&self) -> Result<Schema, Error> {
        let value = |query| self.connection.query_row(query, [], |row| row.get(0));
        let pages: u64 = value("PRAGMA page_count")?;
        let size: u64 = value("PRAGMA page_size")?;
        let written_by = self.connection.query_row(
            "SELECT value FROM meta WHERE key = 'written_by'",
            [],
            |row| row.get(0),
        )?;
        Ok(Schema {
            number: value("PRAGMA user_version")? as usize,
            written_by,
            bytes: pages * size,
        })
    }

    /// Whether it knows any thread or chain.
    pub(crate) fn knows_threads(&self) -> Result<bool, Error> {
        let query = "SELECT EXISTS (SELECT 1 FROM thread) OR EXISTS (SELECT 1 FROM chain)";
        Ok(self.connection.query_row(query, [], |row| row.get(0))?)
    }

    /// The newest state of each thread.
    pub(crate) fn thread_tips(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.pairs("SELECT name, current_state FROM thread WHERE current_state IS NOT NULL")
    }

    /// The refs of ended chains, and where they lead.
    pub(crate) fn kept_tips(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.pairs("SELECT ref, tip FROM chain WHERE ended_secs IS NOT NULL")
    }

    /// Id and tree of every capture, oldest first.
    pub(crate) fn state_trees(&self) -> Result<Vec<(StateBytes, TreeBytes)>, Error> {
        self.pairs("SELECT state_id, tree FROM state ORDER BY id")
    }

    fn pairs<A: rusqlite::types::FromSql>(&self, query: &str) -> Result<Vec<(A, Vec<u8>)>, Error> {
        let mut statement = self.connection.prepare_cached(query)?;
        let pairs = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(pairs.collect::<Result<_, _>>()?)
    }
}

/// How the database in `folder` stands. Nothing is written; the caller holds the repository's lock,
/// or nothing can be said for longer than this moment.
pub fn condition(folder: &Path) -> Condition {
    let path = folder.join("heddle.db");
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Condition::Missing,
        Err(e) => return Condition::Unusable(e.into()),
        Ok(_) => {}
    }
    match look(&path) {
        Ok(faults) if faults.is_empty() => Condition::Sound,
        Ok(faults) => Condition::Damaged(faults.join("; ")),
        Err(error) if error.reason() == Reason::StoreCorrupt => {
            Condition::Damaged("it is not a database any more".to_owned())
        }
        Err(error) => Condition::Unusable(error),
    }
}

fn look(path: &Path) -> Result<Vec<String>, Error> {
    // With a log to recover, only one that may write can read.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open_database(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch("PRAGMA query_only = ON;")?;
    migrations::check(&connection, path)?;
    integrity_faults(&connection)
}

pub(super) fn integrity_faults(connection: &Connection) -> Result<Vec<String>, Error> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({FAULTS})"))?;
    let faults = statement.query_map([], |row| row.get(0))?;
    let faults: Vec<String> = faults.collect::<Result<_, _>>()?;
    Ok(faults.into_iter().filter(|fault| fault != "ok").collect())
}

/// Moves the database in `folder` aside, with its log, so that a new one can be made; answers where
/// the database is now. Nothing is removed. The caller holds the repository's lock.
///
/// # Errors
/// When the disk refuses.
pub fn set_aside(folder: &Path, now: &str) -> io::Result<PathBuf> {
    let name = |again: u32| match again {
        0 => format!("heddle.db.damaged-{now}"),
        again => format!("heddle.db.damaged-{now}-{again}"),
    };
    let mut again = 0;
    while folder.join(name(again)).symlink_metadata().is_ok() {
        again += 1;
    }
    let aside = name(again);
    let each = |one: &dyn Fn(&Path, &Path) -> io::Result<()>| {
        ["", "-wal", "-shm"].iter().try_for_each(|suffix| {
            let from = folder.join(format!("heddle.db{suffix}"));
            match one(&from, &folder.join(format!("{aside}{suffix}"))) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        })
    };
    // All have their new names before one loses its old one.
    each(&|from, to| fs::hard_link(from, to))?;
    fs::File::open(folder)?.sync_all()?;
    each(&|from, _| fs::remove_file(from))?;
    fs::File::open(folder)?.sync_all()?;
    Ok(folder.join(aside))
}
