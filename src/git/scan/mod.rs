//! A worktree as a tree: byte for byte what `git add -A && git write-tree` makes of it on a
//! throw-away copy of its index. Only what changed since the last time is read. Nothing is written
//! but new objects and the cache of what was seen.

mod cache;
mod folder;
mod index;
mod nested;
mod read;
mod rules;
mod stamps;
mod tree;
mod walk;

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use gix::{ObjectId, bstr::BStr, bstr::BString, index::entry::Stat};

use super::{Entry, Error, GitDir, ObjectBatch, ObjectError, OpenedGit, Worktree};
use crate::failure::{Failure, Reason};

pub(super) use cache::is_attribute_file;
use cache::{Found, Listing};
pub(super) use nested::Nested;
pub(super) use rules::Filters;

/// Bytes above which a file that Git does not track is left out.
pub const DEFAULT_SIZE_GUARD: u64 = 64 * 1024 * 1024;

/// Why a worktree cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A file or folder that cannot be read.
    #[error(
        "cannot read {}: {source}; make it readable, or have Git ignore it", path.display()
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The worktree is gone.
    #[error("the worktree {} is gone", .0.display())]
    Gone(PathBuf),
    /// A filter of Git's attributes failed.
    #[error("{} cannot be filtered as Git's attributes say: {reason}", path.display())]
    Filter {
        /// Which file.
        path: PathBuf,
        /// What the filter says.
        reason: String,
    },
    /// Git's own data cannot be read.
    #[error(transparent)]
    Git(#[from] Error),
    /// Objects cannot be written.
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        let reason = match &error {
            ScanError::Unreadable { .. } | ScanError::Filter { .. } => Reason::WorktreeUnreadable,
            ScanError::Gone(_) => Reason::WorktreeGone,
            ScanError::Git(error) => error.reason(),
            ScanError::Objects(objects) => return objects.into(),
        };
        Failure::new(reason, error.to_string())
    }
}

impl From<&ObjectError> for Failure {
    fn from(error: &ObjectError) -> Self {
        let (reason, remedy) = disk(&error.source);
        Failure::new(reason, format!("{error}; {remedy}"))
    }
}

/// What a disk's refusal means to a caller.
pub(crate) fn disk(error: &io::Error) -> (Reason, &'static str) {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
            Reason::StoreFull,
            "nothing was changed; make room and try again",
        ),
        io::ErrorKind::ReadOnlyFilesystem => (
            Reason::StoreReadOnly,
            "nothing was changed; make the disk writable and try again",
        ),
        io::ErrorKind::PermissionDenied => (
            Reason::StoreReadOnly,
            "nothing was changed; look at the permissions",
        ),
        _ => (Reason::StoreIo, "nothing was changed; look at the disk"),
    }
}

/// Something that a scan left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeftOut {
    /// Path from the worktree's root.
    pub path: BString,
    /// Why.
    pub why: String,
    /// Whether the one before told just that; for who keeps account of it.
    pub as_before: bool,
}

/// A worktree's content.
#[derive(Debug)]
pub struct Scanned {
    /// The tree; its objects are in the batch that was given.
    pub tree: ObjectId,
    /// What is not in it.
    pub left_out: Vec<LeftOut>,
    /// Whether the index has unmerged paths.
    pub unmerged: bool,
    /// Files and links in it.
    pub files: u64,
    /// Those that were read.
    pub read: u64,
    seen: Vec<walk::Seen>,
    made: tree::Made,
    names: (Vec<(BString, folder::Names)>, usize),
}

/// Scans one worktree, and remembers what it saw.
pub struct Scanner {
    worktree: Worktree,
    git: OpenedGit,
    /// What that configuration says of the filesystem.
    believes: stamps::Config,
    index: Option<index::UserIndex>,
    cache_file: PathBuf,
    listing: Option<Listing>,
    /// When the last scan began, in nanoseconds since the Unix epoch.
    scanned_at: i64,
    trees: tree::Trees,
    folders: folder::Folders,
    /// Changes since the cache was saved.
    unsaved: usize,
}

