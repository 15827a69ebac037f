//! The places in which Git writes down where HEADs and branches went, and where branches are now.
//! All of it is only read.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt, fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use gix::{
    bstr::{BStr, ByteSlice},
    path::RelativePath,
    refs::{FullName, Target, file::Store as RefStore},
};

use super::{
    Error, Identity, Repository, StateId, Worktree,
    reflog::{self, Reflog, ReflogMark, clipped, is_absent},
};

const BRANCHES: &str = "refs/heads/";
const WORKTREES: &str = "worktrees/";

/// A HEAD or a branch: `HEAD`, `worktrees/fix/HEAD`, `refs/heads/main`; or what lies between two names
/// of a branch.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogName(Vec<u8>);

impl LogName {
    /// The HEAD of the main worktree.
    pub fn head() -> Self {
        Self(b"HEAD".to_vec())
    }

    /// The HEAD or branch of this name.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Where Git puts the log of a branch while it renames or copies it.
    pub fn between_names() -> Self {
        Self(b"refs/.tmp-renamed-log".to_vec())
    }

    /// Whether it is a HEAD.
    pub fn is_head(&self) -> bool {
        self.0 == b"HEAD" || self.0.starts_with(WORKTREES.as_bytes())
    }

    /// Its name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The branch, without `refs/heads/`; `None` where it is none.
    pub fn branch(&self) -> Option<String> {
        let name = self.0.strip_prefix(BRANCHES.as_bytes())?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// The linked worktree that it is the HEAD of.
    pub fn worktree(&self) -> Option<String> {
        let id = self.0.strip_prefix(WORKTREES.as_bytes())?;
        let id = id.strip_suffix(b"/HEAD")?;
        Some(String::from_utf8_lossy(id).into_owned())
    }

    /// Whether it is the HEAD of this worktree.
    pub fn is_head_of(&self, worktree: &Worktree) -> bool {
        match worktree.id() {
            b"" => self.0 == b"HEAD",
            id => self.0 == [WORKTREES.as_bytes(), id, b"/HEAD"].concat(),
        }
    }

    /// What may have moved when a file of the shared Git folder was changed. (A HEAD is looked at
    /// again when it is not held any more.)
    pub(super) fn of_file(path: &Path) -> Option<Self> {
        let path = path.as_os_str().as_bytes();
        let of_head = |name: &[u8]| [&b"HEAD"[..], b"HEAD.lock", b"logs/HEAD"].contains(&name);
        if of_head(path) {
            return Some(Self::head());
        }
        if let Some(below) = path.strip_prefix(WORKTREES.as_bytes()) {
            let slash = below.find_byte(b'/')?;
            let (id, name) = below.split_at(slash);
            return of_head(&name[1..])
                .then(|| Self([WORKTREES.as_bytes(), id, b"/HEAD"].concat()));
        }
        if path.ends_with(b".lock") {
            return None;
        }
        let name = path.strip_prefix(b"logs/").unwrap_or(path);
        name.starts_with(BRANCHES.as_bytes())
            .then(|| Self(name.to_vec()))
    }

    fn log(&self) -> PathBuf {
        let name = match self.0.strip_prefix(WORKTREES.as_bytes()) {
            Some(_) => {
                let folder = self.0.strip_suffix(b"HEAD").unwrap_or(&self.0);
                [folder, b"logs/HEAD"].concat()
            }
            None => [b"logs/", &*self.0].concat(),
        };
        PathBuf::from(OsStr::from_bytes(&name))
    }
}

impl fmt::Debug for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_bstr(), f)
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.as_bstr(), f)
    }
}

/// Who made a commit, and when: what it says of its committer.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The committer.
    pub who: Identity,
    /// In seconds since the Unix epoch.
    pub secs: i64,
    /// The first line of its message.
    pub subject: String,
}

/// The reflogs and branches of a repository.
pub struct RefLogs {
    repository: Repository,
    refs: RefStore,
}

impl RefLogs {
    /// Those of this repository, main and linked worktrees.
    pub fn new(repository: &Repository) -> Self {
        Self {
            refs: RefStore::at(repository.common_dir().to_owned(), repository.object_hash()),
            repository: repository.clone(),
        }
    }

    fn common_dir(&self) -> &Path {
        self.repository.common_dir()
    }

    fn unreadable(&self, error: &gix::Error) -> Error {
        Error::Unreadable {
            path: self.common_dir().join(BRANCHES),
            reason: error.to_string(),
        }
    }

