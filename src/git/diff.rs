//! How two trees differ, path by path, and a tree that is one of them but for some paths.

use std::{
    collections::{BTreeMap, btree_map},
    mem,
};

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    index::entry::Mode,
    objs::{Kind, TreeRefIter, tree::EntryMode},
};

use super::{
    Error, ObjectBatch, ObjectError, RepoPath, repository::MAX_TREE_DEPTH, tree_cache::TreeCache,
    wanted::Wanted,
};
use crate::failure::Failure;

/// What a tree has at a path: never a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its type and mode.
    pub mode: Mode,
    /// Its blob, or a submodule's commit.
    pub id: ObjectId,
}

impl Entry {
    /// Whether it is a file, and neither a link nor a submodule.
    pub fn is_file(&self) -> bool {
        self.mode == Mode::FILE || self.mode == Mode::FILE_EXECUTABLE
    }
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
/// When an object cannot be read, and when folders lie too deep.
pub fn diff_trees(
    (git, trees): (&gix::Repository, &TreeCache),
    from: ObjectId,
    to: ObjectId,
    paths: &[RepoPath],
) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    if from == to {
        return Ok(changes);
    }
    let mut open = vec![Both {
        path: BString::default(),
        from: Some(from),
        to: Some(to),
        depth: 0,
    }];
    let wanted = Wanted::new(paths);
    while let Some(both) = open.pop() {
        diff_folder((git, trees), both, &mut open, &wanted, &mut changes)?;
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

type Folder = BTreeMap<BString, (EntryMode, ObjectId)>;

/// A folder in both trees, or in one of them.
struct Both {
    /// Empty, or with a slash at its end.
    path: BString,
    from: Option<ObjectId>,
    to: Option<ObjectId>,
    /// Folders that it lies in.
    depth: usize,
}

/// What differs in one folder; the folders in it that do are added to `open`.
fn diff_folder(
    (git, trees): (&gix::Repository, &TreeCache),
    both: Both,
    open: &mut Vec<Both>,
    wanted: &Wanted<'_>,
    changes: &mut Vec<Change>,
) -> Result<(), Error> {
    if both.depth > MAX_TREE_DEPTH {
        return Err(Error::too_deep(both.path.as_bstr()));
    }
    let content = |tree| trees.tree(git, tree);
    let from = both.from.map(content).transpose()?.unwrap_or_default();
    let to = both.to.map(content).transpose()?.unwrap_or_default();
    let (from, to) = (entries(git, &from)?, entries(git, &to)?);
    let mut names: Vec<&BStr> = from.keys().chain(to.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (before, after) = (from.get(name), to.get(name));
        if before == after {
            continue;
        }
        let mut path = both.path.clone();
        path.extend_from_slice(name);
        let is_covered = wanted.covers(path.as_bstr());
        if !is_covered && !wanted.leads_below(path.as_bstr()) {
            continue;
        }
        let change = Change {
            before: before.and_then(file),
            after: after.and_then(file),
            path: path.clone(),
        };
        if change.before != change.after && is_covered {
            changes.push(change);
        }
        let (from, to) = (before.and_then(folder), after.and_then(folder));
        if from != to {
            path.push(b'/');
            open.push(Both {
                path,
                from,
                to,
                depth: both.depth + 1,
            });
        }
    }
    Ok(())
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
    let object = git.find_tree(tree);
    let object = object.map_err(|e| Error::unreadable(git, &e))?;
    let entries = entries(git, &object.data)?.into_iter();
    Ok(entries.map(|(name, it)| (name.to_owned(), it)).collect())
}

/// What is in a folder, by name.
fn entries<'c>(
    git: &gix::Repository,
    content: &'c [u8],
) -> Result<BTreeMap<&'c BStr, (EntryMode, ObjectId)>, Error> {
    let entries = TreeRefIter::from_bytes(content, git.object_hash());
    let entries = entries.map(|entry| {
        let entry = entry.map_err(|e| Error::unreadable(git, &gix::Error::from_error(e)))?;
        Ok((entry.filename, (entry.mode, entry.oid.to_owned())))
    });
    entries.collect()
}

/// Says what a tree has at paths. Folders around the last one stay open: where paths are asked for in
/// their order, each folder is read once.
pub(super) struct TreePaths<'g> {
    git: &'g gix::Repository,
    top: Folder,
    /// Folders in each other, by path.
    open: Vec<(BString, Folder)>,
}

impl<'g> TreePaths<'g> {
    /// Of this tree.
    pub(super) fn new(git: &'g gix::Repository, tree: ObjectId) -> Result<Self, Error> {
        Ok(Self {
            git,
            top: read(git, Some(tree))?,
            open: Vec::new(),
        })
    }

    /// What it has at a path that is not a folder.
    pub(super) fn entry(&mut self, path: &BStr) -> Result<Option<Entry>, Error> {
        Ok(self.at(path)?.and_then(file))
    }

    /// Whether it has a file or a folder at a path; the empty one is its own.
    pub(super) fn has(&mut self, path: &BStr) -> Result<bool, Error> {
        Ok(path.is_empty() || self.at(path)?.is_some())
    }

