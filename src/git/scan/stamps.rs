//! What lstat(2) tells of a file, as Git's index keeps it, and what of it Git is configured to believe.

use std::{
    io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gix::index::entry::{Mode, Stat, stat, stat::Time};
use nix::{
    errno::Errno,
    sys::stat::{FileStat, SFlag},
};

use crate::git::Error;

/// The kernel stamps files with the time of its last tick, which can be this long ago.
const TICK: Duration = Duration::from_millis(20);
/// Where stamps are whole seconds, or two.
const COARSE: Duration = Duration::from_secs(2);

/// What Git is configured to believe of a filesystem (git-config(1), core.*).
#[derive(Debug, Clone, Copy)]
pub(super) struct Config {
    file_mode: bool,
    symlinks: bool,
    pub(super) ignore_case: bool,
    pub(super) stat: stat::Options,
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

pub(super) fn is_file_or_link(kind: SFlag) -> bool {
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

pub(super) trait WithMode {
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
