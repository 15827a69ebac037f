//! The user's index, which says what Git tracks. It is read, never written, and read again only
//! when the file changed.

use std::{cmp::Ordering, fs, ops::Range, os::unix::fs::MetadataExt};

use gix::{
    bstr::{BStr, ByteSlice},
    index::{
        self,
        entry::{Flags, Stage},
    },
};

use crate::git::{Error, Worktree};

/// The index of one worktree.
pub(super) struct UserIndex {
    state: index::State,
    stamp: Stamp,
    unmerged: bool,
}

type Stamp = Option<(u64, u64, i64, i64)>;

impl UserIndex {
    /// The index as it is now; `known` if it is still that.
    pub(super) fn current(
        known: Option<Self>,
        worktree: &Worktree,
        git: &gix::Repository,
    ) -> Result<Self, Error> {
        let path = worktree.git_dir.join("index");
        let stamp = fs::metadata(&path)
            .ok()
            .map(|found| (found.ino(), found.size(), found.mtime(), found.mtime_nsec()));
        if let Some(known) = known.filter(|known| known.stamp == stamp) {
            return Ok(known);
        }
        let hash = git.object_hash();
        let state = match stamp {
            None => index::State::new(hash),
            Some(_) => {
                let file = index::File::at(&path, hash, true, Default::default());
                file.map_err(|e| Error::unreadable(git, &e))?.into()
            }
        };
        let entries = state.entries().iter();
        let unmerged = entries
            .clone()
            .any(|entry| entry.stage() != Stage::Unconflicted);
        Ok(Self {
            state,
            stamp,
            unmerged,
        })
    }

    pub(super) fn state(&self) -> &index::State {
        &self.state
    }

    pub(super) fn is_unmerged(&self) -> bool {
        self.unmerged
    }

    pub(super) fn all(&self) -> Range<usize> {
        0..self.state.entries().len()
    }

    pub(super) fn path(&self, at: usize) -> &BStr {
        self.entry(at).path(&self.state)
    }

    pub(super) fn entry(&self, at: usize) -> &index::Entry {
        &self.state.entries()[at]
    }

    /// The place of a path's own entry; not that of an unmerged one.
    pub(super) fn at_path(&self, path: &BStr) -> Option<usize> {
        self.state
            .entry_index_by_path_and_stage(path, Stage::Unconflicted)
    }

    /// Whether Git does not look for the path in the worktree.
    pub(super) fn skips(&self, at: usize) -> bool {
        let flags = self.entry(at).flags;
        flags.intersects(Flags::SKIP_WORKTREE | Flags::ASSUME_VALID)
    }
}

/// What lies directly in one folder of a sorted list of paths: places of files, ranges of folders.
#[derive(Default)]
pub(super) struct Children<'a> {
    pub(super) files: Vec<(&'a BStr, usize)>,
    pub(super) folders: Vec<(&'a BStr, Range<usize>)>,
}

impl<'a> Children<'a> {
    /// Of the paths in `range`, which all begin with the folder's own `prefix` bytes.
    pub(super) fn of(range: Range<usize>, prefix: usize, path: impl Fn(usize) -> &'a BStr) -> Self {
        let mut children = Self::default();
        let mut at = range.start;
        while at < range.end {
            let rest = &path(at)[prefix..];
            match rest.find_byte(b'/') {
                None => {
                    let name = rest.as_bstr();
                    // Unmerged paths have up to three entries.
                    if children.files.last().is_none_or(|(last, _)| *last != name) {
                        children.files.push((name, at));
                    }
                    at += 1;
                }
                Some(slash) => {
                    let folder = &path(at)[..prefix + slash + 1];
                    let end = partition(at..range.end, |place| path(place).starts_with(folder));
                    children.folders.push((rest[..slash].as_bstr(), at..end));
                    at = end;
                }
            }
        }
        children
    }

    pub(super) fn file(&self, name: &BStr) -> Option<usize> {
        let place = self.files.binary_search_by(|(other, _)| (*other).cmp(name));
        place.ok().map(|place| self.files[place].1)
    }

    pub(super) fn folder(&self, name: &BStr) -> Option<Range<usize>> {
        let compare = |other: &BStr| in_path_order((other, true), (name, true));
        let place = self.folders.binary_search_by(|(other, _)| compare(other));
        place.ok().map(|place| self.folders[place].1.clone())
    }
}

/// Compares names as paths are compared: a folder's, which is marked so, is one with a slash behind it.
pub(super) fn in_path_order(a: (&BStr, bool), b: (&BStr, bool)) -> Ordering {
    let common = a.0.len().min(b.0.len());
    let next = |(name, is_folder): (&BStr, bool)| {
        let slash = is_folder.then_some(b'/');
        name.get(common).copied().or(slash)
    };
    a.0[..common]
        .cmp(&b.0[..common])
        .then_with(|| next(a).cmp(&next(b)))
}

/// The first place in `range` that is not `inside`, where all that are come first.
fn partition(range: Range<usize>, inside: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if inside(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
