//! Putting refs right: at each start, and when a check is asked to.

use super::{Projection, RefFault, findings};
use crate::{
    failure::Failure,
    git::{GitDir, RefMove, RefWriter, Repository},
    mutation::{Call, Entry, Mutation, Road, blocking},
    store::{Store, WriteTx},
    upkeep::{Finding, rebuild::is_later, take_in::TakeIn},
};

/// Moves refs to where the store has them at the commit of this change, in order with all others.
struct MendRefs {
    repository: Repository,
    faults: Vec<RefFault>,
    mendings: Vec<RefMove>,
}

impl MendRefs {
    async fn run(
        road: &Road,
        repository: &Repository,
        faults: Vec<RefFault>,
    ) -> Result<(), Failure> {
        if faults.iter().all(RefFault::is_unknown) {
            return Ok(());
        }
        let mend = Self {
            repository: repository.clone(),
            faults,
            mendings: Vec::new(),
        };
        road.run(Call::own("upkeep/MendRefs"), mend, |_| Vec::new())
            .await
            .map(drop)
    }
}

impl Mutation for MendRefs {
    type Output = Vec<RefMove>;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let (repository, faults) = (self.repository.clone(), self.faults.clone());
        self.mendings = blocking(move || mendings(&repository, &faults)).await?;
        Ok(())
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Vec<RefMove>, Failure> {
        let now = Projection::read(&tx.reads())?;
        // One that was moved meanwhile is on its way already.
        let same = |mending: &&RefMove| {
            let faults = self.faults.iter();
            let mut own = faults.filter(|fault| fault.name == mending.name);
            own.any(|fault| fault.wanted == now.wanted(&fault.name))
        };
        Ok(self.mendings.iter().filter(same).cloned().collect())
    }

    fn describe(&self, _: &Vec<RefMove>) -> Option<Entry> {
        None
    }

    fn refs(&self, moves: &Vec<RefMove>) -> Vec<RefMove> {
        moves.clone()
    }
}

/// The moves that put refs right; in the way of none of them is a damaged file. Blocks.
pub(in crate::upkeep) fn mendings(
    repository: &Repository,
    faults: &[RefFault],
) -> Result<Vec<RefMove>, Failure> {
    let git = GitDir::open(repository.common_dir())?;
    let mut mendings = Vec::new();
    for fault in faults {
        let Some(mending) = fault.mending(&git) else {
            continue;
        };
        if fault.found == Some(None)
            && let Err(error) = repository.clear_damaged_ref(&fault.name)
        {
            tracing::warn!("{} is in the way of itself: {error}", fault.name);
        }
        mendings.push(mending);
    }
    Ok(mendings)
}

/// Makes Git's refs what the store says, as part of every start, before anybody is served: moves
/// that an earlier daemon committed and did not make, and what others did to our refs meanwhile.
///
/// Where Git has captures that the store does not know, the store was lost, or is an older one:
/// they are taken in. Nothing is removed for being unknown.
///
/// # Errors
/// When Git's refs or the store cannot be read.
pub async fn reconcile(repository: &Repository, store: &Store, road: &Road) -> Result<(), Failure> {
    let (here, known) = (repository.clone(), store.clone());
    let (faults, held) = blocking(move || {
        let found = here.own_refs()?;
        let projection = known.read(Projection::read)?;
        let faults = projection.compare(&found);
        let (left, others): (Vec<_>, Vec<_>) = faults
            .into_iter()
            .partition(|fault| projection.lately.contains(&fault.name));
        if !left.is_empty() {
            tracing::info!(moves = left.len(), "moving refs that a crash left behind");
        }
        // A crash can leave a ref held that is where it should be.
        let lately = projection.lately.iter();
        let held = lately.filter(|name| here.is_ref_held(name));
        let held = held.filter_map(|name| projection.wanted(name).moved(name));
        let held: Vec<_> = held.collect();
        Ok(([left, told_of(&known, others)?].concat(), held))
    })
    .await?;
    if faults.is_empty() && held.is_empty() {
        return Ok(());
    }
    let git = GitDir::open(repository.common_dir())?;
    TakeIn::run(road, store, git, faults.clone()).await?;
    let here = repository.clone();
    blocking(move || {
        let moves = [held, mendings(&here, &faults)?].concat();
        RefWriter::new(here).make_now(moves);
        Ok(())
    })
    .await
}

/// Tells of faults; answers those of which something is to be done. What is unknown counts only
/// where the store cannot have seen it.
fn told_of(store: &Store, faults: Vec<RefFault>) -> Result<Vec<RefFault>, Failure> {
    if faults.is_empty() {
        return Ok(faults);
    }
    let lost = !store.read(|tx| tx.knows_threads())?;
    if lost {
        tracing::warn!(
            refs = faults.len(),
            "the database knows no thread, and there are refs of some: rebuilding threads and captures from refs/heddle/"
        );
        return Ok(faults);
    }
    let mut to_do = Vec::new();
    for fault in faults {
        let what = fault.describe();
        if !fault.is_unknown() {
            tracing::warn!("{what}; moving it there");
            to_do.push(fault);
        } else if store.read(|tx| is_later(tx, &fault.name))? {
            tracing::warn!("{what}; taking it in, as the database seems to be an older one");
            to_do.push(fault);
        } else {
            tracing::warn!("{what}; it is left alone, `heddle doctor` says more");
        }
    }
    Ok(to_do)
}

/// Compares while others go on: only what stays different, while the store stays the same, is a
/// fault. A ref follows its commit by moments.
async fn faults_now(
    repository: &Repository,
    store: &Store,
    road: &Road,
) -> Result<Vec<RefFault>, Failure> {
    let before = store.read_large(Projection::read).await?;
    road.refs_made().await;
    let (here, known) = (repository.clone(), store.clone());
    blocking(move || {
        let found = here.own_refs()?;
        let faults = known.read(Projection::read)?.compare(&found);
        let stayed = |fault: &RefFault| before.wanted(&fault.name) == fault.wanted;
        Ok(faults.into_iter().filter(stayed).collect())
    })
    .await
}

/// Checks the refs of a daemon that goes on meanwhile, and mends them.
pub(in crate::upkeep) async fn check(
    repository: &Repository,
    store: &Store,
    road: &Road,
    repair: bool,
) -> Result<Vec<Finding>, Failure> {
    let before = faults_now(repository, store, road).await?;
    let after = if repair && !before.is_empty() {
        let git = GitDir::open(repository.common_dir())?;
        TakeIn::run(road, store, git, before.clone()).await?;
        MendRefs::run(road, repository, before.clone()).await?;
        faults_now(repository, store, road).await?
    } else {
        before.clone()
    };
    let (repository, store) = (repository.clone(), store.clone());
    blocking(move || Ok(findings(&repository, &store, &after, &before))).await
}
