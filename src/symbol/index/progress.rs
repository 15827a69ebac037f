//! How far the tree that is worked on is in.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::super::LeftOut;
use crate::store::FolderCounts;

/// Files in a language that is known, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Their outlines are in.
    pub files: u32,
    /// They have too many bytes.
    pub too_large: u32,
    /// They are no text.
    pub binary: u32,
    /// The tree's attributes say that they are generated.
    pub generated: u32,
    /// The tree's attributes say that they are others' code.
    pub vendored: u32,
    /// They cannot be read, or are missing; a folder that cannot be read is one. What has some is not
    /// whole, and is looked at again.
    pub unreadable: u32,
}

impl Counts {
    /// All of them.
    pub fn all(&self) -> u32 {
        let left_out = self.too_large + self.binary + self.generated + self.vendored;
        self.files + left_out + self.unreadable
    }

    /// One more.
    pub(super) fn count(&mut self, became: Became) {
        *match became {
            Became::In => &mut self.files,
            Became::LeftOut(LeftOut::TooLarge) => &mut self.too_large,
            Became::LeftOut(LeftOut::Binary) => &mut self.binary,
            Became::LeftOut(LeftOut::Generated) => &mut self.generated,
            Became::LeftOut(LeftOut::Vendored) => &mut self.vendored,
            Became::Unreadable => &mut self.unreadable,
        } += 1;
    }

    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.too_large += other.too_large;
        self.binary += other.binary;
        self.generated += other.generated;
        self.vendored += other.vendored;
        self.unreadable += other.unreadable;
    }
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    In,
    LeftOut(LeftOut),
    Unreadable,
}

impl From<Option<LeftOut>> for Became {
    fn from(left_out: Option<LeftOut>) -> Self {
        left_out.map_or(Self::In, Self::LeftOut)
    }
}

/// A folder that is kept is whole, so that it has nothing unreadable.
impl From<FolderCounts> for Counts {
    fn from([files, too_large, binary, generated, vendored]: FolderCounts) -> Self {
        Self {
            files,
            too_large,
            binary,
            generated,
            vendored,
            unreadable: 0,
        }
    }
}

impl From<Counts> for FolderCounts {
    fn from(it: Counts) -> Self {
        [it.files, it.too_large, it.binary, it.generated, it.vendored]
    }
}

/// How far the tree that is worked on is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexProgress {
    /// The files that were looked at.
    pub counts: Counts,
    /// Files that are yet to be looked at, as far as they are counted.
    pub left: u32,
    /// Whether it is in with all its files.
    pub is_whole: bool,
    /// Whether it is being taken in now.
    pub is_running: bool,
    /// Files that were parsed since the start, of whatever tree.
    pub parsed: u64,
    /// Bytes of the database on disk.
    pub bytes: u64,
}

#[derive(Default)]
pub(super) struct Progress {
    now: Mutex<IndexProgress>,
    parsed: AtomicU64,
}

impl Progress {
    pub(super) fn now(&self, bytes: u64) -> IndexProgress {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        IndexProgress {
            parsed: self.parsed.load(Ordering::Relaxed),
            bytes,
            ..*now
        }
    }

    /// Counts a file that was parsed.
    pub(super) fn parsed(&self) {
        self.parsed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut IndexProgress)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
