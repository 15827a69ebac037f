//! The objects of captures: is all of each capture there.

use super::unseen;
use crate::{
    git::{GitDir, Intact, Repository, StateId},
    store::Store,
    upkeep::{Area, Finding, Severity, counted, shortened},
};

/// Looks for every object of every capture. Blocks; takes as long as reading their folders does.
pub(in crate::upkeep) fn objects(repository: &Repository, store: &Store) -> Vec<Finding> {
    let git = match GitDir::open(repository.common_dir()) {
        Ok(git) => git,
        Err(error) => return vec![unseen(Area::Objects, &error)],
    };
    let states = match store.read(|tx| tx.state_trees()) {
        Ok(states) => states,
        Err(error) => return vec![unseen(Area::Objects, &error)],
    };
    let count = states.len() as u64;
    let mut intact = Intact::new(&git);
    let mut look = |(state, tree): (Vec<u8>, Vec<u8>)| {
        let fault = match (StateId::from_bytes(&state), GitDir::object_id(&tree)) {
            (Some(state), Ok(tree)) => (state.to_string(), intact.fault(state, tree)?),
            _ => (
                "an unreadable id".to_owned(),
                "its row is damaged".to_owned(),
            ),
        };
        Some(fault)
    };
    let faults = states.into_iter().filter_map(&mut look);
    let faults: Vec<_> = faults
        .map(|(state, fault)| {
            let message = format!(
                "the capture {state} cannot be restored in full: {fault}; it cannot be rebuilt from here: fetch it from another clone or a backup of the repository, `git fsck` tells what else is missing"
            );
            Finding::new(Area::Objects, Severity::Bad, message)
        })
        .collect();
    if faults.is_empty() {
        let count = counted(count, "capture");
        let message = format!("{count}, each with all of its files");
        return vec![Finding::new(Area::Objects, Severity::Good, message)];
    }
    shortened(Area::Objects, faults)
}
