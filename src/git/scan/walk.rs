//! One walk over the worktree, folders in parallel: what is tracked, and what is not and belongs to
//! the tree all the same. Each file is looked at once (fstatat(2)); none is read here.

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
    index::entry::{Flags, Mode, Stage, Stat},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::stat::{Mode as Permissions, SFlag},
};
use rayon::prelude::*;

use super::{
    LeftOut, Listing, ScanError, ScanOptions,
    folder::{Entries, Entry, Folders, Names, Read},
    index::{Children, UserIndex},
    rules::Rules,
    stamps::{Config, WithMode, is_file_or_link, is_settled},
};
use crate::git::repo_path::is_safe_name;

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
    options: ScanOptions<'a>,
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
        options: ScanOptions<'a>,
    ) -> Result<Self, ScanError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let top = open(root, flags, Permissions::empty());
        let unreadable = |e: Errno| ScanError::Unreadable {
            path: root.to_owned(),
            source: e.into(),
        };
        Ok(Self {
            config: Config::of(git)?,
            top: top.map_err(unreadable)?,
            git: git.clone().into_sync(),
            root,
            index,
            rules,
            before,
            folders,
            options,
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
        if let Some(count) = self.options.looked_at {
            count.fetch_add(entries.entries.len() as u64, Ordering::Relaxed);
        }
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

    fn file(
        &self,
        Named { path, name }: Named<'_>,
        entry: &Entry,
        tracked: Option<usize>,
        before: Option<usize>,
    ) -> Result<Option<Seen>, ScanError> {
        if tracked.is_none() && self.refuses(path, name, entry.kind)? {
            return Ok(None);
        }
        let Some(stat) = entry.stat.filter(|_| is_file_or_link(entry.kind)) else {
            self.special(path, entry.kind, tracked.is_some())?;
            return Ok(None);
        };
        let stat = stat.with_mode(entry.kind);
        let walked = match tracked {
            Some(at) => Some(self.tracked(path, stat, at, before)),
            None => self.untracked(path, stat, entry.size, before)?,
        };
        Ok(walked.map(|walked| self.seen(path, walked, before)))
    }

    fn tracked(
        &self,
        path: &BStr,
        (stat, mode): (Stat, Mode),
        at: usize,
        before: Option<usize>,
    ) -> Walked {
        let entry = self.index.entry(at);
        let own = (entry.stage() == Stage::Unconflicted).then_some(entry);
        let mode = self.config.believed(mode, Some(self.index.mode(at)));
        let known = own.filter(|entry| {
            let out_of_cone = || !self.rules.in_sparse_checkout(path);
            let left_alone = entry.flags.contains(Flags::ASSUME_VALID)
                || (entry.flags.contains(Flags::SKIP_WORKTREE) && !self.rules.is_sparse())
                || (self.rules.is_sparse() && out_of_cone());
            left_alone || self.is_clean(entry, &stat, mode)
        });
        match known {
            Some(entry) => Walked {
                mode: if self.is_clean(entry, &stat, mode) {
                    mode
                } else {
                    entry.mode
                },
                id: Some(entry.id),
                remembered: false,
                index_id: Some(entry.id),
                seen_at: 0,
                path: BString::default(),
                stat,
            },
            None => self.remembered(stat, mode, own.map(|entry| entry.id), before),
        }
    }

    fn untracked(
        &self,
        path: &BStr,
        (stat, mode): (Stat, Mode),
        size: u64,
        before: Option<usize>,
    ) -> Result<Option<Walked>, ScanError> {
        if self.rules.ignores(path, false)? {
            return Ok(None);
        }
        if !self.rules.in_sparse_checkout(path) {
            self.leave_out(
                path,
                "is not tracked and lies outside of the sparse checkout",
            );
            return Ok(None);
        }
        if size > self.options.size_guard && mode != Mode::SYMLINK {
            let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
            self.leave_out(
                path,
                format!(
                    "is not tracked and has {} MiB; the guard is at {} MiB",
                    mib(size),
                    mib(self.options.size_guard)
                ),
            );
            return Ok(None);
        }
        let mode = self.config.believed(mode, None);
        Ok(Some(self.remembered(stat, mode, None, before)))
    }

    /// A path that the index does not vouch for; perhaps an earlier scan does.
    fn remembered(
        &self,
        stat: Stat,
        mode: Mode,
        index_id: Option<ObjectId>,
        before: Option<usize>,
    ) -> Walked {
        let known = before.map(|at| self.before.at(at)).filter(|known| {
            known.mode == mode
                && known.index_id == index_id
                && known.stat.matches(&stat, self.config.stat)
                && is_settled(&known.stat, known.seen_at)
        });
        Walked {
            id: known.map(|known| known.id),
            remembered: known.is_some(),
            seen_at: known.map_or(0, |known| known.seen_at),
            index_id,
            path: BString::default(),
            mode,
            stat,
        }
    }

    /// Whether the index says that the file is as it was when it was added
    /// (gitrepository-layout(5); "racy-git" in Git's technical documentation).
    fn is_clean(&self, entry: &gix::index::Entry, stat: &Stat, mode: Mode) -> bool {
        let smudged = entry.stat.size == 0 && !entry.id.is_empty_blob();
        entry.mode == mode
            && !smudged
            && !entry.flags.contains(Flags::INTENT_TO_ADD)
            && entry.stat.matches(stat, self.config.stat)
            && !entry
                .stat
                .is_racy(self.index.state().timestamp(), self.config.stat)
    }

    /// Whether Git does not take a path of such a name, that it does not track, at all.
    fn refuses(&self, path: &BStr, name: &BStr, kind: SFlag) -> Result<bool, ScanError> {
        if is_safe_name(name, kind == SFlag::S_IFLNK) {
            return Ok(false);
        }
        if !self.rules.ignores(path, kind == SFlag::S_IFDIR)? {
            self.leave_out(path, "has a name that Git keeps for itself");
        }
        Ok(true)
    }

    fn special(&self, path: &BStr, kind: SFlag, tracked: bool) -> Result<(), ScanError> {
        if !tracked && self.rules.ignores(path, false)? {
            return Ok(());
        }
        let what = match kind {
            SFlag::S_IFIFO => "a FIFO",
            SFlag::S_IFSOCK => "a socket",
            _ => "a device",
        };
        self.leave_out(path, format!("is {what}, which Git cannot keep"));
        Ok(())
    }

    /// What a folder in a folder is to the tree; nothing if it is ignored or left out.
    fn subfolder(
        &self,
        within: &Folder,
        Named { path, name }: Named<'_>,
        tracked: Option<Range<usize>>,
        before: Option<Range<usize>>,
    ) -> Result<Option<Part>, ScanError> {
        let link = |id| {
            let before = self.before.place(path).ok();
            let seen = self.seen(path, link_to_commit(id), before);
            // Its path has no slash at its end, and sorts otherwise than a folder's.
            self.unordered.store(true, Ordering::Relaxed);
            Some(Part::Files(vec![seen]))
        };
        if tracked.is_none() {
            let gitlink = self.tracked_in(within).from(name).find(name, false);
            let gitlink = gitlink.map(|places| self.index.entry(places.start));
            if let Some(gitlink) = gitlink.filter(|entry| entry.mode == Mode::COMMIT) {
                let head = self.head_of(path).flatten();
                return Ok(link(head.unwrap_or(gitlink.id)));
            }
            if self.rules.ignores(path, true)? || self.refuses(path, name, SFlag::S_IFDIR)? {
                return Ok(None);
            }
            match self.head_of(path) {
                None => {}
                Some(Some(head)) => return Ok(link(head)),
                Some(None) => {
                    self.leave_out(path, "is a Git repository of its own without a commit");
                    return Ok(None);
                }
            }
        }
        let mut path = path.to_owned();
        path.push(b'/');
        Ok(Some(Part::Folder(Folder {
            path,
            index: tracked.unwrap_or(0..0),
            before: before.unwrap_or(0..0),
        })))
    }

    /// The commit of a repository that lies in the folder; `Some(None)` if it has none yet, `None`
    /// if there is no repository.
    fn head_of(&self, path: &BStr) -> Option<Option<ObjectId>> {
        let path = self.absolute(path);
        path.join(".git").symlink_metadata().ok()?;
        let inner = gix::open(path).ok()?;
        Some(inner.head_id().ok().map(gix::Id::detach))
    }

    /// Tracked paths that are not there and yet belong to the tree: outside of a sparse checkout, or
    /// assumed to be unchanged.
    fn kept_though_gone(&self, folder: &Folder, entries: &Entries<'_>) -> Option<Part> {
        if !self.index.has_skipped() {
            return None;
        }
        let gone: Vec<Seen> = self
            .tracked_in(folder)
            .filter(|child| !entries.has(child.name))
            .flat_map(|child| child.places)
            .filter(|at| self.index.skips(*at))
            .map(|at| {
                let entry = self.index.entry(at);
                let path = self.index.path(at).trim_end_with(|c| c == '/').as_bstr();
                let walked = Walked {
                    path: BString::default(),
                    mode: entry.mode,
                    stat: Stat::default(),
                    id: Some(entry.id),
                    remembered: false,
                    index_id: Some(entry.id),
                    seen_at: 0,
                };
                self.seen(path, walked, self.before.place(path).ok())
            })
            .collect();
        if gone.is_empty() {
            return None;
        }
        self.unordered.store(true, Ordering::Relaxed);
        Some(Part::Files(gone))
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

fn link_to_commit(id: ObjectId) -> Walked {
    Walked {
        path: BString::default(),
        mode: Mode::COMMIT,
        stat: Stat::default(),
        id: Some(id),
        remembered: false,
        index_id: None,
        seen_at: 0,
    }
}