    /// The HEADs of all worktrees that may have a log.
    ///
    /// # Errors
    /// When Git's folder cannot be read.
    pub fn heads(&self) -> Result<Vec<LogName>, Error> {
        let mut heads = vec![LogName::head()];
        let folder = self.common_dir().join("worktrees");
        let linked = names_in(&folder).map_err(|e| Error::io("read", &folder, e))?;
        heads.extend(
            linked
                .into_iter()
                .map(|(id, _)| LogName([WORKTREES.as_bytes(), &id, b"/HEAD"].concat())),
        );
        Ok(heads)
    }

    /// The branches that have a log.
    ///
    /// # Errors
    /// When the folder of logs cannot be read.
    pub fn logged_branches(&self) -> Result<BTreeSet<LogName>, Error> {
        let mut found = BTreeSet::new();
        let mut folders = vec![BRANCHES.as_bytes().to_vec()];
        while let Some(folder) = folders.pop() {
            let path = self
                .common_dir()
                .join("logs")
                .join(OsStr::from_bytes(&folder));
            let names = names_in(&path).map_err(|e| Error::io("read", &path, e))?;
            for (name, is_folder) in names {
                let name = [&*folder, &name].concat();
                if is_folder {
                    folders.push([&*name, b"/"].concat());
                } else {
                    found.insert(LogName(name));
                }
            }
        }
        Ok(found)
    }

    /// Where each branch is now, but for those whose files are damaged or that stand for another.
    ///
    /// # Errors
    /// When refs cannot be read.
    pub fn tips(&self) -> Result<BTreeMap<LogName, StateId>, Error> {
        let prefix: &RelativePath = BStr::new(BRANCHES)
            .try_into()
            .map_err(|e| self.unreadable(&e))?;
        let platform = self.refs.iter().map_err(|e| self.unreadable(&e))?;
        let all = platform
            .prefixed(prefix)
            .map_err(|e| Error::io("read", self.common_dir(), e))?;
        let sound = all.filter_map(Result::ok);
        Ok(sound
            .filter_map(|found| match found.target {
                Target::Object(id) => Some((LogName(found.name.as_bstr().to_vec()), id.into())),
                Target::Symbolic(_) => None,
            })
            .collect())
    }

    /// Where a branch is now; `None` where there is none.
    ///
    /// # Errors
    /// When the ref cannot be read.
    pub fn tip(&self, name: &LogName) -> Result<Option<StateId>, Error> {
        // What lies there under a name that Git allows in no ref is no branch.
        let Ok(name) = FullName::try_from(name.as_bytes().as_bstr()) else {
            return Ok(None);
        };
        let found = self
            .refs
            .try_find(name.as_ref().as_partial_name())
            .map_err(|e| self.unreadable(&e))?;
        Ok(found.and_then(|found| found.target.try_id().map(|id| id.to_owned().into())))
    }

    /// What a log has beyond `mark`; `None` where there is no log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &LogName, mark: Option<ReflogMark>) -> Result<Option<Reflog>, Error> {
        let path = self.common_dir().join(name.log());
        reflog::read(&path, mark).map_err(|e| Error::io("read", &path, e))
    }

    /// Where a log ends, and where it says that the ref is; `None` where there is no log, or nothing
    /// in it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn end(&self, name: &LogName) -> Result<Option<(ReflogMark, Option<StateId>)>, Error> {
        let path = self.common_dir().join(name.log());
        reflog::end(&path).map_err(|e| Error::io("read", &path, e))
    }

    /// Whether Git has a HEAD locked: it may be about to write down the same move of the branch.
    pub fn is_held(&self, head: &LogName) -> bool {
        let lock = [head.as_bytes(), b".lock"].concat();
        let lock = self.common_dir().join(OsStr::from_bytes(&lock));
        lock.symlink_metadata().is_ok()
    }

    /// What commits say of themselves; `None` for those that are gone or are none.
    pub fn commits(&self, ids: &[StateId]) -> Vec<Option<Committed>> {
        let git = match self.repository.open_git() {
            Ok(git) => git,
            Err(error) => {
                tracing::warn!("commits cannot be read: {error}");
                return vec![None; ids.len()];
            }
        };
        let read = |id: &StateId| {
            let commit = git.find_object(gix::ObjectId::from(*id)).ok()?;
            let commit = commit.try_into_commit().ok()?;
            let who = commit.committer().ok()?;
            Some(Committed {
                who: Identity {
                    name: clipped(who.name),
                    email: clipped(who.email),
                },
                secs: who.seconds(),
                subject: clipped(commit.message().ok()?.title),
            })
        };
        ids.iter().map(read).collect()
    }
}

/// The names in a folder, and whether each is a folder itself; none where there is no folder.
pub(super) fn names_in(folder: &Path) -> io::Result<Vec<(Vec<u8>, bool)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if is_absent(&e) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        names.push((entry.file_name().as_bytes().to_vec(), is_folder));
    }
    Ok(names)
}