impl Scanner {
    /// A scanner that goes on from what `cache_file` remembers, if that is there and whole.
    ///
    /// # Errors
    /// When Git's files cannot be read.
    pub fn new(worktree: Worktree, cache_file: PathBuf) -> Result<Self, ScanError> {
        let git = OpenedGit::open(&worktree.git_dir)?;
        Ok(Self {
            believes: stamps::Config::of(&git.git().local())?,
            git,
            listing: Listing::load(&cache_file),
            trees: tree::Trees::default(),
            folders: folder::Folders::default(),
            index: None,
            scanned_at: 0,
            unsaved: 0,
            worktree,
            cache_file,
        })
    }

    /// Opens Git again if something of it has changed that was read when it was opened. Other rules
    /// may make other content of the same files.
    ///
    /// # Errors
    /// When Git's files cannot be read.
    pub fn refresh(&mut self) -> Result<(), ScanError> {
        if self.git.is_current() {
            return Ok(());
        }
        if !self.git.has_its_config() {
            self.listing = None;
        }
        self.git = OpenedGit::open(&self.worktree.git_dir)?;
        self.believes = stamps::Config::of(&self.git().local())?;
        Ok(())
    }

    /// Scans the worktree, without what Git does not track of more than `size_guard` bytes. New objects
    /// go into `objects`; once that is finished, tell [`Scanner::settle`].
    ///
    /// # Errors
    /// When something that belongs to the tree cannot be read.
    pub fn scan(&mut self, objects: &ObjectBatch, size_guard: u64) -> Result<Scanned, ScanError> {
        if !self.worktree.root.is_dir() {
            return Err(ScanError::Gone(self.worktree.root.clone()));
        }
        self.refresh()?;
        self.scanned_at = stamps::now_nanos();
        let git = self.git().local();
        self.forget_if_pruned(&git);
        let index = index::UserIndex::current(self.index.take(), &self.worktree, &git)?;
        // Until it is settled, what was seen before is what is known.
        let before = self.listing.take().unwrap_or_default();
        let scanned = self.scan_after(&git, &before, &index, objects, size_guard);
        self.listing = Some(before);
        self.index = Some(index);
        scanned
    }

    fn scan_after(
        &self,
        git: &gix::Repository,
        before: &Listing,
        index: &index::UserIndex,
        objects: &ObjectBatch,
        size_guard: u64,
    ) -> Result<Scanned, ScanError> {
        let rules = rules::Rules::new(self.git(), &self.worktree, index);
        let known = (before, &self.folders);
        let by = (self.believes, size_guard);
        let walk = walk::Walk::new(&self.worktree.root, git, index, &rules, known, by)?;
        let (seen, read) = read::read_unknown(walk.run()?, &walk, objects, before)?;
        let (tree, made) = tree::build(&seen, &walk, objects, before, &self.trees)?;
        Ok(Scanned {
            tree,
            left_out: walk.left_out(),
            unmerged: index.is_unmerged(),
            files: seen.len() as u64,
            read,
            seen,
            made,
            names: walk.into_read(),
        })
    }

    /// What a scan found is durable: the next one goes on from it.
    pub fn settle(&mut self, scanned: Scanned) {
        self.unsaved += scanned.read as usize;
        let listing = self.listing.get_or_insert_default();
        let gone = listing.follow(scanned.seen, scanned.tree);
        self.trees.follow(scanned.made, gone.then_some(listing));
        let (names, count) = scanned.names;
        self.folders.follow(names, count);
    }

    /// Objects that were seen may have been pruned with the state that held them.
    fn forget_if_pruned(&mut self, git: &gix::Repository) {
        let root = self.listing.as_ref().and_then(Listing::tree);
        if root.is_none_or(|root| !git.has_object(root)) {
            self.listing = None;
            self.trees = tree::Trees::default();
        }
    }

