//! One walk over the worktree, folders in parallel: what is tracked, and what is not and belongs to
//! the tree all the same. Each file is looked at once (fstatat(2)); none is read here.

mod judge;

use std::{
    ffi::OsStr,
    ops::Range,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    index::entry::{Mode, Stat},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::stat::{Mode as Permissions, SFlag},
};
use rayon::prelude::*;

use super::{
    LeftOut, Listing, ScanError,
    folder::{Entries, Entry, Folders, Names, Read},
    index::{Children, UserIndex},
    rules::Rules,
    stamps::Config,
};

/// Everything that a walk goes by.
pub(super) struct Walk<'a> {
    pub(super) root: &'a Path,
    /// The root, open.
    top: OwnedFd,
    pub(super) git: gix::ThreadSafeRepository,
    pub(super) index: &'a UserIndex,
    pub(super) rules: &'a Rules<'a>,
    pub(super) config: Config,
    before: &'a Listing,
    folders: &'a Folders,
    size_guard: u64,
    left_out: Mutex<Vec<LeftOut>>,
    /// Names that were not known.
    read: Mutex<Vec<(BString, Names)>>,
    /// Folders so far.
    count: AtomicUsize,
    /// Whether something was seen that does not sort as it was met.
    unordered: AtomicBool,
}

/// A path that belongs to the tree.
#[derive(Debug)]
pub(super) enum Seen {
    /// Just what the last scan's listing has at this place.
    Same {
        at: usize,
        /// Whether only that listing knows its blob, and not the index.
        remembered: bool,
    },
    /// Not that.
    New(Box<Walked>),
}

/// A path that is new to the listing, or is not as it was.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) path: BString,
    pub(super) mode: Mode,
    pub(super) stat: Stat,
    /// Its blob, where that is known without reading.
    pub(super) id: Option<ObjectId>,
    /// Whether that is known from an earlier read of ours, and not from the index.
    pub(super) remembered: bool,
    pub(super) index_id: Option<ObjectId>,
    pub(super) seen_at: i64,
}

/// A folder that is being walked.
struct Folder {
    /// Empty, or with a slash at its end.
    path: BString,
    index: Range<usize>,
    before: Range<usize>,
}

/// A path, and its last part.
#[derive(Clone, Copy)]
struct Named<'a> {
    path: &'a BStr,
    name: &'a BStr,
}

/// Something of a folder, in the order of paths.
enum Part {
    Files(Vec<Seen>),
    Folder(Folder),
}

/// Something of a folder that was walked.
enum Run {
    Files(Vec<Seen>),
    /// The place of a folder among all that were walked.
    Folder(usize),
}

/// Entries of a folder that one thread looks at.
pub(super) const SHARE: usize = 256;

