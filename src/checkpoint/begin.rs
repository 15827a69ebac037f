//! Where Git is followed from: what it did before the first start of a daemon is not told.

use std::collections::BTreeMap;

use super::{place::Place, record::Record};
use crate::{
    failure::Failure,
    git::{LogName, RefLogs},
    store::Store,
};

/// Notes where every HEAD and branch is now, if that was never done in this repository. It blocks.
///
/// # Errors
/// When Git's folder, or the store, cannot be read.
pub(super) fn beginning(store: &Store, logs: &RefLogs) -> Result<Option<Record>, Failure> {
    if store.read(|tx| tx.follows_git())? {
        return Ok(None);
    }
    let mut places: BTreeMap<LogName, Place> = BTreeMap::new();
    // Logs before branches: what moves in between is told.
    let logged = logs.logged_branches()?;
    for name in logs.heads()?.into_iter().chain(logged) {
        match logs.end(&name) {
            Ok(Some((mark, tip))) => drop(places.insert(name, Place::at(tip, Some(mark)))),
            Ok(None) => {}
            Err(error) => tracing::warn!("{name} will be told of from its beginning: {error}"),
        }
    }
    for (name, tip) in logs.tips()? {
        let place = places.entry(name).or_insert(Place::at(Some(tip), None));
        place.tip = place.tip.or(Some(tip));
    }
    let ends = places.iter().map(|(name, place)| place.record(name));
    Ok(Some(Record::beginning(ends.collect())))
}
