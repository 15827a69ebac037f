//! The refs under `refs/heddle/` against what the store says: the store is the authority, and refs
//! are projections of it. A ref that the store does not know is never removed: it may be all that
//! is left of what an older database knew.

use std::collections::BTreeMap;

use super::{
    Area, Finding, Severity, counted,
    rebuild::{self, TakeIn},
    shortened,
};
use crate::{
    failure::Failure,
    git::{GitDir, Identity, OwnRefs, RefMove, Repository, StateId},
    mutation::{Call, Caller, Entry, Mutation, Road, blocking},
    store::{self, ReadTx, Store, WriteTx},
    thread::ThreadName,
};

/// Where each of our refs is to lead.
pub(super) type ExpectedRefs = BTreeMap<String, StateId>;

/// A ref that is not as the store says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefFault {
    /// Its full name.
    pub(super) name: String,
    /// Where the store has it; `None` where it knows no such ref.
    pub(super) expected: Option<StateId>,
    /// Where Git has it: nowhere, at no object, or at one.
    pub(super) found: Option<Option<StateId>>,
}

impl RefFault {
    /// What is wrong, for people.
    fn describe(&self) -> String {
        let name = &self.name;
        let short = |state: &StateId| state.short();
        match (&self.expected, &self.found) {
            (Some(expected), None) => {
                format!("{name} is missing, and should be at {}", short(expected))
            }
            (Some(expected), Some(None)) => {
                format!("{name} is damaged, and should be at {}", short(expected))
            }
            (Some(expected), Some(Some(found))) => {
                format!("{name} is at {found}, and should be at {}", short(expected))
            }
            (None, Some(Some(found))) => {
                format!("{name} at {} is not known to the database", short(found))
            }
            (None, _) => format!("{name} is not known to the database, and damaged"),
        }
    }
}

/// Where the store has our refs.
pub(super) fn expected(tx: &ReadTx<'_>) -> Result<ExpectedRefs, store::Error> {
    let threads = tx.thread_tips()?.into_iter();
    let threads = threads.map(|(name, tip)| (ThreadName::known(name).reference(), tip));
    let tips = threads.chain(tx.kept_tips()?);
    Ok(tips
        .filter_map(|(name, tip)| Some((name, StateId::from_bytes(&tip)?)))
        .collect())
}

/// What differs, by name.
pub(super) fn compare(expected: &ExpectedRefs, found: &OwnRefs) -> Vec<RefFault> {
    let mut faults: Vec<_> = expected
        .iter()
        .filter(|(name, state)| found.get(*name) != Some(&Some(**state)))
        .map(|(name, state)| RefFault {
            name: name.clone(),
            expected: Some(*state),
            found: found.get(name).copied(),
        })
        .collect();
    let unknown = found
        .iter()
        .filter(|(name, _)| !expected.contains_key(*name));
    faults.extend(unknown.map(|(name, found)| RefFault {
        name: name.clone(),
        expected: None,
        found: Some(*found),
    }));
    faults
}

/// Moves refs to where the store has them at the commit of this change, in order with all others.
pub(super) struct MendRefs {
    git: GitDir,
    faults: Vec<RefFault>,
}

impl MendRefs {
    pub(super) fn new(git: GitDir, faults: Vec<RefFault>) -> Self {
        Self { git, faults }
    }
}

impl Mutation for MendRefs {
    type Output = Vec<RefMove>;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let (git, mut faults) = (self.git.clone(), std::mem::take(&mut self.faults));
        // A ref to nothing is worse than none: Git would refuse to collect its garbage.
        let leads =
            move |fault: &RefFault| fault.expected.is_some_and(|state| git.has_object(state));
        self.faults = blocking(move || {
            faults.retain(leads);
            Ok(faults)
        })
        .await?;
        Ok(())
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Vec<RefMove>, Failure> {
        let now = expected(&tx.reads())?;
        let faults = self.faults.iter();
        // One that was moved meanwhile is on its way already.
        let same = faults.filter(|fault| now.get(&fault.name) == fault.expected.as_ref());
        Ok(same
            .filter_map(|fault| Some(RefMove::to(fault.name.clone(), fault.expected?)))
            .collect())
    }

    fn describe(&self, _: &Vec<RefMove>) -> Option<Entry> {
        None
    }

    fn refs(&self, moves: &Vec<RefMove>) -> Vec<RefMove> {
        moves.clone()
    }
}

