//! The worktrees of a repository: finding the one that is meant, and adding one.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Error, Repository, StateId};
use crate::child::child;

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
    /// gives it its `.heddle/`.
    ///
    /// # Errors
    /// What Git says.
    pub fn add_worktree(&self, path: &Path, commit: StateId) -> Result<Worktree, Error> {
        let commit = commit.to_string();
        let mut add = self.git_command(["worktree", "add", "--detach", "--quiet"]);
        run(add.arg("--").arg(path).arg(&commit))?;
        let added = self.worktree_at(path).ok_or_else(|| Error::Unreadable {
            path: path.to_owned(),
            reason: "git made no worktree there".to_owned(),
        })?;
        Self::open(&added.root)?.folders().create()?;
        Ok(added)
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
