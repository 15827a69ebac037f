//! Ended chains: which are past their time, what keeps them, and dropping them.

use std::collections::HashMap;

use rusqlite::Row;

use super::{Error, ReadTx, WriteTx};

/// What keeps a chain: each selects ids of states that are needed, and a chain that has one of them
/// is not dropped. Whatever else comes to need states adds its own here.
const NEEDS: &[&str] = &[
    // Threads: where they started, and where they are.
    "SELECT base_state FROM thread",
    "SELECT current_state FROM thread",
    // Worktrees: where they stand.
    "SELECT step.state_id FROM line JOIN step ON step.id = line.step",
    // Transactions: where they began.
    "SELECT base_state FROM txn WHERE state = 'active'",
    "SELECT rewind_state FROM txn WHERE state = 'active'",
    // Reviews: what was signed.
    "SELECT state_id FROM review_signature",
    "SELECT state_id FROM review_check",
    // Discussions: what they were opened against, and what settled them.
    "SELECT opened_against FROM discussion",
    "SELECT unhex(resolution ->> '$.state') FROM discussion",
    // Annotations: where what they say was so.
    "SELECT state_id FROM annotation",
    // Effects under way, which a start may have to undo, and buffered calls: what they name.
    "SELECT state.state_id FROM
         (SELECT unhex(value) AS id FROM intent, json_tree(intent.body)
          WHERE json_tree.type = 'text'
          UNION ALL
          SELECT unhex(value) FROM txn_call, json_tree(txn_call.command ->> '$.body')
          WHERE json_tree.type = 'text') AS named
         CROSS JOIN state ON state.state_id = named.id OR state.tree = named.id",
];

/// An ended chain, and what keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainRecord {
    /// Its id.
    pub id: i64,
    /// The thread that it was a chain of.
    pub thread: String,
    /// Its number among those of its thread.
    pub number: i64,
    /// The ref that keeps it.
    pub reference: String,
    /// Its last state.
    pub tip: Vec<u8>,
    /// When it ended, in seconds since the Unix epoch.
    pub ended_secs: i64,
}

/// An ended chain, and whether it may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedChain {
    /// The chain.
    pub chain: ChainRecord,
    /// Its place among the ended chains of its thread: 1 is the newest.
    pub newness: u32,
    /// Whether something needs one of its states.
    pub needed: bool,
}

/// What becomes of a chain that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// The chain.
    pub chain: i64,
    /// Its states that go.
    pub going: u32,
    adopted: Option<Adopted>,
}

/// The states of a dropped chain up to the one that another chain stands on. They stay, as that
/// chain's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Adopted {
    by: i64,
    up_to: i64,
}

/// A state's place in its chain.
struct Link {
    row: i64,
    state_id: Vec<u8>,
    parent: Option<Vec<u8>>,
}

fn ended(row: &Row<'_>) -> rusqlite::Result<EndedChain> {
    Ok(EndedChain {
        chain: ChainRecord {
            id: row.get(0)?,
            thread: row.get(1)?,
            number: row.get(2)?,
            reference: row.get(3)?,
            tip: row.get(4)?,
            ended_secs: row.get(5)?,
        },
        newness: row.get(6)?,
        needed: row.get(7)?,
    })
}