    /// A checkout left these paths, which are in order, so: with what it wrote, or with nothing.
    pub(super) fn follow_checkout<'p>(
        &mut self,
        left: impl Iterator<Item = (&'p BStr, Option<Entry>)>,
    ) {
        let (root, index) = (&self.worktree.root, self.index.as_ref());
        let Some(listing) = &mut self.listing else {
            return;
        };
        let written = |path: &BStr, entry: Entry| {
            let absolute = root.join(OsStr::from_bytes(path));
            let (stat, _) = stamps::look_at(&absolute).ok()??;
            let index_id = index.and_then(|index| Some(index.entry(index.at_path(path)?).id));
            let now = stamps::now_nanos();
            Some(Found::written(path, entry, stat, index_id, now))
        };
        let now: Vec<_> = left
            .map(|(path, entry)| (path, entry.and_then(|entry| written(path, entry))))
            .collect();
        for (path, _) in &now {
            self.trees.forget(path);
        }
        self.unsaved += now.len();
        listing.change(now);
    }

    /// For each path, whether it is one that the user does not want in the worktree: outside of a
    /// sparse checkout.
    pub(super) fn are_absent_by_choice<'p>(
        &mut self,
        paths: impl Iterator<Item = &'p BStr>,
    ) -> Result<Vec<bool>, ScanError> {
        let listing = self.listing.take();
        let absent = self.with_rules(|_, _, rules| {
            let is_absent = |path| match listing.as_ref().and_then(|listing| listing.seen(path)) {
                Some(found) => found.stat == Stat::default(),
                None => !rules.in_sparse_checkout(path),
            };
            Ok(paths.map(is_absent).collect())
        });
        self.listing = listing;
        absent
    }

    /// Whether what lies at `aside`, and was just moved there from `path`, is what the last scan
    /// found at the path. `filters` are those of the worktree's attributes as they lie there; of many
    /// files that are judged by the same, the first one leaves them to the next.
    pub(super) fn is_still(
        &mut self,
        path: &BStr,
        aside: &Path,
        expected: Entry,
        filters: &mut Option<Filters>,
    ) -> Result<bool, ScanError> {
        let seen = self.listing.as_ref().and_then(|listing| listing.seen(path));
        if let Some(seen) = seen
            && let Ok(Some((stat, mode))) = stamps::look_at(aside)
            && seen.is(expected)
            && self.believes.believed(mode, Some(expected.mode)) == expected.mode
            && stamps::is_settled(&seen.stat, self.scanned_at)
            // Being moved changed its ctime.
            && (stat.mtime, stat.ino, stat.size) == (seen.stat.mtime, seen.stat.ino, seen.stat.size)
        {
            return Ok(true);
        }
        let known = filters.take();
        let (root, believes) = (self.worktree.root.clone(), self.believes);
        let (found, left) = self.with_rules(|git, index, rules| {
            let filters = match known {
                Some(filters) => filters,
                None => rules.filters(git)?,
            };
            let (git, root) = (git.clone(), root.as_path());
            let mut reader = read::Reader {
                git,
                root,
                index,
                filters,
            };
            let found = reader.hash((path, Some(expected.mode)), aside, believes)?;
            Ok((found, reader.filters))
        })?;
        *filters = Some(left);
        Ok(found == Some((expected.mode, expected.id)))
    }

    fn with_rules<T>(
        &mut self,
        ask: impl FnOnce(&gix::Repository, &index::UserIndex, &rules::Rules<'_>) -> Result<T, ScanError>,
    ) -> Result<T, ScanError> {
        let git = self.git().local();
        let index = index::UserIndex::current(self.index.take(), &self.worktree, &git)?;
        let rules = rules::Rules::new(self.git(), &self.worktree, &index);
        let answer = ask(&git, &index, &rules);
        self.index = Some(index);
        answer
    }

    /// Git, opened on the worktree.
    pub fn git(&self) -> &GitDir {
        self.git.git()
    }

    /// The worktree.
    pub fn root(&self) -> &Path {
        &self.worktree.root
    }

    /// Writes down what is known, where that is worth it: it saves the next daemon reading files
    /// again. Losing it loses nothing.
    pub fn save(&mut self) {
        let Some(listing) = &self.listing else { return };
        if self.unsaved == 0 {
            return;
        }
        match listing.save(&self.cache_file) {
            Ok(()) => self.unsaved = 0,
            Err(e) => tracing::debug!("{} is not written: {e}", self.cache_file.display()),
        }
    }
}
