//! Where each worktree stood after each capture and restore, and which step it stands at.

use rusqlite::OptionalExtension;

use super::{Error, ReadTx, WriteTx};

/// Steps kept for each worktree.
const KEPT: u32 = 10_000;

/// A step in a worktree's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its place.
    pub id: i64,
    /// The state that the worktree had then.
    pub state_id: Vec<u8>,
    /// That state's tree.
    pub tree: Vec<u8>,
}

impl ReadTx<'_> {
    /// The step that a worktree stands at.
    pub(crate) fn current_step(&self, worktree: &[u8]) -> Result<Option<Step>, Error> {
        self.one_step(
            "SELECT step.id, state_id, tree FROM worktree JOIN step ON step.id = worktree.step
             WHERE path = ?1 AND worktree.path = step.worktree AND ?2 >= 0",
            worktree,
            0,
        )
    }

    /// The `n`th step before the one that a worktree stands at.
    pub(crate) fn step_back(&self, worktree: &[u8], n: u32) -> Result<Option<Step>, Error> {
        if n == 0 {
            return self.current_step(worktree);
        }
        self.one_step(
            "SELECT id, state_id, tree FROM step WHERE worktree = ?1
                 AND id < (SELECT step FROM worktree WHERE path = ?1)
             ORDER BY id DESC LIMIT 1 OFFSET ?2",
            worktree,
            n - 1,
        )
    }

    /// The `n`th step after the one that a worktree stands at.
    pub(crate) fn step_forth(&self, worktree: &[u8], n: u32) -> Result<Option<Step>, Error> {
        if n == 0 {
            return self.current_step(worktree);
        }
        self.one_step(
            "SELECT id, state_id, tree FROM step WHERE worktree = ?1
                 AND id > (SELECT step FROM worktree WHERE path = ?1)
             ORDER BY id LIMIT 1 OFFSET ?2",
            worktree,
            n - 1,
        )
    }

    /// How many steps can be undone, and how many redone.
    pub(crate) fn steps_left(&self, worktree: &[u8]) -> Result<(u32, u32), Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT coalesce(sum(id < at), 0), coalesce(sum(id > at), 0) FROM step,
                 (SELECT step AS at FROM worktree WHERE path = ?1) WHERE worktree = ?1",
        )?;
        Ok(statement.query_row([worktree], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    /// The thread of a worktree whose HEAD does not tell.
    pub(crate) fn thread_of_worktree(&self, worktree: &[u8]) -> Result<Option<String>, Error> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT thread FROM worktree WHERE path = ?1")?;
        let found = statement.query_row([worktree], |row| row.get(0)).optional();
        Ok(found?.flatten())
    }

    fn one_step(&self, query: &str, worktree: &[u8], skip: u32) -> Result<Option<Step>, Error> {
        let mut statement = self.connection.prepare_cached(query)?;
        let step = statement.query_row((worktree, skip), |row| {
            Ok(Step {
                id: row.get(0)?,
                state_id: row.get(1)?,
                tree: row.get(2)?,
            })
        });
        Ok(step.optional()?)
    }
}

impl WriteTx<'_> {
    /// The worktree stands at a new step; what had been undone before it can no longer be redone.
    pub(crate) fn take_step(
        &self,
        worktree: &[u8],
        state_id: &[u8],
        tree: &[u8],
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "DELETE FROM step WHERE worktree = ?1
                     AND id > (SELECT step FROM worktree WHERE path = ?1)",
            )?
            .execute([worktree])?;
        self.connection
            .prepare_cached("INSERT INTO step (worktree, state_id, tree) VALUES (?1, ?2, ?3)")?
            .execute((worktree, state_id, tree))?;
        let step = self.connection.last_insert_rowid();
        self.stand_at(worktree, step)?;
        self.connection
            .prepare_cached(
                "DELETE FROM step WHERE worktree = ?1 AND id <=
                     (SELECT id FROM step WHERE worktree = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute((worktree, KEPT))?;
        Ok(())
    }

    /// The worktree stands at a step that is there.
    pub(crate) fn stand_at(&self, worktree: &[u8], step: i64) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO worktree (path, step) VALUES (?1, ?2)
                 ON CONFLICT (path) DO UPDATE SET step = excluded.step",
            )?
            .execute((worktree, step))?;
        Ok(())
    }

    /// Remembers the thread of a worktree whose HEAD does not tell.
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
