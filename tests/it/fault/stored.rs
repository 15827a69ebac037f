//! What a database on disk holds, looked at in a copy, so that looking changes nothing.

use std::{collections::HashMap, fs, path::Path};

use rusqlite::Connection;
use tempfile::TempDir;
use uuid::Uuid;

/// How often each key is found.
#[derive(Debug, Default)]
pub struct Stored {
    /// Rows of the operation log, by the key that the test gave as the acting agent.
    pub log: HashMap<String, u32>,
    /// The same by key and verb.
    pub verbs: HashMap<(String, String), u32>,
    /// Recorded answers.
    pub answers: HashMap<Uuid, u32>,
    /// Registered hooks and their commands.
    pub hooks: HashMap<String, String>,
}

impl Stored {
    /// How often the effect of a keyed call is there; panics where it is there in part.
    #[track_caller]
    pub fn effects(&self, key: Uuid) -> u32 {
        let log = self.log.get(&key.to_string()).copied().unwrap_or(0);
        let answers = self.answers.get(&key).copied().unwrap_or(0);
        assert_eq!(log, answers, "{key} is there in part");
        log
    }
}

/// A copy of the database in `store_dir`, opened; `None` where there is none.
pub fn database(store_dir: &Path) -> Option<(TempDir, Connection)> {
    let copy = tempfile::Builder::new().prefix("hdl").tempdir().unwrap();
    for name in ["heddle.db", "heddle.db-wal", "heddle.db-journal"] {
        let from = store_dir.join(name);
        if from.exists() {
            fs::copy(&from, copy.path().join(name)).unwrap();
        }
    }
    let path = copy.path().join("heddle.db");
    path.exists()
        .then(|| (copy, Connection::open(&path).unwrap()))
}

/// What the database in `store_dir` holds; panics unless it is sound.
#[track_caller]
pub fn stored(store_dir: &Path) -> Stored {
    let Some((_copy, database)) = database(store_dir) else {
        return Stored::default();
    };
    let sound: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
    let version: u32 = database
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    if version == 0 {
        return Stored::default();
    }
    let mut stored = Stored::default();
    let mut rows = database
        .prepare("SELECT agent, count(*) FROM operation WHERE agent IS NOT NULL GROUP BY agent")
        .unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    stored.log = rows.unwrap().map(Result::unwrap).collect();
    let mut rows = database
        .prepare(
            "SELECT agent, verb, count(*) FROM operation WHERE agent IS NOT NULL GROUP BY 1, 2",
        )
        .unwrap();
    let rows = rows.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)));
    stored.verbs = rows.unwrap().map(Result::unwrap).collect();
    let mut rows = database
        .prepare("SELECT client_operation_id, count(*) FROM operation_dedup GROUP BY 1")
        .unwrap();
    let rows = rows.query_map([], |row| {
        let key: Vec<u8> = row.get(0)?;
        Ok((Uuid::from_slice(&key).unwrap(), row.get(1)?))
    });
    stored.answers = rows.unwrap().map(Result::unwrap).collect();
    let mut rows = database.prepare("SELECT name, command FROM hook").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    stored.hooks = rows.unwrap().map(Result::unwrap).collect();
    stored
}
