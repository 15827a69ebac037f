//! What was signed about states.

use rusqlite::{OptionalExtension, Row, params};
use uuid::Uuid;

use super::{Error, ReadTx, WriteTx};

/// A review or a verdict, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureRecord {
    /// Its id.
    pub signature_id: Uuid,
    /// The state that it is about, a raw object id.
    pub state_id: Vec<u8>,
    /// Who signed.
    pub actor_name: String,
    /// Who signed.
    pub actor_email: String,
    /// How it was reviewed, in a review.
    pub kind: Option<String>,
    /// What was decided, in a verdict.
    pub verdict: Option<String>,
    /// Files and symbols; `None` for the whole change.
    pub scope: Option<Vec<(String, String)>>,
    /// The justification or the reason; empty for none.
    pub said: String,
    /// When it was signed, in seconds since the Unix epoch.
    pub signed_secs: i64,
    /// What it was verified with.
    pub algorithm: String,
    /// The key that it was verified with.
    pub public_key: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// A tick, or one taken back, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRecord {
    /// Its place among all of them; it stays when the reviewer thinks again.
    pub id: i64,
    /// The state that it is about, a raw object id.
    pub state_id: Vec<u8>,
    /// Who signed.
    pub actor_name: String,
    /// Who signed.
    pub actor_email: String,
    /// What sort of thing was checked.
    pub kind: String,
    /// Which one.
    pub reference: String,
    /// False where the tick was taken back.
    pub acked: bool,
    /// When it was signed, in seconds since the Unix epoch.
    pub acked_secs: i64,
    /// What it was verified with.
    pub algorithm: String,
    /// The key that it was verified with.
    pub public_key: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

const SIGNATURE: &str = "signature_id, state_id, actor_name, actor_email, kind, verdict, scope, \
     said, signed_secs, algorithm, public_key, signature";

const CHECK: &str = "state_id, actor_name, actor_email, kind, ref, acked, acked_secs, algorithm, \
     public_key, signature";

fn signature(row: &Row<'_>) -> rusqlite::Result<SignatureRecord> {
    let scope: Option<String> = row.get(6)?;
    let scope = scope.map(|scope| {
        let corrupt = |error: serde_json::Error| {
            rusqlite::Error::FromSqlConversionFailure(6, rusqlite::types::Type::Text, error.into())
        };
        serde_json::from_str(&scope).map_err(corrupt)
    });
    Ok(SignatureRecord {
        signature_id: Uuid::from_bytes(row.get(0)?),
        state_id: row.get(1)?,
        actor_name: row.get(2)?,
        actor_email: row.get(3)?,
        kind: row.get(4)?,
        verdict: row.get(5)?,
        scope: scope.transpose()?,
        said: row.get(7)?,
        signed_secs: row.get(8)?,
        algorithm: row.get(9)?,
        public_key: row.get(10)?,
        signature: row.get(11)?,
    })
}

fn check(row: &Row<'_>) -> rusqlite::Result<CheckRecord> {
    Ok(CheckRecord {
        id: row.get(0)?,
        state_id: row.get(1)?,
        actor_name: row.get(2)?,
        actor_email: row.get(3)?,
        kind: row.get(4)?,
        reference: row.get(5)?,
        acked: row.get(6)?,
        acked_secs: row.get(7)?,
        algorithm: row.get(8)?,
        public_key: row.get(9)?,
        signature: row.get(10)?,
    })
}

impl ReadTx<'_> {
    /// Goes over the signatures of a state in the order in which they were recorded, after the place
    /// `after`, for as long as `take` says so.
    pub(crate) fn signatures(
        &self,
        state: &[u8],
        after: i64,
        mut take: impl FnMut(SignatureRecord) -> bool,
    ) -> Result<(), Error> {
        let query = format!(
            "SELECT {SIGNATURE} FROM review_signature WHERE state_id = ?1 AND id > ?2 ORDER BY id"
        );
        let mut statement = self.connection.prepare_cached(&query)?;
        for found in statement.query_map((state, after), signature)? {
            if !take(found?) {
                break;
            }
        }
        Ok(())
    }

    /// The place of a signature among those of its state.
    pub(crate) fn signature_place(&self, state: &[u8], id: Uuid) -> Result<Option<i64>, Error> {
        let query = "SELECT id FROM review_signature WHERE signature_id = ?1 AND state_id = ?2";
        let mut statement = self.connection.prepare_cached(query)?;
        let place = statement.query_row((id.as_bytes(), state), |row| row.get(0));
        Ok(place.optional()?)
    }

    /// Goes over the checks of a state, by one reviewer where a name is given, after the place
    /// `after`, for as long as `take` says so.
    pub(crate) fn checks(
        &self,
        state: &[u8],
        actor_name: Option<&str>,
        after: i64,
        mut take: impl FnMut(CheckRecord) -> bool,
    ) -> Result<(), Error> {
        let query = format!(
            "SELECT id, {CHECK} FROM review_check
             WHERE state_id = ?1 AND id > ?2 AND (?3 IS NULL OR actor_name = ?3) ORDER BY id"
        );
        let mut statement = self.connection.prepare_cached(&query)?;
        for found in statement.query_map((state, after, actor_name), check)? {
            if !take(found?) {
                break;
            }
        }
        Ok(())
    }
}

impl WriteTx<'_> {
    /// Adds a signature.
    pub(crate) fn add_signature(&self, new: &SignatureRecord) -> Result<(), Error> {
        let statement = format!(
            "INSERT INTO review_signature ({SIGNATURE})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
        );
        // Pairs of texts can always be written.
        let scope = new.scope.as_ref();
        let scope = scope.map(|scope| serde_json::to_string(scope).unwrap_or_default());
        self.connection
            .prepare_cached(&statement)?
            .execute(params![
                new.signature_id.as_bytes(),
                new.state_id,
                new.actor_name,
                new.actor_email,
                new.kind,
                new.verdict,
                scope,
                new.said,
                new.signed_secs,
                new.algorithm,
                new.public_key,
                new.signature,
            ])?;
        Ok(())
    }

    /// Adds a check, or puts it in the place of what the reviewer said of the same thing before.
    pub(crate) fn put_check(&self, new: &CheckRecord) -> Result<(), Error> {
        let statement = format!(
            "INSERT INTO review_check ({CHECK}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (state_id, actor_name, actor_email, kind, ref) DO UPDATE SET
                 acked = excluded.acked, acked_secs = excluded.acked_secs,
                 algorithm = excluded.algorithm, public_key = excluded.public_key,
                 signature = excluded.signature"
        );
        self.connection
            .prepare_cached(&statement)?
            .execute(params![
                new.state_id,
                new.actor_name,
                new.actor_email,
                new.kind,
                new.reference,
                new.acked,
                new.acked_secs,
                new.algorithm,
                new.public_key,
                new.signature,
            ])?;
        Ok(())
    }
}
