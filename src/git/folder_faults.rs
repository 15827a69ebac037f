//! Looking at the heddle folders: what of them is not as [`Folders::create`] makes it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Folders, Repository, folders::EXCLUDE_LINE, repository::LinkedWorktree};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFault {
    /// Where.
    pub path: PathBuf,
    /// What is wrong there: what follows the path in a sentence.
    pub what: String,
    /// What somebody has to do about it; `None` where [`Folders::create`] mends it.
    pub remedy: Option<&'static str>,
}

impl FolderFault {
    fn mendable(path: &Path, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            what: what.into(),
            remedy: None,
        }
    }

    fn new(path: &Path, what: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            remedy: Some(remedy),
            ..Self::mendable(path, what)
        }
    }
}

const UNTRACK: &str = "run `git rm -r --cached .heddle` there and commit that";
const GIVE_BACK: &str = "give it back with `chown`, or run heddle as its owner";

impl Folders<'_> {
    /// What is wrong with the folders of the main worktree and of the Git folder.
    pub fn faults(&self) -> Vec<FolderFault> {
        let repository = self.repository();
        let heddle = repository.heddle_dir();
        let folders = [
            repository.store_dir(),
            heddle.clone(),
            heddle.join("sockets"),
        ];
        let mut faults: Vec<_> = folders.iter().filter_map(|path| private(path)).collect();
        let files = ["heddle.db", "heddle.db-wal", "lock", "config.toml"];
        let files = files.iter().map(|name| repository.store_dir().join(name));
        faults.extend(files.filter_map(|path| ours_alone(&path)));
        if matches!(repository.tracks_heddle(repository.common_dir()), Ok(true)) {
            faults.push(FolderFault::new(&heddle, "is tracked by Git", UNTRACK));
        }
        faults.extend(self.not_excluded());
        faults
    }

    /// What is wrong with the links of linked worktrees to the one socket.
    pub fn link_faults(&self) -> Vec<FolderFault> {
        let linked = self.repository().linked_worktrees().iter();
        linked
            .flat_map(|linked| link_faults(self.repository(), linked))
            .collect()
    }

    fn not_excluded(&self) -> Option<FolderFault> {
        let repository = self.repository();
        let bare = repository.root() == repository.common_dir();
        if bare && repository.linked_worktrees().is_empty() {
            return None;
        }
        let path = repository.common_dir().join("info/exclude");
        let text = fs::read(&path).unwrap_or_default();
        let there = text
            .split(|byte| *byte == b'\n')
            .any(|line| line.trim_ascii_end() == EXCLUDE_LINE.as_bytes());
        let what = format!("lacks the line {EXCLUDE_LINE}, so that `git status` shows .heddle");
        (!there).then(|| FolderFault::mendable(&path, what))
    }
}

fn link_faults(repository: &Repository, linked: &LinkedWorktree) -> Vec<FolderFault> {
    let heddle = linked.path.join(".heddle");
    let sockets = heddle.join("sockets");
    let mut faults: Vec<_> = [&heddle, &sockets]
        .into_iter()
        .filter_map(|path| private(path))
        .collect();
    if matches!(repository.tracks_heddle(&linked.git_dir), Ok(true)) {
        faults.push(FolderFault::new(&heddle, "is tracked by Git", UNTRACK));
    }
    if faults.is_empty() {
        faults.extend(super::folders::LINKED.iter().filter_map(|name| {
            let path = sockets.join(name);
            let target = repository.heddle_dir().join("sockets").join(name);
            let leads_there = fs::read_link(&path).is_ok_and(|found| found == target);
            let what = format!("does not lead to {}", target.display());
            (!leads_there).then(|| FolderFault::mendable(&path, what))
        }));
    }
    faults
}

/// What keeps a path from being a folder that is ours and nobody else's.
fn private(path: &Path) -> Option<FolderFault> {
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Some(FolderFault::mendable(path, "is missing"));
        }
        Err(e) => {
            let remedy = "look at the permissions of the folders above it";
            return Some(FolderFault::new(
                path,
                format!("cannot be looked at: {e}"),
                remedy,
            ));
        }
    };
    let mode = found.mode() & 0o777;
    if found.is_symlink() {
        Some(FolderFault::new(path, "is a symbolic link", "remove it"))
    } else if !found.is_dir() {
        Some(FolderFault::new(path, "is not a folder", "move it away"))
    } else if let Some(fault) = foreign(path, &found) {
        Some(fault)
    } else if mode != 0o700 {
        let what = format!("has the mode {mode:03o}, and should have 700");
        Some(FolderFault::mendable(path, what))
    } else {
        None
    }
}

/// What keeps a file from being ours and nobody else's to write. A link has no mode of its own.
fn ours_alone(path: &Path) -> Option<FolderFault> {
    let found = path.metadata().ok()?;
    let mode = found.mode() & 0o777;
    foreign(path, &found).or_else(|| {
        let what = format!("has the mode {mode:03o}, so that others may write it");
        let fault = || FolderFault::new(path, what, "run `chmod 600` on it");
        (mode & 0o022 != 0).then(fault)
    })
}

fn foreign(path: &Path, found: &fs::Metadata) -> Option<FolderFault> {
    let ours = found.uid() == nix::unistd::Uid::effective().as_raw();
    let what = format!("belongs to the user {}", found.uid());
    (!ours).then(|| FolderFault::new(path, what, GIVE_BACK))
}