/// Makes Git's refs what the store says, as part of every start: after the moves that were left in
/// the outbox, and before anybody is served. Where the store knows nothing at all and there are
/// refs, it was lost, and is rebuilt from them.
///
/// # Errors
/// When Git's refs or the store cannot be read.
pub async fn reconcile(repository: &Repository, store: &Store, road: &Road) -> Result<(), Failure> {
    let (here, known) = (repository.clone(), store.clone());
    let (faults, lost) = blocking(move || {
        let found = here.own_refs()?;
        let faults = known.read(|tx| Ok(compare(&expected(tx)?, &found)))?;
        let lost = !faults.is_empty() && !known.read(|tx| tx.knows_threads())?;
        Ok((faults, lost))
    })
    .await?;
    if faults.is_empty() {
        return Ok(());
    }
    let (known, unknown): (Vec<_>, Vec<_>) = faults
        .into_iter()
        .partition(|fault| fault.expected.is_some());
    if lost {
        tracing::warn!(
            refs = unknown.len(),
            "the database knows no thread, and there are refs of some: rebuilding threads and captures from refs/heddle/"
        );
    }
    let git = GitDir::open(repository.common_dir())?;
    // What comes after all that the store knows of a thread was written by a database that is gone.
    let mut take_in = Vec::new();
    for fault in unknown {
        if lost || store.read(|tx| rebuild::is_later(tx, &fault.name))? {
            take_in.push(fault);
        } else {
            tracing::warn!("{}; `heddle doctor` says more", fault.describe());
        }
    }
    if !take_in.is_empty() {
        TakeIn::run(road, store, git.clone(), take_in).await?;
    }
    for fault in &known {
        tracing::warn!("{}; moving it back", fault.describe());
    }
    mend(road, git, known).await
}

/// Moves refs to where the store has them.
async fn mend(road: &Road, git: GitDir, faults: Vec<RefFault>) -> Result<(), Failure> {
    if faults.is_empty() {
        return Ok(());
    }
    road.run(
        our_call("upkeep/MendRefs"),
        MendRefs::new(git, faults),
        |_| Vec::new(),
    )
    .await
    .map(drop)
}

/// A change of the daemon's own, which leaves no entry in the log.
pub(super) fn our_call(method: &'static str) -> Call {
    let caller = Caller {
        actor: Identity {
            name: "heddle".to_owned(),
            email: String::new(),
        },
        agent: None,
        peer_uid: None,
        peer_pid: None,
    };
    Call {
        method,
        key: None,
        transaction: None,
        request: Vec::new(),
        caller,
    }
}

/// Compares while others go on: only what stays different, while the store stays the same, is a
/// fault. A ref follows its commit by moments.
async fn faults_now(
    repository: &Repository,
    store: &Store,
    road: &Road,
) -> Result<Vec<RefFault>, Failure> {
    let before = store.read_large(expected).await?;
    road.refs_made().await;
    let (here, known) = (repository.clone(), store.clone());
    blocking(move || {
        let found = here.own_refs()?;
        let after = known.read(expected)?;
        let faults = compare(&after, &found).into_iter();
        let stayed = |fault: &RefFault| before.get(&fault.name) == fault.expected.as_ref();
        Ok(faults.filter(stayed).collect())
    })
    .await
}

/// Checks the refs of a daemon that goes on meanwhile, and mends them.
pub(super) async fn check(
    repository: &Repository,
    store: &Store,
    road: &Road,
    repair: bool,
) -> Result<Vec<Finding>, Failure> {
    let faults = faults_now(repository, store, road).await?;
    if !repair || faults.is_empty() {
        return Ok(findings(repository, store, &faults, &[]));
    }
    let git = GitDir::open(repository.common_dir())?;
    let (known, unknown): (Vec<_>, Vec<_>) = faults
        .iter()
        .cloned()
        .partition(|fault| fault.expected.is_some());
    if !unknown.is_empty() {
        TakeIn::run(road, store, git.clone(), unknown).await?;
    }
    mend(road, git, known).await?;
    let left = faults_now(repository, store, road).await?;
    Ok(findings(repository, store, &left, &faults))
}

/// What is said of `faults`, which are there, and of those that were there `before`.
pub(super) fn findings(
    repository: &Repository,
    store: &Store,
    faults: &[RefFault],
    before: &[RefFault],
) -> Vec<Finding> {
    let git = GitDir::open(repository.common_dir()).ok();
    let lost = |state: StateId| git.as_ref().is_some_and(|git| !git.has_object(state));
    let mended = before
        .iter()
        .filter(|fault| faults.iter().all(|left| left.name != fault.name))
        .map(|fault| {
            let message = match fault.expected {
                Some(_) => format!("{}; moved it back", fault.describe()),
                None => format!("{}; took it in again", fault.describe()),
            };
            Finding::new(Area::Refs, Severity::Repaired, message)
        });
    let left = faults.iter().map(|fault| match fault.expected {
        Some(state) if lost(state) => {
            let what = fault.describe();
            let message = format!(
                "{what}, which is not in Git any more; bring the object back from a backup or another clone, then run `heddle doctor --repair`"
            );
            Finding::new(Area::Refs, Severity::Bad, message)
        }
        Some(_) => {
            let message = format!("{}; `heddle doctor --repair` moves it there", fault.describe());
            Finding::new(Area::Refs, Severity::Bad, message)
        }
        None => {
            let message = format!(
                "{}; `heddle doctor --repair` takes it in if it leads to captures, and `git update-ref -d {}` removes it",
                fault.describe(),
                fault.name
            );
            Finding::new(Area::Refs, Severity::Warning, message)
        }
    });
    let findings: Vec<_> = mended.chain(left).collect();
    if !findings.is_empty() {
        return shortened(Area::Refs, findings);
    }
    match store.read(expected) {
        Ok(refs) => {
            let count = counted(refs.len() as u64, "ref");
            let message = format!("{count} under refs/heddle/, each where the database has it");
            vec![Finding::new(Area::Refs, Severity::Good, message)]
        }
        Err(error) => vec![Finding::new(Area::Refs, Severity::Bad, error.to_string())],
    }
}
