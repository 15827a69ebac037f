//! The user's index, which says what Git tracks. It is read, never written, and read again only
//! when the file changed.

use std::{cmp::Ordering, fs, ops::Range, os::unix::fs::MetadataExt};

use gix::{
    bstr::{BStr, ByteSlice},
    index::{
        self,
        entry::{Flags, Mode, Stage},
    },
};

use crate::git::{Error, Worktree};

/// The index of one worktree.
pub(super) struct UserIndex {
    state: index::State,
    stamp: Stamp,
    unmerged: bool,
    skips: bool,
}

/// Git does not look for such paths in the worktree.
const SKIPPED: Flags = Flags::SKIP_WORKTREE.union(Flags::ASSUME_VALID);

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
        let any = |is: fn(&index::Entry) -> bool| state.entries().iter().any(is);
        let unmerged = any(|entry| entry.stage() != Stage::Unconflicted);
        let skips = any(|entry| entry.flags.intersects(SKIPPED));
        Ok(Self {
            state,
            stamp,
            unmerged,
            skips,
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

    /// The mode that is tracked at a place; of an unmerged path that of our side, if it has one.
    pub(super) fn mode(&self, at: usize) -> Mode {
        let entry = self.entry(at);
        let next = self.state.entries().get(at + 1).filter(|next| {
            entry.stage() == Stage::Base
                && next.stage() == Stage::Ours
                && next.path(&self.state) == entry.path(&self.state)
        });
        next.unwrap_or(entry).mode
    }

    /// Whether Git does not look for the path in the worktree.
    pub(super) fn skips(&self, at: usize) -> bool {
        self.entry(at).flags.intersects(SKIPPED)
    }

    /// Whether there is any such path.
    pub(super) fn has_skipped(&self) -> bool {
        self.skips
    }
}

/// What a sorted list of paths has directly in one folder, one after the other.
pub(super) struct Children<'a, P> {
    rest: Range<usize>,
    /// Bytes of the folder's own path, which all begin with.
    prefix: usize,
    path: P,
    next: Option<Child<'a>>,
}

/// A file or folder of a list of paths.
pub(super) struct Child<'a> {
    pub(super) name: &'a BStr,
    is_folder: bool,
    /// Where it is, or what is in it. Unmerged paths have up to three places.
    pub(super) places: Range<usize>,
}

impl<'a, P: Fn(usize) -> &'a BStr> Children<'a, P> {
    /// Of the paths in `range`, whose first `prefix` bytes are the folder's own path.
    pub(super) fn of(range: Range<usize>, prefix: usize, path: P) -> Self {
        Self {
            rest: range,
            prefix,
            path,
            next: None,
        }
    }

    /// Leaves out those before `name`.
    pub(super) fn from(mut self, name: &BStr) -> Self {
        let start = partition(self.rest.clone(), |at| self.rest_of(at) < name);
        self.rest.start = start;
        self
    }

    /// The places of a file or of a folder. Names must be asked for in their order.
    pub(super) fn find(&mut self, name: &BStr, is_folder: bool) -> Option<Range<usize>> {
        loop {
            let next = match self.next.take() {
                Some(next) => next,
                None => self.read()?,
            };
            match in_path_order((next.name, next.is_folder), (name, is_folder)) {
                Ordering::Less => {}
                Ordering::Equal => return Some(next.places),
                Ordering::Greater => {
                    self.next = Some(next);
                    return None;
                }
            }
        }
    }

    fn rest_of(&self, at: usize) -> &'a BStr {
        (self.path)(at)[self.prefix..].as_bstr()
    }

    fn read(&mut self) -> Option<Child<'a>> {
        let start = self.rest.start;
        if self.rest.is_empty() {
            return None;
        }
        let rest = self.rest_of(start);
        let slash = rest.find_byte(b'/');
        let end = match slash {
            Some(slash) => {
                let folder = &rest[..=slash];
                nearby(self.rest.clone(), |at| self.rest_of(at).starts_with(folder))
            }
            None => nearby(self.rest.clone(), |at| self.rest_of(at) == rest),
        };
        self.rest.start = end;
        Some(Child {
            name: slash.map_or(rest, |slash| rest[..slash].as_bstr()),
            is_folder: slash.is_some(),
            places: start..end,
        })
    }
}

impl<'a, P: Fn(usize) -> &'a BStr> Iterator for Children<'a, P> {
    type Item = Child<'a>;

    fn next(&mut self) -> Option<Child<'a>> {
        self.next.take().or_else(|| self.read())
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

/// The same, where it is likely to be near the start; the first is `inside`.
fn nearby(range: Range<usize>, inside: impl Fn(usize) -> bool) -> usize {
    let mut known = range.start;
    let mut step = 1;
    loop {
        let next = known + step;
        if next >= range.end {
            return partition(known + 1..range.end, inside);
        }
        if !inside(next) {
            return partition(known + 1..next, inside);
        }
        known = next;
        step *= 2;
    }
}
