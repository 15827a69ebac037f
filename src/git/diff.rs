//! How two trees differ, path by path, and a tree that is one of them but for some paths.

use std::collections::BTreeMap;

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    index::entry::Mode,
    objs::{Kind, TreeRefIter, tree::EntryMode},
};

use super::{Error, ObjectBatch, ObjectError, RepoPath};
use crate::failure::Failure;

/// What a tree has at a path: never a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its type and mode.
    pub mode: Mode,
    /// Its blob, or a submodule's commit.
    pub id: ObjectId,
}

/// A path in which two trees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path from the root.
    pub path: BString,
    /// What the first has there.
    pub before: Option<Entry>,
    /// What the second has there.
    pub after: Option<Entry>,
}

/// The paths in which two trees differ, in order; limited to `paths`, unless there are none.
/// Folders that are equal are not read.
///
/// # Errors
/// When an object cannot be read.
pub fn diff_trees(
    git: &gix::Repository,
    from: ObjectId,
    to: ObjectId,
    paths: &[RepoPath],
) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    diff_folder(
        git,
        &BString::default(),
        Some(from),
        Some(to),
        paths,
        &mut changes,
    )?;
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

type Folder = BTreeMap<BString, (EntryMode, ObjectId)>;

fn diff_folder(
    git: &gix::Repository,
    prefix: &BString,
    from: Option<ObjectId>,
    to: Option<ObjectId>,
    paths: &[RepoPath],
    changes: &mut Vec<Change>,
) -> Result<(), Error> {
    if from == to {
        return Ok(());
    }
    let (from, to) = (read(git, from)?, read(git, to)?);
    let mut names: Vec<&BString> = from.keys().chain(to.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (before, after) = (from.get(name), to.get(name));
        if before == after {
            continue;
        }
        let mut path = prefix.clone();
        path.extend_from_slice(name);
        if !is_wanted(path.as_bstr(), paths) {
            continue;
        }
        let change = Change {
            before: before.and_then(file),
            after: after.and_then(file),
            path: path.clone(),
        };
        if change.before != change.after && is_covered(path.as_bstr(), paths) {
            changes.push(change);
        }
        path.push(b'/');
        diff_folder(
            git,
            &path,
            before.and_then(folder),
            after.and_then(folder),
            paths,
            changes,
        )?;
    }
    Ok(())
}

fn is_covered(path: &BStr, paths: &[RepoPath]) -> bool {
    paths.is_empty() || paths.iter().any(|wanted| wanted.covers(path))
}

/// Whether the path, or something below it, is one of those.
fn is_wanted(path: &BStr, paths: &[RepoPath]) -> bool {
    let leads_to = |wanted: &RepoPath| {
        let wanted = wanted.as_bstr();
        wanted.starts_with(path) && wanted.get(path.len()) == Some(&b'/')
    };
    is_covered(path, paths) || paths.iter().any(leads_to)
}

fn file((mode, id): &(EntryMode, ObjectId)) -> Option<Entry> {
    let mode = match mode.kind() {
        gix::objs::tree::EntryKind::Tree => return None,
        gix::objs::tree::EntryKind::Blob => Mode::FILE,
        gix::objs::tree::EntryKind::BlobExecutable => Mode::FILE_EXECUTABLE,
        gix::objs::tree::EntryKind::Link => Mode::SYMLINK,
        gix::objs::tree::EntryKind::Commit => Mode::COMMIT,
    };
    Some(Entry { mode, id: *id })
}

fn folder((mode, id): &(EntryMode, ObjectId)) -> Option<ObjectId> {
    mode.is_tree().then_some(*id)
}

fn read(git: &gix::Repository, tree: Option<ObjectId>) -> Result<Folder, Error> {
    let Some(tree) = tree.filter(|id| !id.is_empty_tree()) else {
        return Ok(Folder::new());
    };
    let fail = |e: gix::Error| Error::unreadable(git, &e);
    let object = git.find_tree(tree).map_err(fail)?;
    TreeRefIter::from_bytes(&object.data, git.object_hash())
        .map(|entry| {
            let entry = entry.map_err(|e| fail(gix::Error::from_error(e)))?;
            Ok((
                entry.filename.to_owned(),
                (entry.mode, entry.oid.to_owned()),
            ))
        })
        .collect()
}

