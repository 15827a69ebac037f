//! One walk over the worktree, folders in parallel: what is tracked, and what is not and belongs to
//! the tree all the same. Each file is looked at once (fstatat(2)); none is read here.

use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    io,
    ops::Range,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    index::entry::{Flags, Mode, Stage, Stat, stat, stat::Time},
};
use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat},
    sys::stat::{FileStat, Mode as Permissions, SFlag, fstatat},
};
use rayon::prelude::*;

use super::{
    LeftOut, Listing, ScanError, ScanOptions,
    index::{Child, Children, UserIndex, in_path_order},
    rules::Rules,
};
use crate::git::{Error, repo_path::is_safe_name};

/// The kernel stamps files with the time of its last tick, which can be this long ago.
const TICK: Duration = Duration::from_millis(20);
/// Where stamps are whole seconds, or two.
const COARSE: Duration = Duration::from_secs(2);

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
    options: ScanOptions<'a>,
    left_out: Mutex<Vec<LeftOut>>,
}

/// What Git is configured to believe of a filesystem (git-config(1), core.*).
#[derive(Debug, Clone, Copy)]
pub(super) struct Config {
    file_mode: bool,
    symlinks: bool,
    ignore_case: bool,
    stat: stat::Options,
}

impl Config {
    pub(super) fn of(git: &gix::Repository) -> Result<Self, Error> {
        let config = git.config_snapshot();
        let yes = |key: &str| config.boolean(key).unwrap_or(true);
        let stat = git.stat_options().map_err(|e| Error::unreadable(git, &e))?;
        Ok(Self {
            file_mode: yes("core.fileMode"),
            symlinks: yes("core.symlinks"),
            ignore_case: config.boolean("core.ignoreCase").unwrap_or(false),
            // Git compares nanoseconds as well.
            stat: stat::Options {
                use_nsec: true,
                ..stat
            },
        })
    }

    /// The mode that Git would believe in, on a filesystem that may not have it.
    pub(super) fn believed(&self, found: Mode, tracked: Option<Mode>) -> Mode {
        match (found, tracked) {
            (Mode::FILE | Mode::FILE_EXECUTABLE, Some(Mode::SYMLINK)) if !self.symlinks => {
                Mode::SYMLINK
            }
            (Mode::FILE | Mode::FILE_EXECUTABLE, tracked) if !self.file_mode => match tracked {
                Some(Mode::FILE_EXECUTABLE) => Mode::FILE_EXECUTABLE,
                _ => Mode::FILE,
            },
            (found, _) => found,
        }
    }
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

/// What lies in a folder.
#[derive(Default)]
struct Entries {
    /// All names, each with a NUL behind it.
    names: Vec<u8>,
    /// In the order of paths: a folder's sort as if it were called `name/`.
    entries: Vec<Entry>,
}

struct Entry {
    /// Where its name is among the names.
    name: Range<usize>,
    kind: SFlag,
    /// Not of a folder.
    stat: Option<(Stat, bool)>,
    size: u64,
}

impl Entries {
    fn name(&self, entry: &Entry) -> &BStr {
        self.names[entry.name.clone()].as_bstr()
    }

    fn has(&self, name: &BStr) -> bool {
        let find = |is_folder| {
            let compare = |entry: &Entry| in_path_order(self.key(entry), (name, is_folder));
            self.entries.binary_search_by(compare).is_ok()
        };
        find(false) || find(true)
    }

