//! Answers of keyed calls, kept so that a retry has one effect and one answer (G3).

use std::{fmt, time::Duration};

use rusqlite::OptionalExtension;
use uuid::Uuid;

use super::{Error, ReadTx, Store, WriteTx};

/// How long an answer is kept at least: part of the promise of `client_operation_id`.
pub const DEDUP_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Rows removed with one write at most, so that no call pays for many.
const PRUNE_STEP: u32 = 64;

/// The recorded answer of a keyed call.
#[derive(Clone, PartialEq, Eq)]
pub struct Recorded {
    /// SHA-256 over method, transaction and request.
    pub fingerprint: [u8; 32],
    /// The encoded response, byte for byte.
    pub response: Vec<u8>,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorded({} bytes)", self.response.len())
    }
}

/// The recorded answers, by `client_operation_id`. Looked up on a connection of its own; recorded
/// by the road in the same SQLite transaction as the effect.
#[derive(Clone)]
pub struct OperationDedupStore {
    store: Store,
}

impl OperationDedupStore {
    /// The answers in this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// What was answered to this key, if anything was.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn find(&self, key: Uuid) -> Result<Option<Recorded>, Error> {
        self.store.read(|tx| tx.recorded(key))
    }
}

impl ReadTx<'_> {
    fn recorded(&self, key: Uuid) -> Result<Option<Recorded>, Error> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT fingerprint, response FROM operation_dedup WHERE client_operation_id = ?1",
            )?
            .query_row([key.as_bytes()], |row| {
                Ok(Recorded {
                    fingerprint: row.get(0)?,
                    response: row.get(1)?,
                })
            })
            .optional()?;
        Ok(found)
    }
}

impl WriteTx<'_> {
    /// Records an answer, and removes a few that are past retention.
    pub(crate) fn record_answer(
        &self,
        key: Uuid,
        answer: &Recorded,
        now_secs: i64,
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO operation_dedup
                     (client_operation_id, fingerprint, response, recorded_at_secs)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((
                key.as_bytes(),
                answer.fingerprint,
                &answer.response,
                now_secs,
            ))?;
        self.prune(now_secs)
    }

    /// Looks at the oldest rows only, so the cost does not depend on how many there are.
    fn prune(&self, now_secs: i64) -> Result<(), Error> {
        // Recorded by a clock that was ahead: as if recorded now, behind all others, for they would
        // keep those behind them until that time comes.
        self.connection
            .prepare_cached(
                "UPDATE operation_dedup SET recorded_at_secs = ?1,
                     id = id + (SELECT max(id) FROM operation_dedup) + 1
                         - (SELECT min(id) FROM operation_dedup)
                 WHERE recorded_at_secs > ?1 AND id IN
                     (SELECT id FROM operation_dedup ORDER BY id LIMIT ?2)",
            )?
            .execute((now_secs, PRUNE_STEP))?;
        self.connection
            .prepare_cached(
                "DELETE FROM operation_dedup WHERE recorded_at_secs < ?1 AND id IN
                     (SELECT id FROM operation_dedup ORDER BY id LIMIT ?2)",
            )?
            .execute((now_secs - DEDUP_RETENTION.as_secs() as i64, PRUNE_STEP))?;
        Ok(())
    }
}
