//! The worktrees of a repository: finding the one that is meant, and adding one.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{Error, Repository, StateId};
use crate::child::child;

/// A run of Git that a killed daemon began is waited for so long.
const DEADLINE: Duration = Duration::from_secs(30);

/// A worktree: the main one or a linked one (git-worktree(1)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worktree {
    /// Where its files are; absolute and without links.
    pub root: PathBuf,
    /// Its own Git folder, with its HEAD and index.
    pub git_dir: PathBuf,
}

impl Worktree {
    /// What the store calls it: `main`, or as Git does. It stays when the worktree is moved.
    pub fn id(&self) -> &[u8] {
        let folder = self.git_dir.parent().and_then(Path::file_name);
        match self.git_dir.file_name() {
            Some(name) if folder.is_some_and(|folder| folder == "worktrees") => name.as_bytes(),
            _ => b"",
        }
    }

    /// Its root as the store keeps it.
    pub fn key(&self) -> &[u8] {
        self.root.as_os_str().as_bytes()
    }

    /// A name for files of ours that belong to it: `main`, or the one that Git gave it.
    pub fn name(&self, repository: &Repository) -> String {
        if self.git_dir == repository.common_dir() {
            return "main".to_owned();
        }
        let name = self.git_dir.file_name().unwrap_or_default();
        format!("linked-{}", name.to_string_lossy())
    }
}

impl Repository {
    /// The main worktree; `None` in a bare repository.
    pub fn main_worktree(&self) -> Option<Worktree> {
        (self.root() != self.common_dir()).then(|| Worktree {
            root: self.root().to_owned(),
            git_dir: self.common_dir().to_owned(),
        })
    }

    /// The worktrees that are on this machine's disks now, the main one first.
    ///
    /// # Errors
    /// When Git's files cannot be read.
    pub fn worktrees(&self) -> Result<Vec<Worktree>, Error> {
        // Git keeps linked ones there (gitrepository-layout(5)): most repositories have none.
        if !self.common_dir().join("worktrees").exists() {
            return Ok(self.main_worktree().into_iter().collect());
        }
        let now = Self::open(self.common_dir())?;
        let linked = now.linked_worktrees().iter().map(|linked| Worktree {
            root: linked.path.clone(),
            git_dir: linked.git_dir.clone(),
        });
        Ok(self.main_worktree().into_iter().chain(linked).collect())
    }

    /// The worktree that `path` lies in, if it is one of this repository's.
    pub fn worktree_at(&self, path: &Path) -> Option<Worktree> {
        let found = Self::open(path).ok()?;
        let root = found.worktree()?.to_owned();
        (found.common_dir() == self.common_dir()).then(|| Worktree {
            root,
            git_dir: found.git_dir().to_owned(),
        })
    }

    /// The worktree whose root is `path`, if it is one of this repository's.
    pub fn worktree_rooted(&self, path: &Path) -> Option<Worktree> {
        let found = self.worktree_at(path)?;
        let root = path.canonicalize().ok()?;
        (found.root == root).then_some(found)
    }

    /// Adds a linked worktree at `path`, detached at `commit`, as `git worktree add` does it, and
    /// gives it its `.heddle/`. It is locked (git-worktree(1)) until all of it is durable: so a crash
    /// leaves either a worktree that is whole, or one that is known to be not.
    ///
    /// # Errors
    /// What Git says; nothing of it is left then.
    pub fn add_worktree(&self, path: &Path, commit: StateId) -> Result<Worktree, Error> {
        let added = self.try_to_add(path, commit);
        if added.is_err()
            && let Err(left) = self.undo_added_worktree(path)
        {
            tracing::warn!("{} is left half made: {left}", path.display());
        }
        added
    }

    fn try_to_add(&self, path: &Path, commit: StateId) -> Result<Worktree, Error> {
        let commit = commit.to_string();
        let mut add = self.git_command(["worktree", "add", "--lock", "--detach", "--quiet", "--"]);
        // Git goes on when we are killed; so others can tell when it has ended.
        let mut lock = self.child_lock(DEADLINE)?;
        let begun = lock.set_len(0).and_then(|()| lock.write_all(b"\n"));
        begun.map_err(|e| Error::io("write", &self.child_lock_path(), e))?;
        add.arg(path).arg(&commit).stdin(lock);
        run(&mut add).map_err(|refused| {
            let said = refused.to_string();
            let said = said.strip_prefix("fatal: ").unwrap_or(&said);
            Error::Git(format!(
                "cannot add the worktree {}: {said}; nothing of it is left: give another path, or mend that",
                path.display()
            ))
        })?;
        let added = self.worktree_at(path).ok_or_else(|| Error::Unreadable {
            path: path.to_owned(),
            reason: "git made no worktree there".to_owned(),
        })?;
        Self::open(&added.root)?.folders().create()?;
        let parent = added.root.parent().unwrap_or(&added.root);
        for folder in [&added.root, parent, &added.git_dir] {
            sync_all(folder).map_err(|e| Error::io("sync", folder, e))?;
        }
        let lock = added.git_dir.join("locked");
        fs::remove_file(&lock)
            .and_then(|()| File::open(&added.git_dir)?.sync_all())
            .map_err(|e| Error::io("unlock", &lock, e))?;
        Ok(added)
    }

