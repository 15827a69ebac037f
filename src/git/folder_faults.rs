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
}

impl FolderFault {
    fn new(path: &Path, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            what: what.into(),
        }
    }
}

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
            let what = "is tracked by Git; run `git rm -r --cached .heddle` and commit that";
            faults.push(FolderFault::new(&heddle, what));
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
        (!there).then(|| FolderFault::new(&path, what))
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
        let what = "is tracked by Git; run `git rm -r --cached .heddle` there and commit that";
        faults.push(FolderFault::new(&heddle, what));
    }
    if faults.is_empty() {
        faults.extend(super::folders::LINKED.iter().filter_map(|name| {
            let path = sockets.join(name);
            let target = repository.heddle_dir().join("sockets").join(name);
            let leads_there = fs::read_link(&path).is_ok_and(|found| found == target);
            let what = format!("does not lead to {}", target.display());
            (!leads_there).then(|| FolderFault::new(&path, what))
        }));
    }
    faults
}

/// What keeps a path from being a folder that is ours and nobody else's.
fn private(path: &Path) -> Option<FolderFault> {
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Some(FolderFault::new(path, "is missing"));
        }
        Err(e) => return Some(FolderFault::new(path, format!("cannot be looked at: {e}"))),
    };
    let what = if found.is_symlink() {
        "is a symbolic link; remove it".to_owned()
    } else if !found.is_dir() {
        "is not a folder; move it away".to_owned()
    } else if !is_ours(&found) {
        format!(
            "belongs to the user {}; give it back with `chown`",
            found.uid()
        )
    } else if found.mode() & 0o777 != 0o700 {
        let mode = found.mode() & 0o777;
        format!("has the mode {mode:03o}, which should be 700")
    } else {
        return None;
    };
    Some(FolderFault::new(path, what))
}

/// A file that others may write, or that is not ours.
fn ours_alone(path: &Path) -> Option<FolderFault> {
    let found = path.symlink_metadata().ok()?;
    let what = if !is_ours(&found) {
        format!(
            "belongs to the user {}; give it back with `chown`",
            found.uid()
        )
    } else if found.mode() & 0o022 != 0 {
        let mode = found.mode() & 0o777;
        format!("has the mode {mode:03o}: others may write it; run `chmod 600` on it")
    } else {
        return None;
    };
    Some(FolderFault::new(path, what))
}

fn is_ours(found: &fs::Metadata) -> bool {
    found.uid() == nix::unistd::Uid::effective().as_raw()
}
