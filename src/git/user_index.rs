//! Letting the user's index follow a restore, when that is asked for. Git makes the new index, on a
//! copy; it takes the place of the user's under Git's own lock, and only of the one that was copied.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Error, ObjectId, RepoPath, Repository, Worktree, scan::disk, worktrees::git_command};
use crate::failure::{Failure, Reason};

/// Why the index does not follow.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another program has Git's lock.
    #[error(
        "another Git process has the index locked ({}); wait until it has ended, or remove the file if none runs, then try again", .0.display()
    )]
    Locked(PathBuf),
    /// The index is another one than a moment ago.
    #[error("the index {} was changed while the restore was under way; try again", .0.display())]
    Changed(PathBuf),
    /// The system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Git refused.
    #[error(transparent)]
    Git(#[from] Error),
}

impl IndexError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        let reason = match &error {
            IndexError::Locked(_) => Reason::IndexLocked,
            IndexError::Changed(_) => Reason::WorktreeChanged,
            IndexError::Git(_) => Reason::RepositoryRefused,
            IndexError::Io { source, .. } => {
                let (reason, remedy) = disk(source);
                return Failure::new(reason, format!("{error}; {remedy}"));
            }
        };
        Failure::new(reason, error.to_string())
    }
}

/// The index that the user had, kept until the restore has ended, and how to know it and the new one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedIndex {
    /// The user's index, in bytes.
    index: Vec<u8>,
    /// Its copy from before, in bytes.
    copy: Vec<u8>,
    /// The one that is to take its place, in bytes.
    new: Vec<u8>,
    /// SHA-256 of what was there before; `None` when there was none.
    before: Option<String>,
    /// SHA-256 of what is to be there.
    after: String,
}

/// An index that is to take the place of the user's.
#[derive(Debug)]
pub struct IndexUpdate {
    saved: SavedIndex,
    /// Whether the copies are needed to take it back.
    begun: bool,
}

impl IndexUpdate {
    /// Makes an index that has what `tree` has at `paths`, or everywhere if there are none, and else
    /// what the user's has (git-reset(1)). Nothing of the user's is touched.
    ///
    /// # Errors
    /// When the index is locked, or Git refuses.
    pub fn prepare(
        repository: &Repository,
        worktree: &Worktree,
        tree: ObjectId,
        paths: &[RepoPath],
    ) -> Result<Self, IndexError> {
        let index = worktree.git_dir.join("index");
        let lock = lock_path(&index);
        if lock.exists() {
            return Err(IndexError::Locked(lock));
        }
        let name = worktree.name(repository);
        let place = |what: &str| repository.store_dir().join(format!("index-{what}-{name}"));
        let (copy, new) = (place("before"), place("after"));
        let content = read(&index)?;
        // From here on, the copies are removed when it fails.
        let mut update = Self {
            saved: SavedIndex {
                index: bytes(&index),
                copy: bytes(&copy),
                new: bytes(&new),
                before: content.as_deref().map(digest),
                after: String::new(),
            },
            begun: false,
        };
        for file in [&copy, &new] {
            let content = content.as_deref();
            replace(file, content).map_err(IndexError::io("write", file))?;
        }
        // What a Git that was killed left would stop this one.
        let left = lock_path(&new);
        replace(&left, None).map_err(IndexError::io("remove", &left))?;
        reset(worktree, &new, tree, paths)?;
        // Git makes none where there was none and nothing is to be in it.
        let made = read(&new)?.unwrap_or_default();
        update.saved.after = digest(&made);
        if let Ok(found) = index.metadata() {
            let permissions = found.permissions();
            for file in [&copy, &new] {
                fs::set_permissions(file, permissions.clone())
                    .map_err(IndexError::io("change", file))?;
            }
        }
        let files = [copy.as_path(), &new, repository.store_dir().as_path()].map(sync);
        files.into_iter().collect::<Result<(), _>>()?;
        Ok(update)
    }

    /// Puts it in the place of the user's index.
    ///
    /// # Errors
    /// When that is locked, or was changed since.
    pub fn install(&mut self) -> Result<(), IndexError> {
        self.begun = true;
        let new = path(&self.saved.new);
        exchange(
            &path(&self.saved.index),
            self.saved.before.as_deref(),
            new.exists().then_some(&*new),
        )
    }

    /// It is in place for good, or was taken back: removes the copies.
    pub fn discard(mut self) {
        self.begun = false;
    }

    /// What is needed to take it back.
    pub fn saved(&self) -> &SavedIndex {
        &self.saved
    }
}

impl Drop for IndexUpdate {
    fn drop(&mut self) {
        if self.begun {
            return;
        }
        for file in [path(&self.saved.new), path(&self.saved.copy)] {
            if let Err(e) = replace(&file, None) {
                tracing::debug!("{} is not removed: {e}", file.display());
            }
        }
    }
}

/// Removes copies of indexes that nobody needs any more, because no restore is under way.
///
/// # Errors
/// When they cannot be found, or not be removed.
pub fn sweep_indexes(repository: &Repository) -> Result<(), IndexError> {
    let folder = repository.store_dir();
    let names = fs::read_dir(&folder).map_err(IndexError::io("read", &folder))?;
    for entry in names {
        let entry = entry.map_err(IndexError::io("read", &folder))?;
        if entry.file_name().as_bytes().starts_with(b"index-") {
            let file = entry.path();
            replace(&file, None).map_err(IndexError::io("remove", &file))?;
        }
    }
    Ok(())
}

