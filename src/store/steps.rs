//! Where each worktree stood on each thread after each capture and restore, and which step it stands
//! at.

use rusqlite::{OptionalExtension, Row};

use super::{Error, ReadTx, WriteTx};

/// Steps kept of each line.
const KEPT: u32 = 10_000;

/// Whose steps: those of a worktree on one thread.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// The worktree's root.
    pub worktree: &'a [u8],
    /// The thread's name.
    pub thread: &'a str,
}

/// A step in the history of a worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its place.
    pub id: i64,
    /// The state that the worktree had then.
    pub state_id: Vec<u8>,
    /// The worktree's tree then: the state's, but for what a restore had to leave alone.
    pub tree: Vec<u8>,
}

fn step(row: &Row<'_>) -> rusqlite::Result<Step> {
    Ok(Step {
        id: row.get(0)?,
        state_id: row.get(1)?,
        tree: row.get(2)?,
    })
}

/// The step that the line ?1, ?2 stands at.
macro_rules! standing {
    () => {
        "(SELECT step FROM line WHERE worktree = ?1 AND thread = ?2)"
    };
}

impl ReadTx<'_> {
    /// The step that a line stands at.
    pub(crate) fn current_step(&self, of: Line<'_>) -> Result<Option<Step>, Error> {
        let mut statement = self.connection.prepare_cached(concat!(
            "SELECT id, state_id, tree FROM step
             WHERE worktree = ?1 AND thread = ?2 AND id = ",
            standing!()
        ))?;
        let found = statement.query_row((of.worktree, of.thread), step);
        Ok(found.optional()?)
    }

    /// The `n`th step before the one that a line stands at; that one itself for 0.
    pub(crate) fn step_back(&self, of: Line<'_>, n: u32) -> Result<Option<Step>, Error> {
        let mut statement = self.connection.prepare_cached(concat!(
            "SELECT id, state_id, tree FROM step
             WHERE worktree = ?1 AND thread = ?2 AND id <= ",
            standing!(),
            " ORDER BY id DESC LIMIT 1 OFFSET ?3"
        ))?;
        let found = statement.query_row((of.worktree, of.thread, n), step);
        Ok(found.optional()?)
    }

    /// The `n`th step after the one that a line stands at; that one itself for 0.
    pub(crate) fn step_forth(&self, of: Line<'_>, n: u32) -> Result<Option<Step>, Error> {
        let mut statement = self.connection.prepare_cached(concat!(
            "SELECT id, state_id, tree FROM step
             WHERE worktree = ?1 AND thread = ?2 AND id >= ",
            standing!(),
            " ORDER BY id LIMIT 1 OFFSET ?3"
        ))?;
        let found = statement.query_row((of.worktree, of.thread, n), step);
        Ok(found.optional()?)
    }

    /// How many steps can be undone, and how many redone.
    pub(crate) fn steps_left(&self, of: Line<'_>) -> Result<(u32, u32), Error> {
        let mut statement = self.connection.prepare_cached(concat!(
            "SELECT coalesce(sum(id < at), 0), coalesce(sum(id > at), 0)
             FROM step, (SELECT ",
            standing!(),
            " AS at) WHERE worktree = ?1 AND thread = ?2"
        ))?;
        let counts = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(statement.query_row((of.worktree, of.thread), counts)?)
    }

    /// The thread of a worktree whose HEAD does not tell.
    pub(crate) fn thread_of_worktree(&self, worktree: &[u8]) -> Result<Option<String>, Error> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT thread FROM worktree WHERE path = ?1")?;
        let found = statement.query_row([worktree], |row| row.get(0));
        Ok(found.optional()?)
    }
}

impl WriteTx<'_> {
    /// A line stands at a new step; what had been undone before can no longer be redone.
    pub(crate) fn take_step(
        &self,
        of: Line<'_>,
        state_id: &[u8],
        tree: &[u8],
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached(concat!(
                "DELETE FROM step WHERE worktree = ?1 AND thread = ?2 AND id > ",
                standing!()
            ))?
            .execute((of.worktree, of.thread))?;
        self.connection
            .prepare_cached(
                "INSERT INTO step (worktree, thread, state_id, tree) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((of.worktree, of.thread, state_id, tree))?;
        let step = self.connection.last_insert_rowid();
        self.stand_at(of, step)?;
        self.connection
            .prepare_cached(
                "DELETE FROM step WHERE worktree = ?1 AND thread = ?2 AND id <=
                     (SELECT id FROM step WHERE worktree = ?1 AND thread = ?2
                      ORDER BY id DESC LIMIT 1 OFFSET ?3)",
            )?
            .execute((of.worktree, of.thread, KEPT))?;
        Ok(())
    }

    /// A line stands at a step that is there; its worktree has this tree.
    pub(crate) fn return_to(&self, of: Line<'_>, step: i64, tree: &[u8]) -> Result<(), Error> {
        self.connection
            .prepare_cached("UPDATE step SET tree = ?2 WHERE id = ?1 AND tree <> ?2")?
            .execute((step, tree))?;
        self.stand_at(of, step)
    }

    fn stand_at(&self, of: Line<'_>, step: i64) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO line (worktree, thread, step) VALUES (?1, ?2, ?3)
                 ON CONFLICT (worktree, thread) DO UPDATE SET step = excluded.step",
            )?
            .execute((of.worktree, of.thread, step))?;
        Ok(())
    }

    /// Remembers the thread of a worktree, for when its HEAD does not tell.
    pub(crate) fn put_thread_of_worktree(
        &self,
        worktree: &[u8],
        thread: &str,
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO worktree (path, thread) VALUES (?1, ?2)
                 ON CONFLICT (path) DO UPDATE SET thread = excluded.thread",
            )?
            .execute((worktree, thread))?;
        Ok(())
    }
}