    fn key(&self, entry: &Entry) -> (&BStr, bool) {
        (self.name(entry), entry.kind == SFlag::S_IFDIR)
    }
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
    /// A repository of its own: its path has no slash at its end, and sorts otherwise.
    Repository(Seen),
}

/// Entries of a folder that one thread looks at.
const SHARE: usize = 256;

impl<'a> Walk<'a> {
    pub(super) fn new(
        root: &'a Path,
        git: &gix::Repository,
        index: &'a UserIndex,
        rules: &'a Rules<'a>,
        before: &'a Listing,
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
            options,
            left_out: Mutex::default(),
        })
    }

    /// Walks; answers what belongs to the tree, ordered by path.
    pub(super) fn run(&self) -> Result<Vec<Seen>, ScanError> {
        let runs = self.folder(Folder {
            path: BString::default(),
            index: self.index.all(),
            before: self.before.all(),
        })?;
        let mut seen = Vec::with_capacity(runs.iter().map(Vec::len).sum());
        runs.into_iter().for_each(|run| seen.extend(run));
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
        };
        let mut all = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(left_out);
    }

    pub(super) fn absolute(&self, path: &BStr) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    /// What belongs to the tree of a folder, in runs that follow each other.
    fn folder(&self, folder: Folder) -> Result<Vec<Vec<Seen>>, ScanError> {
        let entries = match self.read(&folder) {
            Ok(entries) => entries,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Entries::default(),
            Err(error) if folder.index.is_empty() => {
                self.leave_out(
                    folder.path.trim_end_with(|c| c == '/').as_bstr(),
                    format!("cannot be read: {}", error.desc()),
                );
                return Ok(Vec::new());
            }
            Err(error) => {
                return Err(ScanError::Unreadable {
                    path: self.absolute(folder.path.as_bstr()),
                    source: error.into(),
                });
            }
        };
        if let Some(count) = self.options.looked_at {
            count.fetch_add(entries.entries.len() as u64, Ordering::Relaxed);
        }
        let parts = self.parts(&folder, &entries)?;
        let below = |part| match part {
            Part::Files(files) => Ok(vec![files]),
            Part::Folder(folder) => self.folder(folder),
            Part::Repository(link) => Ok(vec![vec![link]]),
        };
        let mut unordered = parts.iter().any(|part| matches!(part, Part::Repository(_)));
        let mut runs: Vec<Vec<Seen>> = if parts.len() > 1 {
            let runs: Vec<_> = parts
                .into_par_iter()
                .map(below)
                .collect::<Result<_, ScanError>>()?;
            runs.into_iter().flatten().collect()
        } else {
            let runs: Vec<_> = parts.into_iter().map(below).collect::<Result<_, _>>()?;
            runs.into_iter().flatten().collect()
        };
        let gone = self.kept_though_gone(&folder, &entries);
        unordered |= !gone.is_empty();
        if unordered {
            let mut all: Vec<_> = runs.into_iter().flatten().chain(gone).collect();
            all.sort_by(|a, b| self.path_of(a).cmp(self.path_of(b)));
            runs = vec![all];
        }
        Ok(runs)
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
    fn parts(&self, folder: &Folder, entries: &Entries) -> Result<Vec<Part>, ScanError> {
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
        entries: &Entries,
        share: &[Entry],
    ) -> Result<Vec<Part>, ScanError> {
        let Some(first) = share.first() else {
            return Ok(Vec::new());
        };
        let first = entries.name(first);
        let mut index = self.tracked_in(folder).from(first);
        let mut before = self.seen_in(folder).from(first);
        let mut parts = Vec::new();
        let mut files = Vec::new();
        let mut path = folder.path.clone();
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

    /// The folder's entries that can matter.
    fn read(&self, folder: &Folder) -> Result<Entries, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // With a slash at its end, a link would be followed.
        let path = folder.path.strip_suffix(b"/").unwrap_or(b".");
        let mut open = Dir::from_fd(openat(&self.top, path, flags, Permissions::empty())?)?;
        let mut names = Vec::new();
        let mut found: Vec<(Range<usize>, Option<Type>)> = Vec::new();
        for entry in open.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            let bytes = &name[..name.len() - 1];
            let ours = folder.path.is_empty() && bytes == b".heddle";
            if matches!(bytes, b"." | b".." | b".git") || ours {
                continue;
            }
            let at = names.len();
            names.extend_from_slice(name);
            found.push((at..at + bytes.len(), entry.file_type()));
        }
        let descriptor = open.as_fd();
        if self.config.ignore_case {
            spell_as_tracked(descriptor, &mut names, &found, self.tracked_in(folder));
        }
        let look = |(name, kind): (Range<usize>, Option<Type>)| {
            look(descriptor, &names[name.start..=name.end], name, kind)
        };
        let looked: Vec<_> = if found.len() > 2 * SHARE {
            found
                .into_par_iter()
                .with_min_len(SHARE / 2)
                .map(look)
                .collect()
        } else {
            found.into_iter().map(look).collect()
        };
        let looked = looked.into_iter().filter_map(Result::transpose);
        let mut ordered = looked.collect::<Result<Vec<_>, _>>()?;
        let mut entries = Entries {
            names,
            entries: Vec::new(),
        };
        ordered.sort_unstable_by(|a, b| in_path_order(entries.key(a), entries.key(b)));
        entries.entries = ordered;
        Ok(entries)
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
            Some(Part::Repository(seen))
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
    fn kept_though_gone(&self, folder: &Folder, entries: &Entries) -> Vec<Seen> {
        if !self.index.has_skipped() {
            return Vec::new();
        }
        self.tracked_in(folder)
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
            .collect()
    }
}