impl SavedIndex {
    /// Puts the user's index back, if the new one is there and nobody changed it since.
    ///
    /// # Errors
    /// When it is locked, or the disk refuses.
    pub fn take_back(&self) -> Result<(), IndexError> {
        let index = path(&self.index);
        let lock = lock_path(&index);
        // A lock that was ours when we were killed is still a link to one of our files.
        let ours = [path(&self.new), path(&self.copy)];
        if ours.iter().any(|file| is_same_file(file, &lock)) {
            fs::remove_file(&lock).map_err(IndexError::io("unlock", &index))?;
        }
        let found = read(&index)?.as_deref().map(digest);
        if found == self.before {
            return Ok(());
        }
        if found.as_deref() != Some(self.after.as_str()) {
            tracing::warn!(
                "{} was changed after a restore was cut short, and is left as it is",
                index.display()
            );
            return Ok(());
        }
        let copy = path(&self.copy);
        if read(&copy)?.as_deref().map(digest) != self.before {
            tracing::error!(
                "the copy of {} is gone, and it is left as it is",
                index.display()
            );
            return Ok(());
        }
        let before = self.before.is_some().then_some(&*copy);
        exchange(&index, Some(&self.after), before)
    }
}

/// Replaces the index by a synced file under Git's lock (gitrepository-layout(5), api-lockfile), if
/// it is still the one with this digest.
fn exchange(index: &Path, expected: Option<&str>, new: Option<&Path>) -> Result<(), IndexError> {
    let lock = lock_path(index);
    take_lock(&lock, new).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => IndexError::Locked(lock.clone()),
        _ => IndexError::io("lock", index)(e),
    })?;
    let replaced = (|| {
        let found = read(index)?.as_deref().map(digest);
        if found.as_deref() != expected {
            return Err(IndexError::Changed(index.to_owned()));
        }
        match new {
            Some(_) => fs::rename(&lock, index).map_err(IndexError::io("write", index)),
            None if expected.is_none() => Ok(()),
            None => fs::remove_file(index).map_err(IndexError::io("remove", index)),
        }
    })();
    if replaced.is_err() || new.is_none() {
        fs::remove_file(&lock).map_err(IndexError::io("unlock", index))?;
    }
    replaced?;
    sync(index.parent().unwrap_or(index))
}

/// Git's lock is the file that takes the index's place. As a link to `new` it is known for ours after
/// a crash.
fn take_lock(lock: &Path, new: Option<&Path>) -> io::Result<()> {
    let create = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o666)
            .open(lock)
    };
    let Some(new) = new else {
        return create().map(drop);
    };
    match fs::hard_link(new, lock) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {}
        linked => return linked,
    }
    // Not on this filesystem: a copy.
    let copied = create().and_then(|mut file| {
        io::copy(&mut File::open(new)?, &mut file)?;
        file.set_permissions(new.metadata()?.permissions())?;
        file.sync_all()
    });
    if copied
        .as_ref()
        .is_err_and(|e| e.kind() != io::ErrorKind::AlreadyExists)
    {
        let _ = fs::remove_file(lock);
    }
    copied
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    match (a.symlink_metadata(), b.symlink_metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Syncs a file or folder, if it is there.
fn sync(path: &Path) -> Result<(), IndexError> {
    match File::open(path).and_then(|file| file.sync_all()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(IndexError::io("sync", path)(e)),
        _ => Ok(()),
    }
}

fn reset(
    worktree: &Worktree,
    index: &Path,
    tree: ObjectId,
    paths: &[RepoPath],
) -> Result<(), IndexError> {
    let mut git = git_command(&worktree.git_dir, ["reset", "--quiet"]);
    git.env("GIT_WORK_TREE", &worktree.root)
        .env("GIT_INDEX_FILE", index)
        .env("GIT_LITERAL_PATHSPECS", "1")
        .current_dir(&worktree.root);
    git.arg(tree.to_string());
    git.args(["--pathspec-from-file=-", "--pathspec-file-nul"]);
    let mut wanted = Vec::new();
    for path in paths {
        wanted.extend_from_slice(path.as_bstr());
        wanted.push(0);
    }
    if paths.is_empty() || paths.iter().any(|path| path.as_bstr().is_empty()) {
        wanted = b".\0".to_vec();
    }
    let output = feed(git, &wanted).map_err(IndexError::io("run", Path::new("git")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Git(format!("the index cannot follow: {}", said.trim())).into())
}

/// Runs a command on this input.
fn feed(mut command: Command, input: &[u8]) -> io::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Read to its end before anything is said: neither waits for the other.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    child.wait_with_output()
}

fn lock_path(index: &Path) -> PathBuf {
    let mut lock = index.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

fn read(file: &Path) -> Result<Option<Vec<u8>>, IndexError> {
    match fs::read(file) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(IndexError::io("read", file)(e)),
    }
}

fn replace(file: &Path, content: Option<&[u8]>) -> io::Result<()> {
    match content {
        Some(content) => fs::write(file, content),
        None => match fs::remove_file(file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        },
    }
}

fn digest(content: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(content) {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
