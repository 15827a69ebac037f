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
    let mut note = |name: LogName| {
        if places.contains_key(&name) {
            return;
        }
        match logs.end(&name) {
            Ok(Some((mark, tip))) => drop(places.insert(name, Place::at(tip, Some(mark)))),
            Ok(None) => {}
            Err(error) => tracing::warn!("{name} will be told of from its beginning: {error}"),
        }
    };
    // Logs before branches: what moves in between is told. Logs twice: Git brings that of a branch
    // which it renames to a place between its names, and then to one that was looked at already.
    logs.heads()?.into_iter().for_each(&mut note);
    logs.logged_branches()?.into_iter().for_each(&mut note);
    note(LogName::between_names());
    logs.logged_branches()?.into_iter().for_each(&mut note);
    for (name, tip) in logs.tips()? {
        let place = places.entry(name).or_insert(Place::at(Some(tip), None));
        place.tip = place.tip.or(Some(tip));
    }
    if let Some(between) = places.remove(&LogName::between_names()) {
        let mut without_log = places.iter_mut().filter(|(_, place)| place.mark.is_none());
        match without_log.find(|(_, place)| place.tip == between.tip) {
            Some((_, place)) => *place = between,
            None => drop(places.insert(LogName::between_names(), between)),
        }
    }
    let ends = places.iter().map(|(name, place)| place.record(name));
    Ok(Some(Record::beginning(ends.collect())))
}
