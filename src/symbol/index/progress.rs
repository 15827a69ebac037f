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
}

impl Counts {
    /// All of them.
    pub fn all(&self) -> u32 {
        let left_out = self.too_large + self.binary + self.generated + self.vendored;
        self.files + left_out
    }

    /// One that is in, or is left out.
    pub(super) fn count(&mut self, left_out: Option<LeftOut>) {
        *match left_out {
            None => &mut self.files,
            Some(LeftOut::TooLarge) => &mut self.too_large,
            Some(LeftOut::Binary) => &mut self.binary,
            Some(LeftOut::Generated) => &mut self.generated,
            Some(LeftOut::Vendored) => &mut self.vendored,
        } += 1;
    }

    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.too_large += other.too_large;
        self.binary += other.binary;
        self.generated += other.generated;
        self.vendored += other.vendored;
    }
}

impl From<FolderCounts> for Counts {
    fn from([files, too_large, binary, generated, vendored]: FolderCounts) -> Self {
        Self {
            files,
            too_large,
            binary,
            generated,
            vendored,
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