/// What a tree has at a path.
///
/// # Errors
/// When an object cannot be read.
pub(super) fn entry_at(
    git: &gix::Repository,
    tree: ObjectId,
    path: &BStr,
) -> Result<Option<Entry>, Error> {
    let mut at = Some(tree);
    let mut parts = path.split_str("/").peekable();
    while let Some(part) = parts.next() {
        let entries = read(git, at)?;
        let Some(entry) = entries.get(part.as_bstr()) else {
            return Ok(None);
        };
        if parts.peek().is_none() {
            return Ok(file(entry));
        }
        at = folder(entry);
        if at.is_none() {
            return Ok(None);
        }
    }
    Ok(None)
}

impl ObjectBatch {
    /// A tree like `tree`, but with these changes made to it.
    ///
    /// # Errors
    /// When an object cannot be read or written.
    pub fn graft(&self, tree: ObjectId, changes: &[Change]) -> Result<ObjectId, GraftError> {
        let edits: Vec<(&BStr, Option<Entry>)> = changes
            .iter()
            .map(|change| (change.path.as_bstr(), change.after))
            .collect();
        let git = self.git().local();
        match graft_folder(&git, self, Some(tree), &edits)? {
            Some(tree) => Ok(tree),
            None => Ok(self.write(&git, Kind::Tree, b"")?),
        }
    }
}

/// Why a tree cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GraftError {
    /// An object cannot be read.
    #[error(transparent)]
    Git(#[from] Error),
    /// An object cannot be written.
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

impl From<GraftError> for Failure {
    fn from(error: GraftError) -> Self {
        match error {
            GraftError::Git(error) => error.into(),
            GraftError::Objects(error) => (&error).into(),
        }
    }
}

fn graft_folder(
    git: &gix::Repository,
    objects: &ObjectBatch,
    tree: Option<ObjectId>,
    edits: &[(&BStr, Option<Entry>)],
) -> Result<Option<ObjectId>, GraftError> {
    let mut entries = read(git, tree)?;
    let mut below: BTreeMap<&BStr, Vec<(&BStr, Option<Entry>)>> = BTreeMap::new();
    let mut here = Vec::new();
    for (path, entry) in edits {
        match path.split_once_str("/") {
            Some((name, rest)) => below
                .entry(name.as_bstr())
                .or_default()
                .push((rest.as_bstr(), *entry)),
            None => here.push((*path, *entry)),
        }
    }
    // Files go first, so that a folder can take the place of one.
    for (name, entry) in &here {
        if entry.is_none() && entries.get(*name).is_some_and(|(mode, _)| !mode.is_tree()) {
            entries.remove(*name);
        }
    }
    for (name, edits) in below {
        let before = entries.get(name).and_then(folder);
        match graft_folder(git, objects, before, &edits)? {
            Some(tree) => {
                let mode = gix::objs::tree::EntryKind::Tree.into();
                entries.insert(name.to_owned(), (mode, tree));
            }
            None => drop(entries.remove(name)),
        }
    }
    for (name, entry) in here {
        if let Some(entry) = entry
            && let Some(mode) = entry.mode.to_tree_entry_mode()
        {
            entries.insert(name.to_owned(), (mode, entry.id));
        }
    }
    if entries.is_empty() {
        return Ok(None);
    }
    let mut ordered: Vec<_> = entries.into_iter().collect();
    let key = |(name, (mode, _)): &(BString, (EntryMode, ObjectId))| {
        let mut key = name.clone();
        key.extend(mode.is_tree().then_some(b'/'));
        key
    };
    ordered.sort_by_cached_key(key);
    let mut bytes = Vec::new();
    for (name, (mode, id)) in ordered {
        bytes.extend_from_slice(format!("{:o} ", mode.value()).as_bytes());
        bytes.extend_from_slice(&name);
        bytes.push(0);
        bytes.extend_from_slice(id.as_bytes());
    }
    Ok(Some(objects.write(git, Kind::Tree, &bytes)?))
}
