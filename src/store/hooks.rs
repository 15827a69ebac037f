//! The registered hooks.

use super::{Error, ReadTx, WriteTx};

/// A registered hook, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HookRecord {
    /// Its name, unique in the repository.
    pub name: String,
    /// What is run.
    pub command: String,
    /// The names of the events that it is told of; none means every one.
    pub events: Vec<String>,
    /// Milliseconds that it may take; 0 means the configured default.
    pub timeout_ms: u32,
    /// Whether a gate passes when the command cannot be run or times out.
    pub fail_open: bool,
}

impl ReadTx<'_> {
    /// Every hook, in the order of registration.
    pub(crate) fn hooks(&self) -> Result<Vec<HookRecord>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT name, command, events, timeout_ms, fail_open FROM hook ORDER BY id",
        )?;
        let hooks = statement.query_map([], |row| {
            let events: String = row.get(2)?;
            Ok(HookRecord {
                name: row.get(0)?,
                command: row.get(1)?,
                events: events.lines().map(str::to_owned).collect(),
                timeout_ms: row.get(3)?,
                fail_open: row.get(4)?,
            })
        })?;
        Ok(hooks.collect::<Result<_, _>>()?)
    }
}

impl WriteTx<'_> {
    /// Adds a hook, or replaces the one of its name in its place.
    pub(crate) fn put_hook(&self, hook: &HookRecord) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO hook (name, command, events, timeout_ms, fail_open)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (name) DO UPDATE SET command = excluded.command,
                     events = excluded.events, timeout_ms = excluded.timeout_ms,
                     fail_open = excluded.fail_open",
            )?
            .execute((
                &hook.name,
                &hook.command,
                hook.events.join("\n"),
                hook.timeout_ms,
                hook.fail_open,
            ))?;
        Ok(())
    }

    /// Removes a hook; false if there is none of this name.
    pub(crate) fn delete_hook(&self, name: &str) -> Result<bool, Error> {
        let removed = self
            .connection
            .prepare_cached("DELETE FROM hook WHERE name = ?1")?
            .execute([name])?;
        Ok(removed > 0)
    }

    /// How many hooks there are, and whether one has this name.
    pub(crate) fn count_hooks(&self, name: &str) -> Result<(usize, bool), Error> {
        let counts = self
            .connection
            .prepare_cached("SELECT count(*), coalesce(sum(name = ?1), 0) FROM hook")?
            .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(counts)
    }
}