/// One name in an open folder: its type and, unless it is a folder, its stat(2). `None` if it is
/// gone already.
fn look(
    folder: BorrowedFd<'_>,
    with_nul: &[u8],
    name: Range<usize>,
    kind: Option<Type>,
) -> Result<Option<Entry>, Errno> {
    if kind == Some(Type::Directory) {
        return Ok(Some(Entry {
            name,
            kind: SFlag::S_IFDIR,
            stat: None,
            size: 0,
        }));
    }
    let path = CStr::from_bytes_with_nul(with_nul).map_err(|_| Errno::EINVAL)?;
    match fstatat(folder, path, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(Entry {
            name,
            kind: SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT,
            stat: Some(stat_of(&found)),
            size: found.st_size as u64,
        })),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Git goes on calling a file or folder as it is tracked, where the filesystem takes both spellings
/// for the same (git-config(1), core.ignoreCase).
fn spell_as_tracked<'a>(
    folder: BorrowedFd<'_>,
    names: &mut [u8],
    found: &[(Range<usize>, Option<Type>)],
    tracked: impl Iterator<Item = Child<'a>>,
) {
    let tracked: HashMap<Vec<u8>, &BStr> = tracked
        .map(|child| (child.name.to_ascii_lowercase(), child.name))
        .collect();
    let look = |name: &[u8]| {
        let found = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some((found.st_dev, found.st_ino))
    };
    for (place, _) in found {
        let name = &mut names[place.clone()];
        let tracked = tracked.get(&name.to_ascii_lowercase());
        if let Some(tracked) = tracked.filter(|tracked| ***tracked != *name)
            && look(name).is_some_and(|place| look(tracked) == Some(place))
        {
            // As long as the other: only the case of ASCII letters differs.
            name.copy_from_slice(tracked);
        }
    }
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

fn is_file_or_link(kind: SFlag) -> bool {
    kind == SFlag::S_IFREG || kind == SFlag::S_IFLNK
}

/// Whether a file that was read at `seen_at` cannot have been changed since without its stamps
/// telling.
pub(super) fn is_settled(stat: &Stat, seen_at: i64) -> bool {
    let newest = [stat.mtime, stat.ctime]
        .map(|time| i64::from(time.secs) * 1_000_000_000 + i64::from(time.nsecs))
        .into_iter()
        .max()
        .unwrap_or(i64::MAX);
    let whole = stat.mtime.nsecs == 0 && stat.ctime.nsecs == 0;
    let wait = if whole { COARSE } else { TICK };
    newest.saturating_add(wait.as_nanos() as i64) <= seen_at
}

/// Now, in nanoseconds since the Unix epoch.
pub(super) fn now_nanos() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos() as i64)
}

trait WithMode {
    fn with_mode(self, kind: SFlag) -> (Stat, Mode);
}

impl WithMode for (Stat, bool) {
    fn with_mode(self, kind: SFlag) -> (Stat, Mode) {
        let mode = match (kind, self.1) {
            (SFlag::S_IFLNK, _) => Mode::SYMLINK,
            (_, true) => Mode::FILE_EXECUTABLE,
            (_, false) => Mode::FILE,
        };
        (self.0, mode)
    }
}

/// A stat(2) as Git's index keeps it, cut to 32 bits; and whether its owner may execute it.
pub(super) fn stat_of(found: &FileStat) -> (Stat, bool) {
    let time = |secs: i64, nsecs: i64| Time {
        secs: secs as u32,
        nsecs: nsecs as u32,
    };
    let stat = Stat {
        mtime: time(found.st_mtime, found.st_mtime_nsec),
        ctime: time(found.st_ctime, found.st_ctime_nsec),
        dev: found.st_dev as u32,
        ino: found.st_ino as u32,
        uid: found.st_uid,
        gid: found.st_gid,
        size: found.st_size as u32,
    };
    (stat, found.st_mode & 0o100 != 0)
}

/// What is at a path now, links not followed; `None` if nothing is, or nothing that Git keeps.
pub(super) fn look_at(path: &Path) -> io::Result<Option<(Stat, Mode)>> {
    match nix::sys::stat::lstat(path) {
        Ok(found) => {
            let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
            Ok(is_file_or_link(kind).then(|| stat_of(&found).with_mode(kind)))
        }
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