impl ReadTx<'_> {
    /// The chains that ended and are kept, in the order in which they ended.
    pub(crate) fn ended_chains(&self) -> Result<Vec<EndedChain>, Error> {
        let query = format!(
            "SELECT id, thread, number, ref, tip, ended_secs,
                    row_number() OVER (PARTITION BY thread ORDER BY number DESC),
                    id IN (SELECT chain FROM state WHERE state_id IN ({}))
             FROM chain WHERE ended_secs IS NOT NULL ORDER BY ended_secs, id",
            NEEDS.join(" UNION ALL ")
        );
        let mut statement = self.connection.prepare_cached(&query)?;
        let chains = statement.query_map([], ended)?;
        Ok(chains.collect::<Result<_, _>>()?)
    }

    /// What becomes of these chains when all of them are dropped.
    pub(crate) fn fates(&self, dropped: &[i64]) -> Result<Vec<Fate>, Error> {
        let mut stood_on = self.stood_on(dropped)?;
        let mut fates = Vec::with_capacity(dropped.len());
        // Newest first: a chain stands on older ones only.
        let mut dropped = dropped.to_vec();
        dropped.sort_unstable_by(|a, b| b.cmp(a));
        for chain in dropped {
            let links = self.links(chain)?;
            let foothold = |link: &Link| stood_on.get(&link.state_id).copied();
            let found = links.iter().rev().find_map(|link| {
                let up_to = link.row;
                foothold(link).map(|by| Adopted { by, up_to })
            });
            // What is adopted stands where the dropped chain stood.
            let first = links.first().and_then(|link| link.parent.clone());
            if let (Some(adopted), Some(parent)) = (found, first) {
                stood_on.entry(parent).or_insert(adopted.by);
            }
            let stays = |link: &&Link| found.is_none_or(|adopted| link.row > adopted.up_to);
            let going = links.iter().filter(stays).count();
            fates.push(Fate {
                chain,
                going: u32::try_from(going).unwrap_or(u32::MAX),
                adopted: found,
            });
        }
        Ok(fates)
    }

    /// The states that the other chains came after, and those chains.
    fn stood_on(&self, dropped: &[i64]) -> Result<HashMap<Vec<u8>, i64>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT parent, chain.id FROM chain JOIN state
                 ON state.id = (SELECT min(id) FROM state WHERE chain = chain.id)
             WHERE parent IS NOT NULL",
        )?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let found: HashMap<Vec<u8>, i64> = found.collect::<Result<_, _>>()?;
        let stays = |(_, chain): &(_, i64)| !dropped.contains(chain);
        Ok(found.into_iter().filter(stays).collect())
    }

    /// The states of a chain, oldest first.
    fn links(&self, chain: i64) -> Result<Vec<Link>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, state_id, parent FROM state WHERE chain = ?1 ORDER BY id",
        )?;
        let links = statement.query_map([chain], |row| {
            Ok(Link {
                row: row.get(0)?,
                state_id: row.get(1)?,
                parent: row.get(2)?,
            })
        })?;
        Ok(links.collect::<Result<_, _>>()?)
    }

    /// The number of the newest chain of a thread that ended; 0 where none did.
    pub(crate) fn newest_ended(&self, thread: &str) -> Result<i64, Error> {
        let query = "SELECT coalesce(max(number), 0) FROM chain
                     WHERE thread = ?1 AND ended_secs IS NOT NULL";
        let mut statement = self.connection.prepare_cached(query)?;
        Ok(statement.query_row([thread], |row| row.get(0))?)
    }

    /// Whether a thread has a chain of this number.
    pub(crate) fn has_chain(&self, thread: &str, number: i64) -> Result<bool, Error> {
        let query = "SELECT EXISTS (SELECT 1 FROM chain WHERE thread = ?1 AND number = ?2)";
        let mut statement = self.connection.prepare_cached(query)?;
        Ok(statement.query_row((thread, number), |row| row.get(0))?)
    }

    /// The number that the next chain of a thread will have.
    pub(crate) fn next_chain_number(&self, thread: &str) -> Result<i64, Error> {
        let number = self
            .connection
            .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM chain WHERE thread = ?1")?
            .query_row([thread], |row| row.get(0))?;
        Ok(number)
    }
}

impl WriteTx<'_> {
    /// Drops a chain. With a state go the steps that led to it, and its signals.
    pub(crate) fn drop_chain(&self, fate: &Fate) -> Result<(), Error> {
        if let Some(adopted) = fate.adopted {
            self.connection
                .prepare_cached("UPDATE state SET chain = ?1 WHERE chain = ?2 AND id <= ?3")?
                .execute((adopted.by, fate.chain, adopted.up_to))?;
        }
        for statement in [
            "DELETE FROM step WHERE state_id IN (SELECT state_id FROM state WHERE chain = ?1)",
            "DELETE FROM extra_signal
             WHERE state_id IN (SELECT state_id FROM state WHERE chain = ?1)",
            "DELETE FROM signal_pending
             WHERE state_id IN (SELECT state_id FROM state WHERE chain = ?1)",
            "DELETE FROM state_signal
             WHERE state_id IN (SELECT state_id FROM state WHERE chain = ?1)",
            "DELETE FROM state WHERE chain = ?1",
            "DELETE FROM chain WHERE id = ?1",
        ] {
            self.connection
                .prepare_cached(statement)?
                .execute([fate.chain])?;
        }
        Ok(())
    }

    /// Begins a chain; answers its id.
    pub(crate) fn begin_chain(&self, thread: &str) -> Result<i64, Error> {
        let number = self.reads().next_chain_number(thread)?;
        self.add_chain(thread, number)
    }

    /// Adds a chain with a number that its thread has none of; answers its id.
    pub(crate) fn add_chain(&self, thread: &str, number: i64) -> Result<i64, Error> {
        self.connection
            .prepare_cached("INSERT INTO chain (thread, number) VALUES (?1, ?2)")?
            .execute((thread, number))?;
        Ok(self.connection.last_insert_rowid())
    }

    /// The number of a chain.
    pub(crate) fn chain_number(&self, chain: i64) -> Result<i64, Error> {
        let number = self
            .connection
            .prepare_cached("SELECT number FROM chain WHERE id = ?1")?
            .query_row([chain], |row| row.get(0))?;
        Ok(number)
    }

    /// Ends a chain, and says which ref keeps its last state.
    pub(crate) fn end_chain(
        &self,
        chain: i64,
        reference: &str,
        tip: &[u8],
        ended_secs: i64,
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached("UPDATE chain SET ref = ?2, tip = ?3, ended_secs = ?4 WHERE id = ?1")?
            .execute((chain, reference, tip, ended_secs))?;
        Ok(())
    }

    /// Whether a kept ref of this name, or one that Git could not have beside it, is there.
    pub(crate) fn kept_ref_collides(&self, reference: &str) -> Result<bool, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM chain WHERE ref IS NOT NULL AND
                 (ref = ?1 OR substr(ref, 1, length(?1) + 1) = ?1 || '/'
                  OR substr(?1, 1, length(ref) + 1) = ref || '/'))",
        )?;
        Ok(statement.query_row([reference], |row| row.get(0))?)
    }
}
