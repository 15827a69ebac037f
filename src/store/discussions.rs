//! Discussions, their turns, and the annotations that were made of them.

use rusqlite::{OptionalExtension, Row};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Error, ReadTx, WriteTx};

/// A discussion, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscussionRecord {
    /// Its id.
    pub id: Uuid,
    /// The file that it was opened on.
    pub file: String,
    /// The symbol that it was opened on; empty for the file.
    pub symbol: String,
    /// The state that it was opened against.
    pub opened_against: Vec<u8>,
    /// When, in milliseconds since the Unix epoch.
    pub opened_ms: i64,
    /// The thread that it belongs to; empty for none.
    pub thread: String,
    /// For whom it is meant.
    pub visibility: String,
    /// How it was settled, if it was.
    pub resolution: Option<Resolution>,
}

/// How a discussion was settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum Resolution {
    /// By an annotation that was made of it.
    Annotation {
        /// Its id.
        id: Uuid,
    },
    /// By a change of the code.
    Edit {
        /// The state that has it, in lower-case hex.
        state: String,
    },
    /// Without consequence.
    Dismissed {
        /// Why.
        reason: String,
    },
}

/// A turn of a discussion, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnRecord {
    /// Name of its author.
    pub author_name: String,
    /// Email address of its author.
    pub author_email: String,
    /// What was said.
    pub body: String,
    /// When, in milliseconds since the Unix epoch.
    pub posted_ms: i64,
}

impl TurnRecord {
    /// About as many bytes as it has in an answer.
    pub fn bytes(&self) -> usize {
        self.author_name.len() + self.author_email.len() + self.body.len() + 16
    }
}

/// An annotation, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationRecord {
    /// Its id.
    pub id: Uuid,
    /// The discussion that it was made of.
    pub discussion: Uuid,
    /// The file that it is about.
    pub file: String,
    /// The symbol that it is about; empty for the file.
    pub symbol: String,
    /// The state at which those were so.
    pub state_id: Vec<u8>,
    /// `constraint`, `invariant` or `rationale`.
    pub kind: String,
    /// What it says.
    pub content: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// When it was made, in milliseconds since the Unix epoch.
    pub made_ms: i64,
}

const DISCUSSION: &str =
    "id, file, symbol, opened_against, opened_ms, thread, visibility, resolution";

fn discussion(row: &Row<'_>) -> rusqlite::Result<DiscussionRecord> {
    let resolution: Option<String> = row.get(7)?;
    let resolution = resolution
        .map(|text| serde_json::from_str(&text))
        .transpose();
    Ok(DiscussionRecord {
        id: Uuid::from_bytes(row.get(0)?),
        file: row.get(1)?,
        symbol: row.get(2)?,
        opened_against: row.get(3)?,
        opened_ms: row.get(4)?,
        thread: row.get(5)?,
        visibility: row.get(6)?,
        resolution: resolution.map_err(|e| {
            rusqlite::Error::FromSqlConversionFailure(7, rusqlite::types::Type::Text, Box::new(e))
        })?,
    })
}

impl ReadTx<'_> {
    /// The discussion of this id.
    pub(crate) fn discussion(&self, id: Uuid) -> Result<Option<DiscussionRecord>, Error> {
        let query = format!("SELECT {DISCUSSION} FROM discussion WHERE id = ?1");
        let mut statement = self.connection.prepare_cached(&query)?;
        let found = statement.query_row([id.as_bytes()], discussion);
        Ok(found.optional()?)
    }

    /// Every discussion, in the order of their ids, which is that of their opening.
    pub(crate) fn discussions(&self) -> Result<Vec<DiscussionRecord>, Error> {
        let query = format!("SELECT {DISCUSSION} FROM discussion ORDER BY id");
        let mut statement = self.connection.prepare_cached(&query)?;
        let found = statement.query_map([], discussion)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The turns of a discussion, oldest first.
    pub(crate) fn turns(&self, of: Uuid) -> Result<Vec<TurnRecord>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT author_name, author_email, body, posted_ms
             FROM discussion_turn WHERE discussion = ?1 ORDER BY number",
        )?;
        let turns = statement.query_map([of.as_bytes()], |row| {
            Ok(TurnRecord {
                author_name: row.get(0)?,
                author_email: row.get(1)?,
                body: row.get(2)?,
                posted_ms: row.get(3)?,
            })
        })?;
        Ok(turns.collect::<Result<_, _>>()?)
    }
}

impl ReadTx<'_> {
    /// The newest annotations, oldest first, `limit` at most.
    pub(crate) fn annotations(&self, limit: u32) -> Result<Vec<AnnotationRecord>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, discussion, file, symbol, state_id, kind, content, tags, made_ms
             FROM annotation ORDER BY id DESC LIMIT ?1",
        )?;
        let found = statement.query_map([limit], |row| {
            let tags: String = row.get(7)?;
            Ok(AnnotationRecord {
                id: Uuid::from_bytes(row.get(0)?),
                discussion: Uuid::from_bytes(row.get(1)?),
                file: row.get(2)?,
                symbol: row.get(3)?,
                state_id: row.get(4)?,
                kind: row.get(5)?,
                content: row.get(6)?,
                tags: serde_json::from_str(&tags).unwrap_or_default(),
                made_ms: row.get(8)?,
            })
        })?;
        let mut found = found.collect::<Result<Vec<_>, _>>()?;
        found.reverse();
        Ok(found)
    }
}

impl WriteTx<'_> {
    /// Adds a discussion, or changes how it was settled.
    pub(crate) fn put_discussion(&self, discussion: &DiscussionRecord) -> Result<(), Error> {
        // Plain data of ours: it can always be written.
        let resolution = discussion.resolution.as_ref();
        let resolution = resolution.map(|it| serde_json::to_string(it).unwrap_or_default());
        self.connection
            .prepare_cached(
                "INSERT INTO discussion
                     (id, file, symbol, opened_against, opened_ms, thread, visibility, resolution)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (id) DO UPDATE SET resolution = excluded.resolution",
            )?
            .execute((
                discussion.id.as_bytes(),
                &discussion.file,
                &discussion.symbol,
                &discussion.opened_against,
                discussion.opened_ms,
                &discussion.thread,
                &discussion.visibility,
                resolution,
            ))?;
        Ok(())
    }

    /// Adds a turn behind those that a discussion has.
    pub(crate) fn add_turn(&self, of: Uuid, turn: &TurnRecord) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO discussion_turn
                     (discussion, number, author_name, author_email, body, posted_ms)
                 VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM discussion_turn
                              WHERE discussion = ?1), ?2, ?3, ?4, ?5)",
            )?
            .execute((
                of.as_bytes(),
                &turn.author_name,
                &turn.author_email,
                &turn.body,
                turn.posted_ms,
            ))?;
        Ok(())
    }

    /// Adds an annotation.
    pub(crate) fn add_annotation(&self, annotation: &AnnotationRecord) -> Result<(), Error> {
        let tags = serde_json::to_string(&annotation.tags).unwrap_or_default();
        self.connection
            .prepare_cached(
                "INSERT INTO annotation
                     (id, discussion, file, symbol, state_id, kind, content, tags, made_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute((
                annotation.id.as_bytes(),
                annotation.discussion.as_bytes(),
                &annotation.file,
                &annotation.symbol,
                &annotation.state_id,
                &annotation.kind,
                &annotation.content,
                tags,
                annotation.made_ms,
            ))?;
        Ok(())
    }
}
