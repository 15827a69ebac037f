//! What is said of refs.

use super::{Projection, RefFault, Wanted};
use crate::{
    git::{GitDir, Repository, StateId},
    store::Store,
    upkeep::{Area, Finding, Severity, counted, shortened},
};

/// What is said of `faults`, which are there, and of those that were there `before`.
pub(in crate::upkeep) fn findings(
    repository: &Repository,
    store: &Store,
    faults: &[RefFault],
    before: &[RefFault],
) -> Vec<Finding> {
    let git = GitDir::open(repository.common_dir()).ok();
    let lost = |state: StateId| git.as_ref().is_some_and(|git| !git.has_object(state));
    let gone = |fault: &&RefFault| faults.iter().all(|left| left.name != fault.name);
    let mended = before.iter().filter(gone).map(mended);
    let findings: Vec<_> = mended.chain(faults.iter().map(|f| left(f, lost))).collect();
    if !findings.is_empty() {
        return shortened(Area::Refs, findings);
    }
    match store.read(Projection::read) {
        Ok(refs) => {
            let count = counted(refs.at.len() as u64, "ref");
            let message = format!("{count} under refs/heddle/, each where the database has it");
            vec![Finding::new(Area::Refs, Severity::Good, message)]
        }
        Err(error) => vec![Finding::new(Area::Refs, Severity::Bad, error.to_string())],
    }
}

fn mended(fault: &RefFault) -> Finding {
    let what = fault.describe();
    let done = match fault.wanted {
        Wanted::At(_) => "moved it there",
        Wanted::Gone => "removed it",
        Wanted::Unknown => "took it in again",
    };
    Finding::new(Area::Refs, Severity::Repaired, format!("{what}; {done}"))
}

fn left(fault: &RefFault, lost: impl Fn(StateId) -> bool) -> Finding {
    let (what, name) = (fault.describe(), &fault.name);
    let (severity, remedy) = match fault.wanted {
        Wanted::At(state) if lost(state) => (
            Severity::Bad,
            "which is not in Git any more: fetch it from another clone or a backup, then run `heddle doctor --repair`".to_owned(),
        ),
        Wanted::At(_) => (Severity::Bad, "`heddle doctor --repair` moves it there".to_owned()),
        Wanted::Gone => (Severity::Bad, "`heddle doctor --repair` removes it".to_owned()),
        Wanted::Unknown => (
            Severity::Warning,
            format!("`heddle doctor --repair` takes it in if it leads to captures, and `git update-ref -d {name}` removes it"),
        ),
    };
    Finding::new(Area::Refs, severity, format!("{what}; {remedy}"))
}
