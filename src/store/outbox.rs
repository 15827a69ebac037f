//! What is committed here and still has to be done elsewhere: moves of refs, and effects that were
//! begun.

use super::{Error, ReadTx, WriteTx};

/// A move of a ref that Git may not have seen yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefMoveRecord {
    /// Its place in the order of moves.
    pub id: i64,
    /// The ref's full name.
    pub name: String,
    /// Where it goes; `None` deletes it.
    pub target: Option<Vec<u8>>,
}

/// An effect that was begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentRecord {
    /// Its id.
    pub id: i64,
    /// What sort of effect.
    pub kind: String,
    /// All that is needed to finish or undo it, in JSON.
    pub body: String,
}

impl ReadTx<'_> {
    /// The moves of refs that may not have been made, in their order.
    pub(crate) fn ref_moves(&self) -> Result<Vec<RefMoveRecord>, Error> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, name, target FROM ref_move ORDER BY id")?;
        let moves = statement.query_map([], |row| {
            Ok(RefMoveRecord {
                id: row.get(0)?,
                name: row.get(1)?,
                target: row.get(2)?,
            })
        })?;
        Ok(moves.collect::<Result<_, _>>()?)
    }

    /// The effects that were begun and not ended, oldest first.
    pub(crate) fn intents(&self) -> Result<Vec<IntentRecord>, Error> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, kind, body FROM intent ORDER BY id")?;
        let intents = statement.query_map([], |row| {
            Ok(IntentRecord {
                id: row.get(0)?,
                kind: row.get(1)?,
                body: row.get(2)?,
            })
        })?;
        Ok(intents.collect::<Result<_, _>>()?)
    }
}

impl WriteTx<'_> {
    /// Commits to a move of a ref; answers its place in the order of moves.
    pub(crate) fn add_ref_move(&self, name: &str, target: Option<&[u8]>) -> Result<i64, Error> {
        self.connection
            .prepare_cached("INSERT INTO ref_move (name, target) VALUES (?1, ?2)")?
            .execute((name, target))?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Forgets the moves up to one that was made, with all before it.
    pub(crate) fn forget_ref_moves(&self, up_to: i64) -> Result<(), Error> {
        self.connection
            .prepare_cached("DELETE FROM ref_move WHERE id <= ?1")?
            .execute([up_to])?;
        Ok(())
    }

    /// Commits to an effect that is about to begin; answers its id.
    pub(crate) fn begin_intent(
        &self,
        kind: &str,
        body: &str,
        begun_secs: i64,
    ) -> Result<i64, Error> {
        self.connection
            .prepare_cached("INSERT INTO intent (kind, body, begun_secs) VALUES (?1, ?2, ?3)")?
            .execute((kind, body, begun_secs))?;
        Ok(self.connection.last_insert_rowid())
    }

    /// An effect has ended, or was undone.
    pub(crate) fn end_intent(&self, id: i64) -> Result<(), Error> {
        self.connection
            .prepare_cached("DELETE FROM intent WHERE id = ?1")?
            .execute([id])?;
        Ok(())
    }
}
