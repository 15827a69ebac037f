//! Signals of captures: which are still to be computed, and what was.

use super::{Error, ReadTx, WriteTx, operations::joined};

/// Symbols that an entry of the operation log lists.
const LISTED: usize = 200;

/// A capture whose symbols and signals are not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRecord {
    /// Its entry in the operation log.
    pub seq: u64,
    /// The state.
    pub state_id: Vec<u8>,
    /// The hooks that it came from.
    pub chain: String,
}

/// The signals of a capture, as they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalsRecord {
    /// Its place among all of them.
    pub id: i64,
    /// The state.
    pub state_id: Vec<u8>,
    /// When they were computed, in milliseconds since the Unix epoch.
    pub computed_ms: i64,
    /// The modules that raised one.
    pub modules: Vec<String>,
    /// All of them, in JSON.
    pub signals: String,
}

impl ReadTx<'_> {
    /// Captures whose signals are not known yet, oldest first.
    pub(crate) fn pending_signals(&self, limit: u32) -> Result<Vec<PendingRecord>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, state_id, chain FROM signal_pending ORDER BY seq LIMIT ?1",
        )?;
        let found = statement.query_map([limit], |row| {
            Ok(PendingRecord {
                seq: row.get(0)?,
                state_id: row.get(1)?,
                chain: row.get(2)?,
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The first entry of the operation log whose symbols and signals are not known yet.
    pub(crate) fn first_pending_signal(&self) -> Result<Option<u64>, Error> {
        let query = "SELECT min(seq) FROM signal_pending";
        let mut statement = self.connection.prepare_cached(query)?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// The place of what was computed last; 0 before anything was.
    pub(crate) fn newest_signals(&self) -> Result<i64, Error> {
        let query = "SELECT coalesce(max(id), 0) FROM state_signal";
        let mut statement = self.connection.prepare_cached(query)?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// What was computed after the place `after`, oldest first.
    pub(crate) fn signals_after(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<SignalsRecord>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, state_id, computed_ms, modules, signals FROM state_signal
             WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let found = statement.query_map((after, limit), |row| {
            let modules: String = row.get(3)?;
            Ok(SignalsRecord {
                id: row.get(0)?,
                state_id: row.get(1)?,
                computed_ms: row.get(2)?,
                modules: modules.lines().map(str::to_owned).collect(),
                signals: row.get(4)?,
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The modules that raised a signal of each of the newest captures, one per line.
    pub(crate) fn modules_of_newest(&self, limit: u32) -> Result<Vec<String>, Error> {
        let query = "SELECT modules FROM state_signal ORDER BY id DESC LIMIT ?1";
        let mut statement = self.connection.prepare_cached(query)?;
        let found = statement.query_map([limit], |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }
}

impl WriteTx<'_> {
    /// The signals of the capture that this entry of the log tells of are to be computed.
    pub(crate) fn await_signals(&self, seq: u64, state_id: &[u8]) -> Result<(), Error> {
        self.connection
            .prepare_cached("INSERT INTO signal_pending (seq, state_id) VALUES (?1, ?2)")?
            .execute((seq, state_id))?;
        Ok(())
    }

    /// The captures after this entry of the log came from these hooks.
    pub(crate) fn captures_came_from(&self, after: u64, chain: &str) -> Result<(), Error> {
        self.connection
            .prepare_cached("UPDATE signal_pending SET chain = ?2 WHERE seq > ?1")?
            .execute((after, chain))?;
        Ok(())
    }

    /// An entry of the log waits no more for its symbols and signals; answers whether it did.
    pub(crate) fn signals_known(&self, seq: u64) -> Result<bool, Error> {
        let query = "DELETE FROM signal_pending WHERE seq = ?1";
        Ok(self.connection.prepare_cached(query)?.execute([seq])? > 0)
    }

    /// Adds the symbols that a capture changed, and the kinds of its signals, to its entry in the log.
    pub(crate) fn complete_operation(
        &self,
        seq: u64,
        symbols: &[String],
        kinds: &[String],
    ) -> Result<(), Error> {
        let listed = &symbols[..symbols.len().min(LISTED)];
        self.connection
            .prepare_cached("UPDATE operation SET symbols = ?2, signal_kinds = ?3 WHERE seq = ?1")?
            .execute((seq, joined(listed), joined(kinds)))?;
        self.index_operation(seq, symbols, kinds)
    }

    /// Keeps the signals of a capture; answers their place.
    pub(crate) fn put_signals(&self, new: &SignalsRecord) -> Result<i64, Error> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO state_signal (state_id, computed_ms, modules, signals)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((
                &new.state_id,
                new.computed_ms,
                new.modules.join("\n"),
                &new.signals,
            ))?;
        Ok(self.connection.last_insert_rowid())
    }
}
