//! `Repository`: a Git repository as the daemon and its clients see it. It is resolved once, at the
//! edge, into absolute paths; a repository that heddle must not serve never becomes a value.

use std::{
    io,
    path::{Path, PathBuf},
};

use gix::bstr::{BStr, ByteSlice};

use super::{Folders, IdentitySource, filesystem};
use crate::failure::{Failure, Reason};

/// Why a path cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing there that Git would work in.
    #[error(
        "{} is not inside a Git repository; run `git init` there first, or name another path with --repo",
        path.display()
    )]
    NotARepository {
        /// The path asked for.
        path: PathBuf,
    },
    /// Git's own `safe.directory` rule (git-config(1)) refuses it.
    #[error(
        "{} belongs to another user, and Git's safe.directory rule refuses it; if you trust it, run `git config --global --add safe.directory {}`",
        path.display(), path.display()
    )]
    Unsafe {
        /// The repository's root.
        path: PathBuf,
    },
    /// Locks and SQLite's WAL do not hold on a network filesystem.
    #[error(
        "{} is on a network filesystem ({kind}), where file locks and SQLite's write-ahead log do not hold; clone the repository to a local disk",
        path.display()
    )]
    NetworkFilesystem {
        /// The folder in question.
        path: PathBuf,
        /// The kernel's name of the filesystem.
        kind: String,
    },
    /// The `.heddle` folder is not one that we may use.
    #[error("{} {why}; {remedy}", path.display())]
    ForeignFolder {
        /// The `.heddle` folder.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A folder cannot be looked at, made or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Git's data could not be read.
    #[error("cannot read the Git repository at {}: {reason}", path.display())]
    Unreadable {
        /// The path asked for.
        path: PathBuf,
        /// What the Git library says.
        reason: String,
    },
    /// A tree's folders lie deeper than they may.
    #[error(
        "a tree has folders more than {MAX_TREE_DEPTH} deep, below {folder}: neither heddle nor Git (core.maxTreeDepth) goes so deep; leave that folder out of it"
    )]
    TooDeep {
        /// Where it begins.
        folder: String,
    },
    /// A path has more bytes than the system takes.
    #[error(
        "a file below {folder} has a path of {bytes} bytes with the worktree's own before it, and the system takes {PATH_LIMIT}; move the worktree to a shorter path, or leave that folder out"
    )]
    PathTooLong {
        /// Where it begins.
        folder: String,
        /// Its length, from the system's root.
        bytes: usize,
    },
    /// Git itself refused something.
    #[error("{0}")]
    Git(String),
    /// Git was ended, as nobody waited for it any more.
    #[error("Git was ended at the call's deadline; call again with a longer one")]
    Late,
}

/// Bytes that an absolute path can have: the system counts the NUL at its end.
const PATH_LIMIT: usize = nix::libc::PATH_MAX as usize - 1;

/// How deep folders may lie in each other: what Git reads (git-config(1), core.maxTreeDepth), and what
/// the system's paths have room for.
pub(super) const MAX_TREE_DEPTH: usize = 2_048;

impl Error {
    pub(super) fn unreadable(git: &gix::Repository, error: &gix::Error) -> Self {
        Self::Unreadable {
            path: git.git_dir().to_owned(),
            reason: error.to_string(),
        }
    }

    /// An error about a folder too deep; its path would fill pages.
    pub(super) fn too_deep(path: &BStr) -> Self {
        Self::TooDeep {
            folder: first_folder(path),
        }
    }

    /// Refuses a path in the worktree at `root` that is too long with that before it: it cannot be
    /// looked at, nor written.
    pub(super) fn check_length(root: &Path, path: &BStr) -> Result<(), Self> {
        let bytes = root.as_os_str().len() + 1 + path.len();
        if bytes <= PATH_LIMIT {
            return Ok(());
        }
        let folder = first_folder(path);
        Err(Self::PathTooLong { folder, bytes })
    }

    /// The reason that callers are told.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::TooDeep { .. } => Reason::TreeTooDeep,
            Self::PathTooLong { .. } => Reason::WorktreeUnreadable,
            _ => Reason::RepositoryRefused,
        }
    }

    /// The same error, for another thread that met it.
    pub(super) fn repeated(&self) -> Self {
        Self::Git(self.to_string())
    }

    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

fn first_folder(path: &BStr) -> String {
    let slash = path.find_char('/').unwrap_or(path.len());
    super::shown_path(path[..slash].as_bstr())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(error.reason(), error.to_string())
    }
}

/// A Git repository: the main worktree and all linked ones, with one object database, one heddle
/// store, one daemon.
#[derive(Debug, Clone)]
pub struct Repository {
    root: PathBuf,
    worktree: Option<PathBuf>,
    git_dir: PathBuf,
    common_dir: PathBuf,
    linked_worktrees: Vec<LinkedWorktree>,
    object_hash: gix::hash::Kind,
}

/// A linked worktree (git-worktree(1)) that is on this machine's disks now.
#[derive(Debug, Clone)]
pub struct LinkedWorktree {
    /// Where its files are.
    pub path: PathBuf,
    /// Its own Git folder, which holds its index.
    pub git_dir: PathBuf,
}

