//! What the files of whole trees define and use. Outlines are made once for each blob and kept in
//! `symbols.db`, with the places where each blob was seen; a folder is taken in once, with all that is
//! in it, so that a tree costs what is new in it. What is in the database says nothing by itself: a
//! question takes from it only what the tree that is asked about has where it was seen.

mod cover;
mod progress;
mod reach;
mod resolve;
mod turn;
mod view;
mod walk;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest as _, Sha256};

use self::turn::{Need, Turn};
use super::{Language, Outlines, encode::Used, language};
use crate::{
    deadline::Deadline,
    git::{Error, GitDir, ObjectId, TreeFiles},
    store::SymbolStore,
};

pub use progress::{Counts, IndexProgress};
pub use reach::Reach;
pub use resolve::Callers;
pub use view::{Caller, Found, IndexedFile, View, defined_names};

/// Trees that are known to be in, without a look into the database, as it was opened then.
const KNOWN: usize = 64;
/// A database of more bytes is looked into for what is of no more use.
const TIDY_FROM: u64 = 64 << 20;
/// So many times as many places as the tree that is worked on has files, and it is made anew.
const TIDY_RATIO: u64 = 4;

/// The outlines of a repository's files, and where each name is defined and used.
#[derive(Default)]
pub struct Index {
    outlines: Outlines,
    store: Option<Arc<SymbolStore>>,
    known: Mutex<VecDeque<(u64, ObjectId)>>,
    turn: Turn,
    progress: progress::Progress,
}

impl Index {
    /// The index that is kept in a store's folder. Nothing is opened before it is needed.
    pub fn new(folder: &Path) -> Self {
        let store = Arc::new(SymbolStore::new(folder, language::edition()));
        Self {
            outlines: Outlines::kept_in(Arc::clone(&store)),
            store: Some(store),
            ..Self::default()
        }
    }

    /// Outlines of single files.
    pub fn outlines(&self) -> &Outlines {
        &self.outlines
    }

    /// How far the tree that is worked on is in.
    pub fn progress(&self) -> IndexProgress {
        let bytes = self.store.as_ref().map_or(0, |store| store.bytes());
        self.progress.now(bytes)
    }

    /// Says that there is no tree that is worked on: nothing is missing.
    pub fn has_nothing_to_do(&self) {
        self.progress.change(|now| now.is_whole = true);
    }

    /// Lets go of the database's file.
    pub fn close(&self) {
        if let Some(store) = &self.store {
            store.close();
        }
    }

    /// Throws the database away where most of it is of no more use: it is large, and has four times as
    /// many places as HEAD has files, of older states. Answers whether it did. Blocks.
    pub fn tidy(&self) -> bool {
        let progress = self.progress();
        let is_large = progress.is_whole && progress.bytes > TIDY_FROM;
        let Some(store) = self.store.as_ref().filter(|_| is_large) else {
            return false;
        };
        let places = store.read(|reads| reads.count_places()).unwrap_or(0);
        let is_old = places > u64::from(progress.counts.all()) * TIDY_RATIO;
        if is_old {
            let _turn = self.turn.take(Need::Now, &Deadline::default());
            tracing::info!("most of symbols.db is of older states, and it is made anew");
            store.discard();
        }
        is_old
    }

    /// What is wrong with the database, in words; one that is damaged is thrown away. Blocks; reads all
    /// of it.
    pub fn faults(&self) -> Vec<String> {
        let Some(store) = &self.store else {
            return Vec::new();
        };
        match store.read(|reads| reads.faults()) {
            Some(faults) if faults.is_empty() => faults,
            Some(faults) => {
                let _turn = self.turn.take(Need::Now, &Deadline::default());
                store.discard();
                faults
            }
            None => vec!["it could not be read".to_owned()],
        }
    }

    /// Whether all of a tree is in.
    fn has(&self, tree: ObjectId) -> bool {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let opening = || self.store.as_ref().and_then(|store| store.opening());
        if opening().is_some_and(|opening| known().contains(&(opening, tree))) {
            return true;
        }
        let is_in = self.counts_of(tree).is_some();
        let mut known = known();
        known.retain(|it| it.1 != tree);
        if is_in && let Some(opening) = opening() {
            known.truncate(KNOWN - 1);
            known.push_front((opening, tree));
        }
        is_in
    }

    /// What became of the files of a tree, if all of it is in.
    fn counts_of(&self, tree: ObjectId) -> Option<Counts> {
        let top = folder_id(tree, b"", &[]);
        let counts = self.store.as_ref()?.read(|reads| reads.folder(top))?;
        counts.map(Counts::from)
    }
}

/// The id of a file's content in a language.
pub(super) fn blob_id(language: &Language, blob: ObjectId) -> i64 {
    id_of(&[language.name.as_bytes(), blob.as_bytes()])
}

/// The id of a folder at a path, with the rules of the folders around it: by the lengths of their
/// paths, and their blobs.
fn folder_id(tree: ObjectId, path: &[u8], rules: &[(usize, ObjectId)]) -> i64 {
    let mut parts = vec![tree.as_bytes(), path];
    let lengths: Vec<_> = rules.iter().map(|(at, _)| at.to_le_bytes()).collect();
    for ((_, blob), length) in rules.iter().zip(&lengths) {
        parts.extend([&length[..], blob.as_bytes()]);
    }
    id_of(&parts)
}

/// 63 bits of a digest: among a million there are two alike in one of ten million repositories.
fn id_of(parts: &[&[u8]]) -> i64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&digest.finalize()[..8]);
    (u64::from_le_bytes(first) >> 1) as i64
}

/// The id of a name that is defined or referred to. Two names may have the same: whether a file has
/// the one that is asked for, its outline says.
fn name_id(name: &str, used: Used) -> i64 {
    // FNV-1a (RFC 9923).
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let hash = name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    ((hash >> 2 << 1) | u64::from(used == Used::Defined)) as i64
}

/// The id that stands for all files with a test in a language.
fn tests_id(language: &Language) -> i64 {
    // Nothing is called so.
    name_id(&format!("\0tests in {}", language.name), Used::Defined)
}

/// The files of a tree, with the attributes that matter here.
fn tree_files(git: &GitDir, tree: ObjectId) -> Result<TreeFiles, Error> {
    TreeFiles::new(git, tree, &super::left_out::ATTRIBUTES)
}
