//! What a call leaves: refs, by Git and by the store, and files that only a call under way has.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::fault::database;

/// Refs by name.
pub type Refs = BTreeMap<String, String>;

/// The refs of ours that Git says there are.
pub fn refs_by_git(git: &dyn Fn(&[&str]) -> String) -> Refs {
    let refs = git(&[
        "for-each-ref",
        "--format=%(refname) %(objectname)",
        "refs/heddle/",
    ]);
    let pair = |line: &str| {
        let (name, id) = line.split_once(' ').unwrap();
        (name.to_owned(), id.to_owned())
    };
    refs.lines().map(pair).collect()
}

/// The refs that the store says there are.
pub fn refs_by_store(root: &Path) -> Refs {
    let (_copy, database) = database(&root.join(".git/heddle")).unwrap();
    let named = query(
        &database,
        "SELECT 'refs/heddle/threads/' || name, lower(hex(current_state)) FROM thread
         WHERE current_state IS NOT NULL
         UNION SELECT ref, lower(hex(tip)) FROM chain WHERE ref IS NOT NULL",
        |row| Ok((row.get(0)?, row.get(1)?)),
    );
    let held = |column: &str| {
        let newest = format!(
            "SELECT id, {column} FROM txn WHERE state = 'active' AND {column} IS NOT NULL",
        );
        query(&database, &newest, |row| {
            Ok((Uuid::from_bytes(row.get(0)?), row.get(1)?))
        })
    };
    // What was captured last, or else the state where it began.
    let newest = "coalesce(
        (SELECT (command ->> '$.body') ->> '$.snapshot.state' FROM txn_call
         WHERE txn = id AND command ->> '$.kind' LIKE 'capture_thread.%'
         ORDER BY number DESC LIMIT 1),
        lower(hex(base_state)))";
    let newest = held(newest).into_iter();
    let newest = newest.map(|(id, state)| (format!("refs/heddle/transactions/{id}"), state));
    let rewind = held("lower(hex(rewind_state))").into_iter();
    let rewind = rewind.map(|(id, state)| (format!("refs/heddle/rewind/{id}"), state));
    named.into_iter().chain(newest).chain(rewind).collect()
}

/// All rows of a query.
pub fn query<T>(
    database: &Connection,
    query: &str,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut statement = database.prepare(query).unwrap();
    let rows = statement.query_map([], row).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Files that only a call under way has.
pub fn leftovers(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |folder: PathBuf, is_left: &dyn Fn(&str) -> bool| {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_left(&name) {
                found.push(folder.join(name).display().to_string());
            }
        }
    };
    look(root.join(".heddle"), &|name| {
        !["sockets", "agent.log"].contains(&name)
    });
    look(root.join(".git"), &|name| name.ends_with(".lock"));
    look(root.join(".git/heddle"), &|name| name.starts_with("index-"));
    let objects = root.join(".git/objects");
    look(objects.clone(), &|name| name.starts_with("tmp_"));
    for entry in fs::read_dir(&objects).unwrap().flatten() {
        look(entry.path(), &|name| name.starts_with("tmp_"));
    }
    for below in ["threads", "kept/main", "kept", "transactions", "rewind"] {
        look(root.join(".git/refs/heddle").join(below), &|name| {
            name.ends_with(".lock")
        });
    }
    found
}
