//! Threads, chains and states.

use rusqlite::{OptionalExtension, Row};

use super::{Error, ReadTx, WriteTx};

/// A thread, as it is kept.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ThreadRecord {
    /// Its name.
    pub name: String,
    /// Whether it was started, and is not only a branch that was captured.
    pub declared: bool,
    /// The state that it started from.
    pub base_state: Option<Vec<u8>>,
    /// Its newest state.
    pub current_state: Option<Vec<u8>>,
    /// The chain of captures under way.
    pub chain: Option<i64>,
    /// The commit that HEAD was when the chain began.
    pub chain_head: Option<Vec<u8>>,
    /// The worktree that was added for it.
    pub path: Option<Vec<u8>>,
    /// The thread that it was started from.
    pub parent_thread: Option<String>,
    /// The provider of the agent that works on it.
    pub provider: Option<String>,
    /// The model of the agent that works on it.
    pub model: Option<String>,
    /// Whether it was completed.
    pub complete: bool,
    /// Whether its last capture found unmerged paths.
    pub conflicted: bool,
    /// The confidence of its last capture.
    pub confidence: Option<f64>,
    /// When it was first seen, in seconds since the Unix epoch.
    pub created_secs: i64,
    /// When it was last captured.
    pub captured_secs: Option<i64>,
    /// When anything last happened to it.
    pub active_secs: i64,
}

/// A capture, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRecord {
    /// The commit.
    pub state_id: Vec<u8>,
    /// The chain that it belongs to.
    pub chain: i64,
    /// The state that it came after.
    pub parent: Option<Vec<u8>>,
    /// The commit's tree.
    pub tree: Vec<u8>,
    /// The thread that was captured.
    pub thread: String,
    /// The id that survives rewriting.
    pub change_id: String,
    /// When, in seconds since the Unix epoch.
    pub captured_secs: i64,
}

const THREAD: &str = "name, declared, base_state, current_state, chain, chain_head, path, \
     parent_thread, provider, model, complete, conflicted, confidence, created_secs, \
     captured_secs, active_secs";

const STATE: &str = "state_id, chain, parent, tree, thread, change_id, captured_secs";

fn thread(row: &Row<'_>) -> rusqlite::Result<ThreadRecord> {
    Ok(ThreadRecord {
        name: row.get(0)?,
        declared: row.get(1)?,
        base_state: row.get(2)?,
        current_state: row.get(3)?,
        chain: row.get(4)?,
        chain_head: row.get(5)?,
        path: row.get(6)?,
        parent_thread: row.get(7)?,
        provider: row.get(8)?,
        model: row.get(9)?,
        complete: row.get(10)?,
        conflicted: row.get(11)?,
        confidence: row.get(12)?,
        created_secs: row.get(13)?,
        captured_secs: row.get(14)?,
        active_secs: row.get(15)?,
    })
}

fn state(row: &Row<'_>) -> rusqlite::Result<StateRecord> {
    Ok(StateRecord {
        state_id: row.get(0)?,
        chain: row.get(1)?,
        parent: row.get(2)?,
        tree: row.get(3)?,
        thread: row.get(4)?,
        change_id: row.get(5)?,
        captured_secs: row.get(6)?,
    })
}

impl ReadTx<'_> {
    /// The thread of this name.
    pub(crate) fn thread(&self, name: &str) -> Result<Option<ThreadRecord>, Error> {
        let query = format!("SELECT {THREAD} FROM thread WHERE name = ?1");
        let mut statement = self.connection.prepare_cached(&query)?;
        Ok(statement.query_row([name], thread).optional()?)
    }

    /// Every thread, by name.
    pub(crate) fn threads(&self) -> Result<Vec<ThreadRecord>, Error> {
        let query = format!("SELECT {THREAD} FROM thread ORDER BY name");
        let mut statement = self.connection.prepare_cached(&query)?;
        let threads = statement.query_map([], thread)?;
        Ok(threads.collect::<Result<_, _>>()?)
    }

    /// The names of the declared threads that were given this worktree.
    pub(crate) fn threads_at(&self, path: &[u8]) -> Result<Vec<String>, Error> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT name FROM thread WHERE path = ?1 ORDER BY name")?;
        let names = statement.query_map([path], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// Threads whose names Git could not have beside this one: a folder of the other.
    pub(crate) fn threads_beside(&self, name: &str) -> Result<Vec<ThreadRecord>, Error> {
        let query = format!(
            "SELECT {THREAD} FROM thread
             WHERE substr(name, 1, length(?1) + 1) = ?1 || '/'
                OR substr(?1, 1, length(name) + 1) = name || '/'"
        );
        let mut statement = self.connection.prepare_cached(&query)?;
        let threads = statement.query_map([name], thread)?;
        Ok(threads.collect::<Result<_, _>>()?)
    }

    /// The tree of the newest capture.
    pub(crate) fn newest_tree(&self) -> Result<Option<Vec<u8>>, Error> {
        let query = "SELECT tree FROM state ORDER BY id DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(query)?;
        Ok(statement.query_row([], |row| row.get(0)).optional()?)
    }

    /// The capture of this id.
    pub(crate) fn state(&self, state_id: &[u8]) -> Result<Option<StateRecord>, Error> {
        let query = format!("SELECT {STATE} FROM state WHERE state_id = ?1");
        let mut statement = self.connection.prepare_cached(&query)?;
        Ok(statement.query_row([state_id], state).optional()?)
    }
}

impl WriteTx<'_> {
    /// What reads see, with the changes of this transaction.
    pub(crate) fn reads(&self) -> ReadTx<'_> {
        ReadTx {
            connection: self.connection,
        }
    }

    /// Adds a thread, or replaces the one of its name.
    pub(crate) fn put_thread(&self, new: &ThreadRecord) -> Result<(), Error> {
        let statement = format!(
            "INSERT OR REPLACE INTO thread ({THREAD})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
        );
        self.connection
            .prepare_cached(&statement)?
            .execute(rusqlite::params![
                new.name,
                new.declared,
                new.base_state,
                new.current_state,
                new.chain,
                new.chain_head,
                new.path,
                new.parent_thread,
                new.provider,
                new.model,
                new.complete,
                new.conflicted,
                new.confidence,
                new.created_secs,
                new.captured_secs,
                new.active_secs,
            ])?;
        Ok(())
    }

    /// The worktree at a path is another's now.
    pub(crate) fn leave_path(&self, path: &[u8]) -> Result<(), Error> {
        self.connection
            .prepare_cached("UPDATE thread SET path = NULL WHERE path = ?1")?
            .execute([path])?;
        Ok(())
    }

    /// Forgets a thread.
    pub(crate) fn delete_thread(&self, name: &str) -> Result<(), Error> {
        self.connection
            .prepare_cached("DELETE FROM thread WHERE name = ?1")?
            .execute([name])?;
        Ok(())
    }

    /// Adds a capture.
    pub(crate) fn add_state(&self, new: &StateRecord) -> Result<(), Error> {
        let statement = format!("INSERT INTO state ({STATE}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
        self.connection.prepare_cached(&statement)?.execute((
            &new.state_id,
            new.chain,
            &new.parent,
            &new.tree,
            &new.thread,
            &new.change_id,
            new.captured_secs,
        ))?;
        Ok(())
    }
}
