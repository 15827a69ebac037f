//! Where the user stands: which worktree is meant, and what a path means that is written from there.

use std::{
    ffi::OsStr,
    ops::ControlFlow,
    path::{Component, Path, PathBuf},
};

use tonic::{Response, Status};

use super::{
    Error, Result,
    link::{Link, Surroundings},
    progress::Progress,
};
use crate::{
    client,
    failure::{Failure, Reason},
    git::Repository,
};

/// The worktree that a command is about, and its daemon.
pub(super) struct Here {
    repository: Repository,
    /// What requests name the worktree by: nothing for the main one.
    repo_path: String,
}

impl Here {
    /// The worktree that the repository was opened from.
    ///
    /// # Errors
    /// When it is a linked one whose path is not UTF-8, which no request can carry.
    pub(super) fn new(repository: Repository) -> Result<Self> {
        let linked = repository
            .worktree()
            .filter(|worktree| *worktree != repository.root());
        let repo_path = match linked {
            Some(worktree) => utf8(worktree.as_os_str(), "the worktree")?.to_owned(),
            None => String::new(),
        };
        Ok(Self {
            repository,
            repo_path,
        })
    }

    /// The repository, opened from the worktree.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What a request gives as `repo_path`.
    pub(super) fn repo_path(&self) -> String {
        self.repo_path.clone()
    }

    /// Sends a call to the daemon, which is started where none serves; says on a terminal that it
    /// is `doing` that when it takes longer than a moment.
    pub(super) async fn call<T>(
        &self,
        doing: &'static str,
        send: impl AsyncFn(Link) -> std::result::Result<Response<T>, Status>,
    ) -> Result<T> {
        let progress = Progress::new(doing);
        let warn = |message: &str| progress.warning(message);
        let around = Surroundings::from_environment();
        let send = async |channel| send(around.link(channel)).await;
        let call = client::call(&self.repository, &warn, send);
        Ok(progress.during(call).await?)
    }

    /// Follows a stream across restarts of the daemon: see [`client::follow`].
    pub(super) async fn follow<T, P: Copy>(
        &self,
        after: P,
        open: impl AsyncFn(Link, P) -> std::result::Result<Response<tonic::Streaming<T>>, Status>,
        take: impl FnMut(T) -> Result<ControlFlow<(), P>>,
    ) -> Result<()> {
        let around = Surroundings::from_environment();
        let open = async |channel, after| open(around.link(channel), after).await;
        let warn = &super::output::warning;
        client::follow(&self.repository, warn, after, open, take).await
    }

    /// A path as requests carry it, from the worktree's root; empty for the root itself. A relative
    /// one starts at the current folder, wherever the repository is.
    ///
    /// # Errors
    /// When it leads out of the worktree, or is not UTF-8.
    pub(super) fn path(&self, written: &OsStr) -> Result<String> {
        let Some(root) = self.repository.worktree() else {
            // The daemon says that there is no worktree, and what to do.
            return Ok(utf8(written, "the path")?.to_owned());
        };
        let folder = current_folder()?;
        let path = normal(&folder.join(written));
        let inside = path.strip_prefix(root).map(Path::to_owned).ok();
        // An absolute one may come through a link from outside, such as /tmp on macOS.
        let inside =
            inside.or_else(|| resolved(&path)?.strip_prefix(root).map(Path::to_owned).ok());
        let inside = inside.or_else(|| (path.canonicalize().ok()? == root).then(PathBuf::new));
        match inside {
            Some(inside) => Ok(utf8(inside.as_os_str(), "the path")?.to_owned()),
            None => Err(outside(written, &folder, root)),
        }
    }

    /// A path from the worktree's root, as it is written from the current folder.
    pub(super) fn shown(&self, path: &str) -> String {
        let folder = current_folder().ok().zip(self.repository.worktree());
        let below =
            folder.and_then(|(folder, root)| folder.strip_prefix(root).ok().map(Path::to_owned));
        let below = below.unwrap_or_default();
        let path = Path::new(path);
        let both = below.components().zip(path.components());
        let shared = both.take_while(|(one, other)| one == other).count();
        let mut shown: PathBuf = below.components().skip(shared).map(|_| "..").collect();
        shown.extend(path.components().skip(shared));
        shown.to_string_lossy().into_owned()
    }

    /// The paths as requests carry them: none for everything.
    ///
    /// # Errors
    /// As [`Here::path`].
    pub(super) fn paths(&self, written: &[impl AsRef<OsStr>]) -> Result<Vec<String>> {
        let paths = written.iter().map(|path| self.path(path.as_ref()));
        let paths = paths.collect::<Result<Vec<_>>>()?;
        let everything = paths.iter().any(String::is_empty);
        Ok(if everything { Vec::new() } else { paths })
    }
}

/// Whether something lies at a path that is written from the current folder; a link counts.
pub(super) fn exists(written: &OsStr) -> bool {
    !written.is_empty() && Path::new(written).symlink_metadata().is_ok()
}

/// A path that does not need to exist yet, as requests carry it: absolute.
///
/// # Errors
/// When it is not UTF-8.
pub(super) fn absolute(written: &Path) -> Result<String> {
    let path = normal(&current_folder()?.join(written));
    Ok(utf8(path.as_os_str(), "the path")?.to_owned())
}

fn current_folder() -> Result<PathBuf> {
    std::env::current_dir().map_err(Error::io("find the current folder"))
}

/// Without `.` and `..`. The current folder is free of links, so that `..` is what it seems.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

/// The path with the links in its folder resolved, but not one that it is itself.
fn resolved(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    let folder = path.parent()?;
    let folder = match folder.canonicalize() {
        Ok(folder) => folder,
        Err(_) => resolved(folder)?,
    };
    Some(folder.join(name))
}

fn outside(written: &OsStr, folder: &Path, root: &Path) -> Error {
    let from = if Path::new(written).is_absolute() {
        String::new()
    } else {
        format!(" (written from {})", folder.display())
    };
    let message = format!(
        "the path {written:?}{from} lies outside of the worktree {}; give one inside it",
        root.display()
    );
    Failure::new(Reason::PathInvalid, message).into()
}

fn utf8<'a>(text: &'a OsStr, what: &str) -> Result<&'a str> {
    text.to_str().ok_or_else(|| {
        let message = format!(
            "{what} {text:?} is not UTF-8, and requests carry nothing else; name a folder around it"
        );
        Failure::new(Reason::PathInvalid, message).into()
    })
}
