//! Transactions and the calls that are buffered in them.

use rusqlite::{OptionalExtension, Row};
use uuid::Uuid;

use super::{Error, ReadTx, WriteTx};

/// How a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    /// Calls may be buffered in it.
    Active,
    /// Its calls were applied.
    Committed,
    /// Its calls were dropped.
    Aborted,
}

impl TransactionState {
    /// Its name on the wire and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Committed => "committed",
            Self::Aborted => "aborted",
        }
    }

    fn of(name: &str) -> Self {
        match name {
            "active" => Self::Active,
            "committed" => Self::Committed,
            _ => Self::Aborted,
        }
    }
}

/// A transaction, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRecord {
    /// Its id.
    pub id: Uuid,
    /// The thread whose movement makes the commit fail.
    pub thread: String,
    /// What it is for.
    pub message: String,
    /// How it stands.
    pub state: TransactionState,
    /// Why it was aborted.
    pub reason: Option<String>,
    /// When it began, in seconds since the Unix epoch.
    pub started_secs: i64,
    /// When it was last used.
    pub used_secs: i64,
    /// The worktree that its thread was worked on in, in bytes.
    pub worktree: Option<Vec<u8>>,
    /// The state that the worktree had when it began, and that an abort can go back to.
    pub rewind_state: Option<Vec<u8>>,
    /// The thread's newest state when it began.
    pub base_state: Option<Vec<u8>>,
    /// The worktree's HEAD when it began.
    pub base_head: Option<Vec<u8>>,
    /// Its thread as the buffered calls leave it, in JSON; `None` while none touched it.
    pub view: Option<String>,
    /// Calls that were buffered.
    pub calls: u32,
}

/// A call that is buffered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferedCall {
    /// The method's full name.
    pub method: String,
    /// What it does, in JSON.
    pub command: String,
    /// Who made it, in JSON.
    pub caller: String,
}

const TRANSACTION: &str = "id, thread, message, state, reason, started_secs, used_secs, worktree, \
     rewind_state, base_state, base_head, view, calls";

fn transaction(row: &Row<'_>) -> rusqlite::Result<TransactionRecord> {
    let state: String = row.get(3)?;
    Ok(TransactionRecord {
        id: Uuid::from_bytes(row.get(0)?),
        thread: row.get(1)?,
        message: row.get(2)?,
        state: TransactionState::of(&state),
        reason: row.get(4)?,
        started_secs: row.get(5)?,
        used_secs: row.get(6)?,
        worktree: row.get(7)?,
        rewind_state: row.get(8)?,
        base_state: row.get(9)?,
        base_head: row.get(10)?,
        view: row.get(11)?,
        calls: row.get(12)?,
    })
}

impl ReadTx<'_> {
    /// The transaction of this id.
    pub(crate) fn transaction(&self, id: Uuid) -> Result<Option<TransactionRecord>, Error> {
        let query = format!("SELECT {TRANSACTION} FROM txn WHERE id = ?1");
        let mut statement = self.connection.prepare_cached(&query)?;
        Ok(statement
            .query_row([id.as_bytes()], transaction)
            .optional()?)
    }

    /// The newest transactions, the newest first; only those that are active where `active`.
    pub(crate) fn transactions(
        &self,
        active: bool,
        limit: u32,
    ) -> Result<Vec<TransactionRecord>, Error> {
        let query = format!(
            "SELECT {TRANSACTION} FROM txn WHERE NOT ?1 OR state = 'active'
             ORDER BY started_secs DESC, id DESC LIMIT ?2"
        );
        let mut statement = self.connection.prepare_cached(&query)?;
        let found = statement.query_map((active, limit), transaction)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The active transaction on a thread.
    pub(crate) fn transaction_on(&self, thread: &str) -> Result<Option<TransactionRecord>, Error> {
        let query =
            format!("SELECT {TRANSACTION} FROM txn WHERE state = 'active' AND thread = ?1 LIMIT 1");
        let mut statement = self.connection.prepare_cached(&query)?;
        Ok(statement.query_row([thread], transaction).optional()?)
    }

    /// The active transaction that was left alone for the longest time.
    pub(crate) fn stalest_transaction(&self) -> Result<Option<(Uuid, i64)>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, used_secs FROM txn WHERE state = 'active' ORDER BY used_secs LIMIT 1",
        )?;
        let found = statement.query_row([], |row| Ok((Uuid::from_bytes(row.get(0)?), row.get(1)?)));
        Ok(found.optional()?)
    }

    /// The calls of a transaction, in their order.
    pub(crate) fn buffered_calls(&self, id: Uuid) -> Result<Vec<BufferedCall>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT method, command, caller FROM txn_call WHERE txn = ?1 ORDER BY number",
        )?;
        let calls = statement.query_map([id.as_bytes()], |row| {
            Ok(BufferedCall {
                method: row.get(0)?,
                command: row.get(1)?,
                caller: row.get(2)?,
            })
        })?;
        Ok(calls.collect::<Result<_, _>>()?)
    }
}

