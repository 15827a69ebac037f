//! Notices to hooks that are committed and may not have been told, and signals that hooks raised.

use uuid::Uuid;

use super::{Error, ReadTx, WriteTx};

/// Notices that may wait; beyond that, new ones are not kept.
pub const NOTICE_LIMIT: i64 = 10_000;

/// A notice, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeRecord {
    /// Its place in the order of notices.
    pub id: i64,
    /// The event's id.
    pub event_id: Uuid,
    /// The event's name.
    pub event: String,
    /// Its payload, in JSON.
    pub payload: String,
    /// The hooks that the change came from.
    pub chain: String,
    /// When it was committed, in milliseconds since the Unix epoch.
    pub emitted_ms: i64,
}

impl ReadTx<'_> {
    /// Notices after the one at `after`, oldest first; only those that commands were not told of,
    /// where `untold` says so.
    pub(crate) fn notices_after(
        &self,
        after: i64,
        untold: bool,
        limit: u32,
    ) -> Result<Vec<NoticeRecord>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, event_id, event, payload, chain, emitted_ms FROM notice
             WHERE id > ?1 AND (told = 0 OR NOT ?2) ORDER BY id LIMIT ?3",
        )?;
        let notices = statement.query_map((after, untold, limit), |row| {
            let event_id: [u8; 16] = row.get(1)?;
            Ok(NoticeRecord {
                id: row.get(0)?,
                event_id: Uuid::from_bytes(event_id),
                event: row.get(2)?,
                payload: row.get(3)?,
                chain: row.get(4)?,
                emitted_ms: row.get(5)?,
            })
        })?;
        Ok(notices.collect::<Result<_, _>>()?)
    }

    /// The signals that hooks raised about a state, in the order of their being said: who, what sort,
    /// and the body.
    pub(crate) fn extra_signals(
        &self,
        state_id: &[u8],
    ) -> Result<Vec<(String, String, String)>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT hook, kind, body FROM extra_signal WHERE state_id = ?1 ORDER BY id",
        )?;
        let found = statement.query_map([state_id], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The place before the oldest notice that is kept, and the last one that was given; the same
    /// where none is kept.
    pub(crate) fn notice_range(&self) -> Result<(i64, i64), Error> {
        let range = self
            .connection
            .prepare_cached(
                "SELECT coalesce((SELECT min(id) - 1 FROM notice), last), last
                 FROM (SELECT coalesce(max(seq), 0) AS last FROM sqlite_sequence
                     WHERE name = 'notice')",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(range)
    }
}

impl WriteTx<'_> {
    /// Keeps a notice until it is told; answers its place, or `None` where too many wait already.
    pub(crate) fn add_notice(
        &self,
        event_id: Uuid,
        event: &str,
        payload: &str,
        chain: &str,
        emitted_ms: i64,
    ) -> Result<Option<i64>, Error> {
        let (before, newest) = self.reads().notice_range()?;
        if newest - before >= NOTICE_LIMIT {
            tracing::error!(
                event,
                "{NOTICE_LIMIT} notices to hooks wait already, and this one is not kept; see what the hooks are waiting for"
            );
            return Ok(None);
        }
        self.connection
            .prepare_cached(
                "INSERT INTO notice (event_id, event, payload, chain, emitted_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((event_id.as_bytes(), event, payload, chain, emitted_ms))?;
        Ok(Some(self.connection.last_insert_rowid()))
    }

    /// Commands were told of the notices up to here; those that come after `(from, to)`'s first and
    /// not after its second are needed no more.
    pub(crate) fn notices_told(&self, up_to: i64, (from, to): (i64, i64)) -> Result<(), Error> {
        self.connection
            .prepare_cached("DELETE FROM notice WHERE id > ?1 AND id <= ?2")?
            .execute((from, to.min(up_to)))?;
        self.connection
            .prepare_cached("UPDATE notice SET told = 1 WHERE id <= ?1 AND told = 0")?
            .execute([up_to])?;
        Ok(())
    }

    /// Keeps a signal that a hook raised with the state that it is about.
    pub(crate) fn add_extra_signal(
        &self,
        state_id: &[u8],
        hook: &str,
        kind: &str,
        body: &str,
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO extra_signal (state_id, hook, kind, body)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((state_id, hook, kind, body))?;
        Ok(())
    }
}
