//! What is around database and refs: folders, links, versions, remotes.

use super::unseen;
use crate::{
    git::{self, FolderFault, Publishing, Repository},
    upkeep::{Area, Finding, Severity, counted},
};

/// Looks at all of it, and mends folders and links. Blocks.
pub(in crate::upkeep) fn surroundings(
    repository: &Repository,
    client_version: Option<&str>,
    repair: bool,
) -> Vec<Finding> {
    // Opened anew: worktrees come and go.
    let repository = match Repository::open(repository.common_dir()) {
        Ok(repository) => repository,
        Err(error) => return vec![unseen(Area::Folders, &error)],
    };
    let mut findings = folders(&repository, repair);
    findings.extend(versions(client_version));
    findings.extend(remotes(&repository));
    findings
}

fn folders(repository: &Repository, repair: bool) -> Vec<Finding> {
    let look = || {
        let folders = repository.folders();
        (folders.faults(), folders.link_faults())
    };
    let before = look();
    let amiss = !before.0.is_empty() || !before.1.is_empty();
    let mut findings = Vec::new();
    let after = if repair && amiss {
        if let Err(error) = repository.folders().create() {
            findings.push(unseen(Area::Folders, &error));
        }
        look()
    } else {
        before.clone()
    };
    findings.extend(told(
        Area::Folders,
        &before.0,
        &after.0,
        "the heddle folders are there, and closed to other users",
    ));
    let linked = repository.linked_worktrees().len();
    let good = match linked {
        0 => "there is no linked worktree".to_owned(),
        _ => format!(
            "{} with links to the socket",
            counted(linked as u64, "linked worktree")
        ),
    };
    findings.extend(told(Area::Links, &before.1, &after.1, &good));
    findings
}

fn told(area: Area, before: &[FolderFault], after: &[FolderFault], good: &str) -> Vec<Finding> {
    if before.is_empty() && after.is_empty() {
        return vec![Finding::new(area, Severity::Good, good)];
    }
    let mended = before
        .iter()
        .filter(|fault| !after.contains(fault))
        .map(|fault| {
            let message = format!("{} {}; mended", fault.path.display(), fault.what);
            Finding::new(area, Severity::Repaired, message)
        });
    let left = after.iter().map(|fault| {
        let remedy = fault.remedy.unwrap_or("`heddle doctor --repair` mends it");
        let message = format!("{} {}; {remedy}", fault.path.display(), fault.what);
        Finding::new(area, Severity::Bad, message)
    });
    mended.chain(left).collect()
}

fn versions(client: Option<&str>) -> Vec<Finding> {
    let ours = env!("CARGO_PKG_VERSION");
    let heddle = match client {
        Some(client) if client != ours => Finding::new(
            Area::Versions,
            Severity::Warning,
            format!(
                "the client is heddle {client} and the daemon {ours}; `heddle agent restart` starts one of the client's version"
            ),
        ),
        _ => Finding::new(Area::Versions, Severity::Good, format!("heddle {ours}")),
    };
    let git = match git::version() {
        Ok(version) => Finding::new(Area::Versions, Severity::Good, version),
        Err(error) => Finding::new(
            Area::Versions,
            Severity::Bad,
            format!(
                "{error}; without Git no worktree can be added for a thread: install it, or put it on the daemon's PATH"
            ),
        ),
    };
    vec![heddle, git]
}

fn remotes(repository: &Repository) -> Vec<Finding> {
    match repository.publishing_remotes() {
        Err(error) => vec![unseen(Area::Remotes, &error)],
        Ok(remotes) if remotes.is_empty() => vec![Finding::new(
            Area::Remotes,
            Severity::Good,
            "no remote is sent captures by `git push`",
        )],
        Ok(remotes) => remotes.iter().map(publishes).collect(),
    }
}

fn publishes(publishing: &Publishing) -> Finding {
    let remote = &publishing.remote;
    let message = match &publishing.refspec {
        None => format!(
            "`git push {remote}` publishes every capture, with files that were never committed: remote.{remote}.mirror is set; unset it, and name what is to be pushed with `git config --add remote.{remote}.push '+refs/heads/*:refs/heads/*'` and the like for tags"
        ),
        Some(refspec) => format!(
            "`git push {remote}` publishes captures, with files that were never committed: the push refspec {refspec} covers refs/heddle/; leave them out with `git config --add remote.{remote}.push '^refs/heddle/*'`"
        ),
    };
    Finding::new(Area::Remotes, Severity::Warning, message)
}
