//! Dropping chains that are past their time.

use std::collections::HashSet;

use super::Keep;
use crate::{
    failure::{Failure, Reason},
    git::{Freed, KeptTips, RefMove, Repository, StateId},
    mutation::{Entry, Mutation, blocking, now_secs},
    store::{self, ChainRecord, ReadTx, Store, WriteTx},
};

const DAY_SECS: i64 = 24 * 60 * 60;

/// Chains that a quiet collection drops in one commit, which others may wait for.
const AT_ONCE: usize = 32;

/// What was dropped, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Chains that were dropped.
    pub dropped_chains: u32,
    /// States in them.
    pub dropped_states: u32,
    /// What Git can free now; not counted by a quiet collection.
    pub freed: Freed,
    /// Ended chains that stay.
    pub kept_chains: u32,
    refs: Vec<String>,
}

/// Drops the chains that are past their time, and that nothing needs.
pub struct CollectGarbage {
    store: Store,
    repository: Repository,
    keep: Keep,
    quiet: bool,
    now_secs: i64,
    planned: Vec<i64>,
    freed: Freed,
}

impl CollectGarbage {
    /// Drops all of them, and counts what is freed.
    pub fn new(store: Store, repository: Repository, keep: Keep) -> Self {
        Self {
            store,
            repository,
            keep,
            quiet: false,
            now_secs: now_secs(),
            planned: Vec::new(),
            freed: Freed::default(),
        }
    }

    /// Drops some of them, and counts nothing: it must not be in anybody's way.
    pub(super) fn quiet(store: Store, repository: Repository, keep: Keep) -> Self {
        Self {
            quiet: true,
            ..Self::new(store, repository, keep)
        }
    }

    /// What would be dropped; nothing is.
    ///
    /// # Errors
    /// When the store cannot be read, or Git's objects.
    pub async fn preview(mut self) -> Result<Collected, Failure> {
        let plan = self.plan().await?;
        let (going, kept) = (plan.going(), plan.staying.len());
        let fates = self.store.read_large(move |tx| tx.fates(&going)).await?;
        Ok(Collected {
            dropped_chains: small(plan.going.len()),
            dropped_states: fates.iter().map(|fate| fate.going).sum(),
            freed: self.freed,
            kept_chains: small(kept),
            refs: Vec::new(),
        })
    }

    /// Whether there is anything to drop.
    pub(super) async fn has_work(&self) -> Result<bool, Failure> {
        let (keep, now) = (self.keep, self.now_secs);
        let plan = self.store.read_large(move |tx| Plan::new(tx, keep, now));
        Ok(!plan.await?.going.is_empty())
    }

    async fn plan(&mut self) -> Result<Plan, Failure> {
        let (keep, now) = (self.keep, self.now_secs);
        let read = self.store.read_large(move |tx| Plan::new(tx, keep, now));
        let mut plan = read.await?;
        if self.quiet {
            let rest = plan.going.split_off(plan.going.len().min(AT_ONCE));
            plan.staying.extend(rest);
        } else {
            let (repository, tips) = (self.repository.clone(), plan.tips());
            self.freed = blocking(move || Ok(repository.freed_without(&tips)?)).await?;
        }
        self.planned = plan.going();
        Ok(plan)
    }
}

impl Mutation for CollectGarbage {
    type Output = Collected;

    async fn prepare(&mut self) -> Result<(), Failure> {
        self.plan().await.map(drop)
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Collected, Failure> {
        // Nothing is held meanwhile, so that captures go on: whether something has come to need a
        // chain since is seen here, where there is only one who writes.
        let plan = Plan::new(&tx.reads(), self.keep, self.now_secs)?;
        let ended = plan.going.len() + plan.staying.len();
        let planned: HashSet<i64> = self.planned.iter().copied().collect();
        let going: Vec<_> = plan
            .going
            .into_iter()
            .filter(|chain| planned.contains(&chain.id))
            .collect();
        if !self.quiet && going.len() < planned.len() {
            return Err(Failure::new(
                Reason::ThreadMoved,
                "a chain that was to be dropped has come to be needed meanwhile; nothing was dropped: try again",
            ));
        }
        let ids: Vec<i64> = going.iter().map(|chain| chain.id).collect();
        let fates = tx.reads().fates(&ids)?;
        for fate in &fates {
            tx.drop_chain(fate)?;
        }
        Ok(Collected {
            dropped_chains: small(going.len()),
            dropped_states: fates.iter().map(|fate| fate.going).sum(),
            freed: self.freed,
            kept_chains: small(ended - going.len()),
            refs: going.into_iter().map(|chain| chain.reference).collect(),
        })
    }

    /// The log is of what was done to threads, and has no verb for what was forgotten.
    fn describe(&self, _: &Collected) -> Option<Entry> {
        None
    }

    fn refs(&self, collected: &Collected) -> Vec<RefMove> {
        let refs = collected.refs.iter().cloned();
        refs.map(RefMove::delete).collect()
    }
}

/// Which ended chains go, oldest first, and which stay.
struct Plan {
    going: Vec<ChainRecord>,
    staying: Vec<ChainRecord>,
}

impl Plan {
    fn new(tx: &ReadTx<'_>, keep: Keep, now_secs: i64) -> Result<Self, store::Error> {
        let before = now_secs.saturating_sub(i64::from(keep.days) * DAY_SECS);
        let (mut going, mut staying) = (Vec::new(), Vec::new());
        for ended in tx.ended_chains()? {
            let old = ended.newness > keep.chains && ended.chain.ended_secs <= before;
            let side = if old && !ended.needed {
                &mut going
            } else {
                &mut staying
            };
            side.push(ended.chain);
        }
        Ok(Self { going, staying })
    }

    fn going(&self) -> Vec<i64> {
        self.going.iter().map(|chain| chain.id).collect()
    }

    fn tips(&self) -> KeptTips {
        let tips = |chains: &[ChainRecord]| {
            let tips = chains.iter();
            tips.filter_map(|chain| StateId::from_bytes(&chain.tip))
                .collect()
        };
        KeptTips {
            going: tips(&self.going),
            staying: tips(&self.staying),
        }
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
