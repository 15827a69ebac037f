//! The check (`heddle doctor`): one finding for each thing that was looked at, in words, with what
//! to do about it.

mod database;
mod objects;
mod surroundings;
mod symbols;

use std::sync::Arc;

use super::{Area, Finding, Severity, refs};
use crate::{
    failure::Failure,
    git::Repository,
    mutation::{Road, blocking},
    store::Store,
    symbol::Index,
};

pub(super) use database::database;
pub(super) use objects::objects;
pub(super) use surroundings::surroundings;

/// What is to be checked, in a daemon that goes on meanwhile.
pub struct Checkup {
    /// The repository.
    pub repository: Repository,
    /// Its store.
    pub store: Store,
    /// What is known of its symbols.
    pub index: Arc<Index>,
    /// The road of its writes.
    pub road: Road,
    /// The version of the client that asks.
    pub client_version: Option<String>,
    /// Whether to mend what can be mended.
    pub repair: bool,
}

/// Checks everything. What cannot be looked at is a finding too.
///
/// A damaged database is only told of: the daemon has it open, and
/// [`repair_without_daemon`](super::repair_without_daemon) is what mends it.
///
/// # Errors
/// When the daemon fails while it looks.
pub async fn check(checkup: Checkup) -> Result<Vec<Finding>, Failure> {
    let repair = checkup.repair;
    let (store, repository) = (checkup.store.clone(), checkup.repository.clone());
    let mut findings = {
        let (store, index) = (store.clone(), Arc::clone(&checkup.index));
        let both = move || {
            let mut found = database(&store);
            found.push(symbols::symbols(&index));
            Ok(found)
        };
        blocking(both).await?
    };
    let checked = refs::check(&repository, &store, &checkup.road, repair).await;
    findings.extend(checked.unwrap_or_else(|failure| vec![unseen(Area::Refs, &failure)]));
    let rest = move || {
        let mut rest = objects(&repository, &store);
        rest.extend(surroundings(
            &repository,
            checkup.client_version.as_deref(),
            repair,
        ));
        Ok(rest)
    };
    findings.extend(blocking(rest).await?);
    Ok(findings)
}

/// Something that could not be looked at.
fn unseen(area: Area, why: &dyn std::fmt::Display) -> Finding {
    Finding::new(area, Severity::Bad, why.to_string())
}