    /// Removes a worktree that was being added when it was cut short. One that is whole and in which
    /// something was changed since is left as it is.
    ///
    /// # Errors
    /// When it cannot be removed, or Git is still at work on it.
    pub fn undo_added_worktree(&self, path: &Path) -> Result<(), Error> {
        drop(self.child_lock(DEADLINE)?);
        self.unlock_packed_refs()?;
        let Some(record) = self.record_of(path)? else {
            // At most Git made the folder. Anything in it is somebody else's.
            return match fs::remove_dir(path) {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    tracing::warn!("{} is left as it is: it is no worktree", path.display());
                    Ok(())
                }
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
                _ => Ok(()),
            };
        };
        if !record.join("locked").exists() {
            if let Err(refused) = self.remove_worktree(path) {
                tracing::warn!("{} is left as it is: {refused}", path.display());
            }
            return Ok(());
        }
        let leads_here = match fs::read_to_string(path.join(".git")) {
            Ok(text) => text.is_empty() || text.trim_end().ends_with(&*record.to_string_lossy()),
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        };
        if leads_here {
            remove_folder(path)?;
        }
        remove_folder(&record)?;
        // As Git does when the last is gone.
        let _ = fs::remove_dir(self.common_dir().join("worktrees"));
        Ok(())
    }

    /// Git has the packed refs locked for a moment while it adds a worktree, and nobody can move a ref
    /// when it is killed then. A lock that is younger than the newest run of ours, and that outlasts
    /// Git's own patience (core.packedRefsTimeout), is that one.
    fn unlock_packed_refs(&self) -> Result<(), Error> {
        let lock = self.common_dir().join("packed-refs.lock");
        let made = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
        let end = Instant::now() + Duration::from_secs(1);
        while let Some(locked) = made(&lock) {
            if made(&self.child_lock_path()).is_none_or(|begun| locked < begun) {
                return Ok(());
            }
            if Instant::now() > end {
                tracing::warn!("removing {}, which a killed Git left", lock.display());
                return fs::remove_file(&lock).map_err(|e| Error::io("remove", &lock, e));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Git's record of the worktree at `path`, also one that was just begun.
    fn record_of(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        let records = self.common_dir().join("worktrees");
        let names = match fs::read_dir(&records) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            names => names.map_err(|e| Error::io("read", &records, e))?,
        };
        let base = path.file_name().unwrap_or_default().as_bytes();
        // Git's own links are resolved in what it writes down.
        let whole = path.parent().and_then(|parent| parent.canonicalize().ok());
        let whole = whole.map(|parent| parent.join(OsStr::from_bytes(base)));
        for entry in names {
            let record = entry.map_err(|e| Error::io("read", &records, e))?.path();
            let leads_to = fs::read(record.join("gitdir")).unwrap_or_default();
            let leads_to = leads_to.trim_ascii_end();
            let leads_to = leads_to.strip_suffix(b"/.git").unwrap_or(leads_to);
            let leads_to = Path::new(OsStr::from_bytes(leads_to));
            let begun = leads_to.as_os_str().is_empty()
                && record.join("locked").exists()
                && record
                    .file_name()
                    .is_some_and(|name| name.as_bytes().starts_with(base));
            if begun || leads_to == path || whole.as_deref() == Some(leads_to) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn child_lock_path(&self) -> PathBuf {
        self.store_dir().join("git.lock")
    }

    /// A lock that a run of Git holds until it ends, whatever becomes of us: it is its input.
    fn child_lock(&self, deadline: Duration) -> Result<File, Error> {
        let path = self.child_lock_path();
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = open.map_err(|e| Error::io("open", &path, e))?;
        let end = Instant::now() + deadline;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < end => {
                    // Only after a crash, and nothing tells of its end.
                    thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Git(
                        "a run of Git that an earlier daemon began has not ended yet".to_owned(),
                    ));
                }
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path, e)),
            }
        }
    }

    /// Removes a linked worktree in which nothing was changed, and Git's record of it.
    ///
    /// # Errors
    /// What Git says: there is something in it that would be lost.
    pub fn remove_worktree(&self, path: &Path) -> Result<(), Error> {
        if path.exists() {
            // Ours, and the only thing in it that Git does not know.
            let heddle = path.join(".heddle");
            if heddle.join("sockets").is_dir() {
                let _ = std::fs::remove_dir_all(heddle);
            }
            run(self.git_command(["worktree", "remove"]).arg("--").arg(path))?;
        }
        run(&mut self.git_command(["worktree", "prune"]))
    }

    /// A run of Git in this repository, with nothing of what says otherwise in the environment.
    pub(super) fn git_command<const N: usize>(&self, args: [&str; N]) -> Command {
        git_command(self.common_dir(), args)
    }
}

/// What `git --version` says.
///
/// # Errors
/// When Git cannot be run.
pub fn version() -> Result<String, Error> {
    let output = Command::new("git").arg("--version").output();
    let output = output.map_err(|e| Error::io("run", "git".as_ref(), e))?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.trim().to_owned())
}

/// A run of Git on a Git folder, with nothing of what says otherwise in the environment.
pub(super) fn git_command<const N: usize>(git_dir: &Path, args: [&str; N]) -> Command {
    let mut git = child("git");
    for (name, _) in std::env::vars_os() {
        if name.as_bytes().starts_with(b"GIT_") {
            git.env_remove(name);
        }
    }
    // What the repository configures to be run with Git is for its user's own runs of Git: here it
    // would run outside of whatever sandbox the caller is in (G5).
    git.args([
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fsmonitor=false",
    ]);
    git.arg("--git-dir").arg(git_dir).args(args);
    git.env("LC_ALL", "C").stdin(std::process::Stdio::null());
    git
}

fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Makes durable all that lies in a folder.
#[cfg(target_os = "linux")]
fn sync_all(folder: &Path) -> io::Result<()> {
    Ok(nix::unistd::syncfs(File::open(folder)?)?)
}

/// Makes durable all that lies in a folder.
#[cfg(not(target_os = "linux"))]
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_all(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

fn run(command: &mut Command) -> Result<(), Error> {
    let output = command.output().map_err(|source| Error::Io {
        action: "run",
        path: "git".into(),
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Git(said.trim().to_owned()))
}
