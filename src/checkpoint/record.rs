//! Writing down what was seen of Git: the entries of the log, and how far Git was followed with
//! them, in one commit. So each move is told once, whatever cuts it short (G3).

use std::mem;

use uuid::Uuid;

use super::look::{Look, Told};
use crate::{
    failure::Failure,
    git::LineId,
    mutation::{Entry, Mutation, Verb},
    store::{NewOperation, ReflogRecord, WriteTx},
};

/// Checkpoints that are committed together: other writes wait for so many at most.
const TOGETHER: usize = 256;

/// Checkpoints to write down, in order.
#[derive(Default)]
pub(super) struct Record {
    told: Vec<Told>,
    ends: Vec<ReflogRecord>,
    paired: Vec<LineId>,
    begins: bool,
}

impl Record {
    /// Git is followed from here.
    pub(super) fn beginning(ends: Vec<ReflogRecord>) -> Self {
        Self {
            ends,
            begins: true,
            ..Self::default()
        }
    }

    /// All that a look has found, in commits of a bounded size.
    pub(super) fn all_of(look: &mut Look) -> Vec<Self> {
        let mut left = mem::take(&mut look.told);
        let mut records = Vec::new();
        while left.len() > TOGETHER {
            let later = left.split_off(TOGETHER);
            records.push(Self {
                told: mem::replace(&mut left, later),
                ..Self::default()
            });
        }
        // The ends are beyond what is told: they come last.
        let last = Self {
            told: left,
            ends: mem::take(&mut look.ends),
            paired: mem::take(&mut look.paired),
            begins: false,
        };
        if !(last.told.is_empty() && last.ends.is_empty() && last.paired.is_empty()) {
            records.push(last);
        }
        records
    }
}

impl Mutation for Record {
    /// The last operation.
    type Output = Option<(Uuid, u64)>;

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Self::Output, Failure> {
        let mut last = None;
        for told in &self.told {
            if let Some(checkpoint) = &told.checkpoint {
                let id = Uuid::now_v7();
                let seq = tx.append_operation(&NewOperation {
                    id,
                    timestamp_secs: checkpoint.secs,
                    verb: Verb::Checkpoint.name(),
                    thread: checkpoint.thread.as_deref(),
                    state_id: checkpoint.state.as_ref().map(|state| state.as_bytes()),
                    actor_name: &checkpoint.who.name,
                    actor_email: &checkpoint.who.email,
                    agent: None,
                    peer_uid: None,
                    peer_pid: None,
                    summary: &checkpoint.summary,
                    symbols: &[],
                    signal_kinds: &[],
                })?;
                last = Some((id, seq));
            }
            for reached in &told.reached {
                tx.put_reflog(reached)?;
            }
            if let Some(line) = &told.unpaired {
                tx.add_unpaired_move(line.as_bytes())?;
            }
        }
        for end in &self.ends {
            tx.put_reflog(end)?;
        }
        for line in &self.paired {
            tx.pair_move(line.as_bytes())?;
        }
        if self.begins {
            tx.follow_git()?;
        }
        Ok(last)
    }

    fn describe(&self, _: &Self::Output) -> Option<Entry> {
        None
    }

    fn logged(&self, last: &Self::Output) -> Option<(Uuid, u64)> {
        *last
    }
}
