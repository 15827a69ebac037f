//! How far HEADs and branches of plain Git were followed: what of their moves is in the operation
//! log already.

use rusqlite::{OptionalExtension, Row};

use super::{Error, ReadTx, WriteTx};

/// Logs that are gone and remembered still: what was told must be known where one comes back.
const GONE_KEPT: u32 = 1_000;
/// Moves of branches that are remembered until HEAD's log has them as well.
const UNPAIRED_KEPT: u32 = 1_000;

/// A HEAD or branch, as far as it was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReflogRecord {
    /// Its name, such as `refs/heads/main`.
    pub name: Vec<u8>,
    /// Where it led.
    pub tip: Option<Vec<u8>>,
    /// How far its reflog was read, in JSON; `None` where it has none.
    pub mark: Option<String>,
    /// Since when it is known to be gone, in seconds since the Unix epoch.
    pub gone_secs: Option<i64>,
}

const COLUMNS: &str = "name, tip, mark, gone_secs";

fn record(row: &Row<'_>) -> rusqlite::Result<ReflogRecord> {
    Ok(ReflogRecord {
        name: row.get(0)?,
        tip: row.get(1)?,
        mark: row.get(2)?,
        gone_secs: row.get(3)?,
    })
}

impl ReadTx<'_> {
    /// Whether Git is followed already; what it did before that is not told.
    pub(crate) fn follows_git(&self) -> Result<bool, Error> {
        let found = self
            .connection
            .prepare_cached("SELECT 1 FROM meta WHERE key = 'follows_git'")?
            .exists([])?;
        Ok(found)
    }

    /// The HEAD or branch of this name.
    pub(crate) fn reflog(&self, name: &[u8]) -> Result<Option<ReflogRecord>, Error> {
        let query = format!("SELECT {COLUMNS} FROM reflog WHERE name = ?1");
        let mut statement = self.connection.prepare_cached(&query)?;
        Ok(statement.query_row([name], record).optional()?)
    }

    /// Every HEAD and branch that is not known to be gone.
    pub(crate) fn reflogs(&self) -> Result<Vec<ReflogRecord>, Error> {
        let query = format!("SELECT {COLUMNS} FROM reflog WHERE gone_secs IS NULL");
        let mut statement = self.connection.prepare_cached(&query)?;
        let records = statement.query_map([], record)?;
        Ok(records.collect::<Result<_, _>>()?)
    }

    /// The moves of branches that no HEAD's log had by then.
    pub(crate) fn unpaired_moves(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT line FROM reflog_unpaired ORDER BY id")?;
        let lines = statement.query_map([], |row| row.get(0))?;
        Ok(lines.collect::<Result<_, _>>()?)
    }
}

impl WriteTx<'_> {
    /// From now on Git is followed.
    pub(crate) fn follow_git(&self) -> Result<(), Error> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO meta (key, value) VALUES ('follows_git', '1')")?
            .execute([])?;
        Ok(())
    }

    /// A HEAD or branch was followed so far.
    pub(crate) fn put_reflog(&self, new: &ReflogRecord) -> Result<(), Error> {
        let statement =
            format!("INSERT OR REPLACE INTO reflog ({COLUMNS}) VALUES (?1, ?2, ?3, ?4)");
        self.connection.prepare_cached(&statement)?.execute((
            &new.name,
            &new.tip,
            &new.mark,
            new.gone_secs,
        ))?;
        if new.gone_secs.is_some() {
            self.connection
                .prepare_cached(
                    "DELETE FROM reflog WHERE gone_secs IS NOT NULL AND gone_secs <
                         (SELECT gone_secs FROM reflog WHERE gone_secs IS NOT NULL
                          ORDER BY gone_secs DESC LIMIT 1 OFFSET ?1)",
                )?
                .execute([GONE_KEPT])?;
        }
        Ok(())
    }

    /// A branch moved, and no HEAD's log has it yet.
    pub(crate) fn add_unpaired_move(&self, line: &[u8]) -> Result<(), Error> {
        self.connection
            .prepare_cached("INSERT INTO reflog_unpaired (line) VALUES (?1)")?
            .execute([line])?;
        self.connection
            .prepare_cached(
                "DELETE FROM reflog_unpaired WHERE id <=
                     (SELECT max(id) FROM reflog_unpaired) - ?1",
            )?
            .execute([UNPAIRED_KEPT])?;
        Ok(())
    }

    /// A HEAD's log has this move of a branch as well.
    pub(crate) fn pair_move(&self, line: &[u8]) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "DELETE FROM reflog_unpaired WHERE id =
                     (SELECT min(id) FROM reflog_unpaired WHERE line = ?1)",
            )?
            .execute([line])?;
        Ok(())
    }
}