    fn at(&mut self, path: &BStr) -> Result<Option<&(EntryMode, ObjectId)>, Error> {
        let (folder, name) = match path.rfind_byte(b'/') {
            Some(slash) => (path[..slash].as_bstr(), path[slash + 1..].as_bstr()),
            None => (BStr::new(b""), path),
        };
        Ok(self.folder(folder)?.and_then(|found| found.get(name)))
    }

    /// What is in the folder at a path; `None` if none is there.
    fn folder(&mut self, path: &BStr) -> Result<Option<&Folder>, Error> {
        let is_around = |open: &BStr| {
            path.starts_with(open) && matches!(path.get(open.len()), None | Some(b'/'))
        };
        while let Some((open, _)) = self.open.last()
            && !is_around(open.as_bstr())
        {
            self.open.pop();
        }
        let mut at = self.open.last().map_or(0, |(open, _)| open.len() + 1);
        while at < path.len() {
            let end = path[at..]
                .find_byte(b'/')
                .map_or(path.len(), |slash| at + slash);
            let around = self.open.last().map_or(&self.top, |(_, folder)| folder);
            let Some(inner) = around.get(path[at..end].as_bstr()).and_then(folder) else {
                return Ok(None);
            };
            let inner = read(self.git, Some(inner))?;
            self.open.push((path[..end].to_owned(), inner));
            at = end + 1;
        }
        Ok(Some(
            self.open.last().map_or(&self.top, |(_, folder)| folder),
        ))
    }
}

impl ObjectBatch {
    /// A tree like `tree`, but with these changes made to it.
    ///
    /// # Errors
    /// When an object cannot be read or written.
    pub fn graft(&self, tree: ObjectId, changes: &[Change]) -> Result<ObjectId, GraftError> {
        let edits: Vec<Edit<'_>> = changes
            .iter()
            .map(|change| (change.path.as_bstr(), change.after))
            .collect();
        let git = self.git().local();
        match graft(&git, self, tree, edits)? {
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

/// A path from some folder, and what it is to have.
type Edit<'e> = (&'e BStr, Option<Entry>);

/// A folder whose new tree is being made.
struct Grafted<'e> {
    name: &'e BStr,
    entries: Folder,
    /// Folders in it that are to change.
    below: btree_map::IntoIter<&'e BStr, Vec<Edit<'e>>>,
    /// What is to be in it.
    here: Vec<Edit<'e>>,
}

/// The folders around the present one wait in a list, and not on the stack.
fn graft(
    git: &gix::Repository,
    objects: &ObjectBatch,
    tree: ObjectId,
    edits: Vec<Edit<'_>>,
) -> Result<Option<ObjectId>, GraftError> {
    let mut around = Vec::new();
    let mut open = Grafted::open(git, BStr::new(b""), Some(tree), edits)?;
    loop {
        if let Some((name, edits)) = open.below.next() {
            let before = open.entries.get(name).and_then(folder);
            let inner = Grafted::open(git, name, before, edits)?;
            around.push(mem::replace(&mut open, inner));
            continue;
        }
        let name = open.name;
        let tree = open.close(git, objects)?;
        let Some(outer) = around.pop() else {
            return Ok(tree);
        };
        open = outer;
        match tree {
            Some(tree) => {
                let mode = gix::objs::tree::EntryKind::Tree.into();
                open.entries.insert(name.to_owned(), (mode, tree));
            }
            None => drop(open.entries.remove(name)),
        }
    }
}

impl<'e> Grafted<'e> {
    fn open(
        git: &gix::Repository,
        name: &'e BStr,
        tree: Option<ObjectId>,
        edits: Vec<Edit<'e>>,
    ) -> Result<Self, Error> {
        let mut entries = read(git, tree)?;
        let mut below: BTreeMap<&BStr, Vec<Edit<'e>>> = BTreeMap::new();
        let mut here = Vec::new();
        for (path, entry) in edits {
            match path.split_once_str("/") {
                Some((name, rest)) => below
                    .entry(name.as_bstr())
                    .or_default()
                    .push((rest.as_bstr(), entry)),
                None => here.push((path, entry)),
            }
        }
        // Files go first, so that a folder can take the place of one.
        for (name, entry) in &here {
            if entry.is_none() && entries.get(*name).is_some_and(|(mode, _)| !mode.is_tree()) {
                entries.remove(*name);
            }
        }
        Ok(Self {
            name,
            entries,
            below: below.into_iter(),
            here,
        })
    }

    /// Its new tree; `None` if nothing is in it.
    fn close(
        mut self,
        git: &gix::Repository,
        objects: &ObjectBatch,
    ) -> Result<Option<ObjectId>, ObjectError> {
        for (name, entry) in self.here {
            if let Some(entry) = entry
                && let Some(mode) = entry.mode.to_tree_entry_mode()
            {
                self.entries.insert(name.to_owned(), (mode, entry.id));
            }
        }
        if self.entries.is_empty() {
            return Ok(None);
        }
        let mut ordered: Vec<_> = self.entries.into_iter().collect();
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
}