impl<'a> Walk<'a> {
    pub(super) fn new(
        root: &'a Path,
        git: &gix::Repository,
        index: &'a UserIndex,
        rules: &'a Rules<'a>,
        (before, folders): (&'a Listing, &'a Folders),
        (config, size_guard): (Config, u64),
    ) -> Result<Self, ScanError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let top = open(root, flags, Permissions::empty());
        let unreadable = |e: Errno| ScanError::Unreadable {
            path: root.to_owned(),
            source: e.into(),
        };
        Ok(Self {
            config,
            top: top.map_err(unreadable)?,
            git: git.clone().into_sync(),
            root,
            index,
            rules,
            before,
            folders,
            size_guard,
            left_out: Mutex::default(),
            read: Mutex::default(),
            count: AtomicUsize::new(0),
            unordered: AtomicBool::new(false),
        })
    }

    /// Walks, one level of folders after the other: so no stack is as deep as they are. Answers what
    /// belongs to the tree, ordered by path.
    pub(super) fn run(&self) -> Result<Vec<Seen>, ScanError> {
        let mut walked: Vec<Vec<Run>> = Vec::new();
        let mut level = vec![Folder {
            path: BString::default(),
            index: self.index.all(),
            before: self.before.all(),
        }];
        while !level.is_empty() {
            let parts: Vec<Vec<Part>> = if level.len() > 1 {
                let parts = level.into_par_iter().map(|folder| self.folder(folder));
                parts.collect::<Result<_, ScanError>>()?
            } else {
                let parts = level.into_iter().map(|folder| self.folder(folder));
                parts.collect::<Result<_, ScanError>>()?
            };
            level = Vec::new();
            let first_below = walked.len() + parts.len();
            for parts in parts {
                let runs = parts.into_iter().map(|part| match part {
                    Part::Files(files) => Run::Files(files),
                    Part::Folder(folder) => {
                        level.push(folder);
                        Run::Folder(first_below + level.len() - 1)
                    }
                });
                walked.push(runs.collect());
            }
        }
        let mut seen = in_order(walked);
        if self.unordered.load(Ordering::Relaxed) {
            seen.sort_by(|a, b| self.path_of(a).cmp(self.path_of(b)));
        }
        Ok(seen)
    }

    /// What was left out, ordered by path.
    pub(super) fn left_out(&self) -> Vec<LeftOut> {
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        left_out.sort_by(|a, b| a.path.cmp(&b.path));
        std::mem::take(&mut left_out)
    }

    pub(super) fn leave_out(&self, path: &BStr, why: impl Into<String>) {
        let left_out = LeftOut {
            path: path.to_owned(),
            why: why.into(),
            as_before: false,
        };
        let mut all = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(left_out);
    }

    pub(super) fn absolute(&self, path: &BStr) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    /// What belongs to the tree of a folder.
    fn folder(&self, folder: Folder) -> Result<Vec<Part>, ScanError> {
        let (open, names) = match self.folders.open(&self.top, folder.path.as_bstr()) {
            Ok(opened) => opened,
            Err(error) => return self.unopened(&folder, error),
        };
        let tracked = self.config.ignore_case.then(|| self.tracked_in(&folder));
        let tracked = tracked.map(|tracked| tracked.map(|child| child.name));
        let entries = match Entries::look(&open, &names, tracked) {
            Ok(entries) => entries,
            Err(error) => return self.unopened(&folder, error),
        };
        drop(open);
        let mut parts = self.parts(&folder, &entries)?;
        parts.extend(self.kept_though_gone(&folder, &entries));
        drop(entries);
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Read::Now(names) = names
            && names.can_be_kept()
        {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            read.push((folder.path, names));
        }
        Ok(parts)
    }

    /// What belongs to the tree of a folder that cannot be looked into.
    fn unopened(&self, folder: &Folder, error: Errno) -> Result<Vec<Part>, ScanError> {
        match error {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => {
                let gone = self.kept_though_gone(folder, &Entries::default());
                Ok(gone.into_iter().collect())
            }
            error if folder.index.is_empty() => {
                self.leave_out(
                    folder.path.trim_end_with(|c| c == '/').as_bstr(),
                    format!("cannot be read: {}", error.desc()),
                );
                Ok(Vec::new())
            }
            error => Err(ScanError::Unreadable {
                path: self.absolute(folder.path.as_bstr()),
                source: error.into(),
            }),
        }
    }

    /// The names that were read, for the next scan; and how many folders there are.
    pub(super) fn into_read(self) -> (Vec<(BString, Names)>, usize) {
        let read = self.read.into_inner();
        let read = read.unwrap_or_else(PoisonError::into_inner);
        (read, self.count.into_inner())
    }

    /// What the index has in a folder.
    fn tracked_in(&self, folder: &Folder) -> Children<'a, impl Fn(usize) -> &'a BStr + use<'a>> {
        let index = self.index;
        Children::of(folder.index.clone(), folder.path.len(), |at| index.path(at))
    }

    /// What the last scan saw in a folder.
    fn seen_in(&self, folder: &Folder) -> Children<'a, impl Fn(usize) -> &'a BStr + use<'a>> {
        let before = self.before;
        let path = |at| before.at(at).path.as_bstr();
        Children::of(folder.before.clone(), folder.path.len(), path)
    }

    /// The files of a folder that belong to the tree, and the folders that are to be walked.
    fn parts(&self, folder: &Folder, entries: &Entries<'_>) -> Result<Vec<Part>, ScanError> {
        if entries.entries.len() <= SHARE {
            return self.share(folder, entries, &entries.entries);
        }
        let shares: Vec<_> = entries
            .entries
            .par_chunks(SHARE)
            .map(|share| self.share(folder, entries, share))
            .collect::<Result<_, _>>()?;
        Ok(shares.into_iter().flatten().collect())
    }

    fn share(
        &self,
        folder: &Folder,
        entries: &Entries<'_>,
        share: &[Entry],
    ) -> Result<Vec<Part>, ScanError> {
        let Some(first) = share.first() else {
            return Ok(Vec::new());
        };
        let first = entries.name(first);
        let mut index = self.tracked_in(folder).from(first);
        let mut before = self.seen_in(folder).from(first);
        let mut parts = Vec::new();
        let mut files = Vec::with_capacity(share.len());
        let mut path = BString::from(Vec::with_capacity(folder.path.len() + 64));
        path.extend_from_slice(&folder.path);
        for entry in share {
            let name = entries.name(entry);
            path.truncate(folder.path.len());
            path.extend_from_slice(name);
            let named = Named {
                path: path.as_bstr(),
                name,
            };
            if entry.kind != SFlag::S_IFDIR {
                let tracked = index.find(name, false).map(|places| places.start);
                let before = before.find(name, false).map(|places| places.start);
                files.extend(self.file(named, entry, tracked, before)?);
                continue;
            }
            let (tracked, before) = (index.find(name, true), before.find(name, true));
            if let Some(part) = self.subfolder(folder, named, tracked, before)? {
                if !files.is_empty() {
                    parts.push(Part::Files(std::mem::take(&mut files)));
                }
                parts.push(part);
            }
        }
        if !files.is_empty() {
            parts.push(Part::Files(files));
        }
        Ok(parts)
    }

    /// A path that was seen before.
    fn path_before(&self, at: usize) -> &'a BStr {
        self.before.at(at).path.as_bstr()
    }

    /// The path of something that was seen.
    pub(super) fn path_of<'s>(&'s self, seen: &'s Seen) -> &'s BStr {
        match seen {
            Seen::Same { at, .. } => self.path_before(*at),
            Seen::New(walked) => walked.path.as_bstr(),
        }
    }

    /// What was walked, or the place where the last scan's listing has just that.
    fn seen(&self, path: &BStr, walked: Walked, before: Option<usize>) -> Seen {
        if let Some(at) = before
            && self.before.at(at).is_just(&walked)
        {
            let remembered = walked.remembered;
            return Seen::Same { at, remembered };
        }
        let path = path.to_owned();
        Seen::New(Box::new(Walked { path, ..walked }))
    }
}

/// What was seen, folder by folder, as one.
fn in_order(mut walked: Vec<Vec<Run>>) -> Vec<Seen> {
    let files = |run: &Run| match run {
        Run::Files(files) => files.len(),
        Run::Folder(_) => 0,
    };
    let mut seen = Vec::with_capacity(walked.iter().flatten().map(files).sum());
    let mut take = |at: usize| std::mem::take(&mut walked[at]).into_iter();
    let mut open = vec![take(0)];
    while let Some(runs) = open.last_mut() {
        match runs.next() {
            Some(Run::Files(files)) => seen.extend(files),
            Some(Run::Folder(at)) => open.push(take(at)),
            None => drop(open.pop()),
        }
    }
    seen
}