impl Repository {
    /// Opens the repository that `path` lies in: a worktree, a linked worktree, a bare repository
    /// or any folder inside them. Nothing is written.
    ///
    /// # Errors
    /// When there is none, when `safe.directory` refuses it, and when it is on a network filesystem.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let asked = std::path::absolute(path).map_err(|e| match std::env::current_dir() {
            Err(_) => Error::Git(
                "the current folder is gone; change to one that is there, or name one with --repo"
                    .to_owned(),
            ),
            Ok(_) => Error::io("resolve", path, e),
        })?;
        let start = asked
            .canonicalize()
            .map_err(|e| Error::io("open", &asked, e))?;
        let discovered = discover(&start)?;

        let git_dir = canonical(discovered.git_dir())?;
        let common_dir = canonical(discovered.common_dir())?;
        let worktree = discovered.workdir().map(canonical).transpose()?;
        let unreadable = |e: gix::Error| Error::Unreadable {
            path: start.clone(),
            reason: e.to_string(),
        };
        let root = if git_dir == common_dir {
            worktree.clone()
        } else {
            let main = discovered.main_repo().map_err(unreadable)?;
            // The main worktree of a linked one may be gone from the disk; the Git folder is not.
            main.workdir().and_then(|path| path.canonicalize().ok())
        }
        .unwrap_or_else(|| common_dir.clone());

        let linked_worktrees = discovered
            .worktrees()
            .map_err(unreadable)?
            .iter()
            .filter_map(|proxy| {
                Some(LinkedWorktree {
                    path: proxy.base().ok()?.canonicalize().ok()?,
                    git_dir: proxy.git_dir().canonicalize().ok()?,
                })
            })
            .collect();
        let repository = Self {
            root,
            worktree,
            git_dir,
            common_dir,
            linked_worktrees,
            object_hash: discovered.object_hash(),
        };
        repository.refuse_unsafe(&discovered)?;
        Ok(repository)
    }

    fn refuse_unsafe(&self, discovered: &gix::Repository) -> Result<(), Error> {
        if discovered.git_dir_trust() != gix::sec::Trust::Full {
            return Err(Error::Unsafe {
                path: self.worktree.as_ref().unwrap_or(&self.git_dir).clone(),
            });
        }
        for path in [&self.common_dir, &self.root] {
            if let Some(kind) = filesystem::network_kind(path)? {
                return Err(Error::NetworkFilesystem {
                    path: path.clone(),
                    kind,
                });
            }
        }
        Ok(())
    }

    /// What the repository is called: the absolute path of its main worktree, or of the Git folder
    /// when it is bare.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The worktree that it was opened from; `None` in a bare repository.
    pub fn worktree(&self) -> Option<&Path> {
        self.worktree.as_deref()
    }

    /// The Git folder shared by all worktrees (`git rev-parse --git-common-dir`).
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// The Git folder of the worktree that it was opened from (`git rev-parse --git-dir`).
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The linked worktrees that are on this machine's disks now.
    pub fn linked_worktrees(&self) -> &[LinkedWorktree] {
        &self.linked_worktrees
    }

    /// The heddle folder that clients look in, beside the main worktree's files.
    pub fn heddle_dir(&self) -> PathBuf {
        self.root.join(".heddle")
    }

    /// The folder of what must not be lost or forged, which no clone can bring.
    pub fn store_dir(&self) -> PathBuf {
        self.common_dir.join("heddle")
    }

    /// True when `path` lies in this repository, however it is spelled.
    pub fn contains(&self, path: &Path) -> bool {
        Self::open(path).is_ok_and(|other| other.common_dir == self.common_dir)
    }

    /// The function that names its objects.
    pub(super) fn object_hash(&self) -> gix::hash::Kind {
        self.object_hash
    }

    /// Both heddle folders, not made yet.
    pub fn folders(&self) -> Folders<'_> {
        Folders::new(self)
    }

    /// Reads the identity that Git is configured with, again whenever the configuration changed.
    pub fn identity_source(&self) -> IdentitySource {
        IdentitySource::new(self.git_dir.clone())
    }

    /// Opens Git on the repository, without a worktree in mind.
    pub(super) fn open_git(&self) -> Result<gix::Repository, gix::Error> {
        open_git(&self.common_dir)
    }

    /// True when the index in `git_dir` has `.heddle`, or a file below it.
    pub(super) fn tracks_heddle(&self, git_dir: &Path) -> Result<bool, Error> {
        let path = git_dir.join("index");
        if !path.exists() {
            return Ok(false);
        }
        let index = gix::index::File::at(&path, self.object_hash, true, Default::default())
            .map_err(|e| Error::Unreadable {
                path,
                reason: e.to_string(),
            })?;
        let below = index.prefixed_entries(".heddle/".into()).is_some();
        Ok(below || index.entry_by_path(".heddle".into()).is_some())
    }
}

fn discover(start: &Path) -> Result<gix::Repository, Error> {
    let options = gix::discover::upwards::Options::default().apply_environment();
    gix::ThreadSafeRepository::discover_opts(start, options, Default::default())
        .map(gix::Repository::from)
        .map_err(|e| {
            if e.is_not_found() {
                Error::NotARepository {
                    path: start.to_owned(),
                }
            } else {
                Error::Unreadable {
                    path: start.to_owned(),
                    reason: e.to_string(),
                }
            }
        })
}

/// Opens Git's own folder, as configured by files and not by the environment that the daemon
/// happens to have.
pub(super) fn open_git(git_dir: &Path) -> Result<gix::Repository, gix::Error> {
    let mut permissions = gix::open::Permissions::all();
    permissions.config.env = false;
    permissions.env.git_prefix = gix::sec::Permission::Deny;
    permissions.env.objects = gix::sec::Permission::Deny;
    let options = gix::open::Options::default()
        .permissions(permissions)
        .with(gix::sec::Trust::Full)
        // A state is what was captured, whatever git-replace(1) shows in its place.
        .config_overrides(["core.useReplaceRefs=false"])
        .open_path_as_is(true);
    Ok(gix::ThreadSafeRepository::open_opts(git_dir, options)?.to_thread_local())
}

fn canonical(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize()
        .map_err(|e| Error::io("resolve", path, e))
}
