//! One walk over the worktree, folders in parallel: what is tracked, and what is not and belongs to
//! the tree all the same. Each file is looked at once (fstatat(2)); none is read here.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, OsStr},
    io,
    ops::Range,
    os::{
        fd::{AsFd, BorrowedFd},
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
    fcntl::{AtFlags, OFlag},
    sys::stat::{FileStat, Mode as Permissions, SFlag, fstatat},
};
use rayon::prelude::*;

use super::{
    LeftOut, Listing, ScanError, ScanOptions,
    index::{Children, UserIndex},
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

struct Entry {
    name: BString,
    kind: SFlag,
    stat: Option<FileStat>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        root: &'a Path,
        git: &gix::Repository,
        index: &'a UserIndex,
        rules: &'a Rules<'a>,
        before: &'a Listing,
        options: ScanOptions<'a>,
    ) -> Result<Self, ScanError> {
        Ok(Self {
            config: Config::of(git)?,
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
    pub(super) fn run(&self) -> Result<Vec<Walked>, ScanError> {
        self.folder(Folder {
            path: BString::default(),
            index: self.index.all(),
            before: self.before.all(),
        })
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

    fn folder(&self, folder: Folder) -> Result<Vec<Walked>, ScanError> {
        let prefix = folder.path.len();
        let index = Children::of(folder.index.clone(), prefix, |at| self.index.path(at));
        let before = Children::of(folder.before.clone(), prefix, |at| {
            self.before.at(at).path.as_bstr()
        });
        let entries = match self.read(&folder, &index) {
            Ok(entries) => entries,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Vec::new(),
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
            count.fetch_add(entries.len() as u64, Ordering::Relaxed);
        }
        let one = |entry: &Entry| self.entry(&folder, entry, &index, &before);
        let mut walked: Vec<Walked> = if entries.len() > 1 {
            let parts: Vec<_> = entries
                .par_iter()
                .with_min_len(if entries.len() > 512 { 64 } else { 1 })
                .map(one)
                .collect::<Result<_, _>>()?;
            parts.into_iter().flatten().collect()
        } else {
            let parts: Vec<_> = entries.iter().map(one).collect::<Result<_, _>>()?;
            parts.into_iter().flatten().collect()
        };
        let gone = self.kept_though_gone(&entries, &index);
        let unordered = !gone.is_empty();
        walked.extend(gone);
        // Entries come by name, and a folder's paths sort as if it were called `name/`.
        if unordered || !walked.is_sorted_by(|a, b| a.path <= b.path) {
            walked.sort_by(|a, b| a.path.cmp(&b.path));
        }
        Ok(walked)
    }

    /// The folder's entries that can matter, by name.
    fn read(&self, folder: &Folder, index: &Children<'_>) -> Result<Vec<Entry>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let path = self.absolute(folder.path.as_bstr());
        let mut open = Dir::open(&path, flags, Permissions::empty())?;
        let mut names: Vec<(CString, Option<Type>)> = Vec::new();
        for entry in open.iter() {
            let entry = entry?;
            let name = entry.file_name();
            let bytes = name.to_bytes();
            let ours = folder.path.is_empty() && bytes == b".heddle";
            if matches!(bytes, b"." | b".." | b".git") || ours {
                continue;
            }
            names.push((name.to_owned(), entry.file_type()));
        }
        let descriptor = open.as_fd();
        if self.config.ignore_case {
            spell_as_tracked(descriptor, &mut names, index);
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let look = |(name, kind): &(CString, Option<Type>)| look(descriptor, name, *kind);
        let looked: Vec<_> = if names.len() > 512 {
            names.par_iter().with_min_len(128).map(look).collect()
        } else {
            names.iter().map(look).collect()
        };
        looked.into_iter().filter_map(Result::transpose).collect()
    }

    fn entry(
        &self,
        folder: &Folder,
        entry: &Entry,
        index: &Children<'_>,
        before: &Children<'_>,
    ) -> Result<Vec<Walked>, ScanError> {
        let name = entry.name.as_bstr();
        let mut path = folder.path.clone();
        path.extend_from_slice(name);
        if entry.kind == SFlag::S_IFDIR {
            return self.subfolder(path, name, index, before);
        }
        let tracked = index.file(name);
        if tracked.is_none() && self.refuses(path.as_bstr(), name, entry.kind)? {
            return Ok(Vec::new());
        }
        let Some(stat) = entry.stat.filter(|_| is_file_or_link(entry.kind)) else {
            self.special(path.as_bstr(), entry.kind, tracked.is_some())?;
            return Ok(Vec::new());
        };
        let size = stat.st_size as u64;
        let stat = stat_of(&stat).with_mode(entry.kind);
        match tracked {
            Some(at) => Ok(vec![self.tracked(path, stat, at, before.file(name))]),
            None => {
                let found = self.untracked(path, stat, size, before.file(name))?;
                Ok(found.into_iter().collect())
            }
        }
    }

    fn tracked(
        &self,
        path: BString,
        (stat, mode): (Stat, Mode),
        at: usize,
        before: Option<usize>,
    ) -> Walked {
        let entry = self.index.entry(at);
        let own = (entry.stage() == Stage::Unconflicted).then_some(entry);
        let mode = self.config.believed(mode, Some(self.index.mode(at)));
        let known = own.filter(|entry| {
            let out_of_cone = || !self.rules.in_sparse_checkout(path.as_bstr());
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
                path,
                stat,
            },
            None => self.remembered(path, stat, mode, own.map(|entry| entry.id), before),
        }
    }

    fn untracked(
        &self,
        path: BString,
        (stat, mode): (Stat, Mode),
        size: u64,
        before: Option<usize>,
    ) -> Result<Option<Walked>, ScanError> {
        let path_ref = path.as_bstr();
        if self.rules.ignores(path_ref, false)? {
            return Ok(None);
        }
        if !self.rules.in_sparse_checkout(path_ref) {
            self.leave_out(
                path_ref,
                "is not tracked and lies outside of the sparse checkout",
            );
            return Ok(None);
        }
        if size > self.options.size_guard && mode != Mode::SYMLINK {
            let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
            self.leave_out(
                path_ref,
                format!(
                    "is not tracked and has {} MiB; the guard is at {} MiB",
                    mib(size),
                    mib(self.options.size_guard)
                ),
            );
            return Ok(None);
        }
        let mode = self.config.believed(mode, None);
        Ok(Some(self.remembered(path, stat, mode, None, before)))
    }

    /// A path that the index does not vouch for; perhaps an earlier scan does.
    fn remembered(
        &self,
        path: BString,
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
            path,
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

    fn subfolder(
        &self,
        path: BString,
        name: &BStr,
        index: &Children<'_>,
        before: &Children<'_>,
    ) -> Result<Vec<Walked>, ScanError> {
        let tracked = index.folder(name);
        if tracked.is_none() {
            let gitlink = index.file(name).map(|at| self.index.entry(at));
            if let Some(gitlink) = gitlink.filter(|entry| entry.mode == Mode::COMMIT) {
                let head = self.head_of(path.as_bstr()).flatten();
                return Ok(vec![link_to_commit(path, head.unwrap_or(gitlink.id))]);
            }
            if self.rules.ignores(path.as_bstr(), true)?
                || self.refuses(path.as_bstr(), name, SFlag::S_IFDIR)?
            {
                return Ok(Vec::new());
            }
            match self.head_of(path.as_bstr()) {
                None => {}
                Some(Some(head)) => return Ok(vec![link_to_commit(path, head)]),
                Some(None) => {
                    self.leave_out(
                        path.as_bstr(),
                        "is a Git repository of its own without a commit",
                    );
                    return Ok(Vec::new());
                }
            }
        }
        let mut path = path;
        path.push(b'/');
        self.folder(Folder {
            path,
            index: tracked.unwrap_or(0..0),
            before: before.folder(name).unwrap_or(0..0),
        })
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
    fn kept_though_gone(&self, entries: &[Entry], index: &Children<'_>) -> Vec<Walked> {
        let there = |name: &BStr| {
            entries
                .binary_search_by(|entry| entry.name.as_bstr().cmp(name))
                .is_ok()
        };
        let files = index.files.iter().filter(|(name, _)| !there(name));
        let files = files.map(|(_, at)| *at..*at + 1);
        let folders = index.folders.iter().filter(|(name, _)| !there(name));
        let folders = folders.map(|(_, range)| range.clone());
        files
            .chain(folders)
            .flatten()
            .filter(|at| self.index.skips(*at))
            .map(|at| {
                let entry = self.index.entry(at);
                let path = self.index.path(at).trim_end_with(|c| c == '/');
                Walked {
                    path: path.into(),
                    mode: entry.mode,
                    stat: Stat::default(),
                    id: Some(entry.id),
                    remembered: false,
                    index_id: Some(entry.id),
                    seen_at: 0,
                }
            })
            .collect()
    }
}

/// One name in an open folder: its type and, unless it is a folder, its stat(2). `None` if it is
/// gone already.
fn look(folder: BorrowedFd<'_>, name: &CStr, kind: Option<Type>) -> Result<Option<Entry>, Errno> {
    let named = |kind, stat| Entry {
        name: name.to_bytes().into(),
        kind,
        stat,
    };
    if kind == Some(Type::Directory) {
        return Ok(Some(named(SFlag::S_IFDIR, None)));
    }
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => {
            let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
            Ok(Some(named(kind, Some(found))))
        }
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Git goes on calling a file or folder as it is tracked, where the filesystem takes both spellings
/// for the same (git-config(1), core.ignoreCase).
fn spell_as_tracked(
    folder: BorrowedFd<'_>,
    names: &mut [(CString, Option<Type>)],
    index: &Children<'_>,
) {
    let files = index.files.iter().map(|(name, _)| *name);
    let tracked = files.chain(index.folders.iter().map(|(name, _)| *name));
    let tracked: HashMap<Vec<u8>, &BStr> = tracked
        .map(|name| (name.to_ascii_lowercase(), name))
        .collect();
    let look = |name: &CStr| {
        let found = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some((found.st_dev, found.st_ino))
    };
    for (name, _) in names {
        let found = name.to_bytes();
        let tracked = tracked.get(&found.to_ascii_lowercase());
        if let Some(tracked) = tracked.filter(|tracked| **tracked != found)
            && let Ok(tracked) = CString::new(tracked.to_vec())
            && look(name).is_some_and(|place| look(&tracked) == Some(place))
        {
            *name = tracked;
        }
    }
}

fn link_to_commit(path: BString, id: ObjectId) -> Walked {
    Walked {
        path,
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