impl WriteTx<'_> {
    /// Adds a transaction.
    pub(crate) fn add_transaction(&self, new: &TransactionRecord) -> Result<(), Error> {
        let statement = format!(
            "INSERT INTO txn ({TRANSACTION})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
        );
        self.connection
            .prepare_cached(&statement)?
            .execute(rusqlite::params![
                new.id.as_bytes(),
                new.thread,
                new.message,
                new.state.name(),
                new.reason,
                new.started_secs,
                new.used_secs,
                new.worktree,
                new.rewind_state,
                new.base_state,
                new.base_head,
                new.view,
                new.calls,
            ])?;
        Ok(())
    }

    /// Adds a call to an active transaction, with its thread as the call leaves it.
    pub(crate) fn buffer_call(
        &self,
        id: Uuid,
        call: &BufferedCall,
        view: Option<&str>,
        now_secs: i64,
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO txn_call (txn, number, method, command, caller)
                 SELECT id, calls, ?2, ?3, ?4 FROM txn WHERE id = ?1",
            )?
            .execute((id.as_bytes(), &call.method, &call.command, &call.caller))?;
        self.connection
            .prepare_cached(
                "UPDATE txn SET calls = calls + 1, view = ?2, used_secs = ?3 WHERE id = ?1",
            )?
            .execute((id.as_bytes(), view, now_secs))?;
        Ok(())
    }

    /// Ends a transaction; its calls are applied or dropped, and no longer kept.
    pub(crate) fn end_transaction(
        &self,
        id: Uuid,
        state: TransactionState,
        reason: Option<&str>,
        now_secs: i64,
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "UPDATE txn SET state = ?2, reason = ?3, used_secs = ?4, view = NULL WHERE id = ?1",
            )?
            .execute((id.as_bytes(), state.name(), reason, now_secs))?;
        self.connection
            .prepare_cached("DELETE FROM txn_call WHERE txn = ?1")?
            .execute([id.as_bytes()])?;
        Ok(())
    }

    /// Forgets a few transactions that ended before `before_secs`.
    pub(crate) fn forget_transactions(&self, before_secs: i64) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "DELETE FROM txn WHERE id IN (SELECT id FROM txn
                     WHERE state <> 'active' AND used_secs < ?1 ORDER BY used_secs LIMIT 16)",
            )?
            .execute([before_secs])?;
        Ok(())
    }

    /// Does `work` and takes all of it back, whatever it answers.
    pub(crate) fn try_out<T>(
        &self,
        work: impl FnOnce() -> Result<T, crate::failure::Failure>,
    ) -> Result<T, crate::failure::Failure> {
        let run = |statement: &str| {
            self.connection
                .execute_batch(statement)
                .map_err(Error::from)
        };
        run("SAVEPOINT try_out")?;
        let answer = work();
        // Where SQLite gave up the whole transaction, there is nothing left to roll back.
        if !self.connection.is_autocommit() {
            run("ROLLBACK TO try_out; RELEASE try_out")?;
        }
        answer
    }
}
