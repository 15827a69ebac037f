//! The two heddle folders: `.heddle/`, where clients look and which may be lost at any moment, and
//! `<git-common-dir>/heddle/`, which must not be. Both 0700. Made here and nowhere else.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use super::{Error, Repository, repository::LinkedWorktree};

/// The line that keeps `.heddle/` out of `git status` (gitignore(5), `$GIT_DIR/info/exclude`).
pub(super) const EXCLUDE_LINE: &str = "/.heddle/";

/// What a linked worktree's `.heddle/sockets/` has: links to those of the main one.
pub(super) const LINKED: [&str; 2] = ["grpc.sock", "grpc.pid"];

/// How a path to the socket ends that stands in an address; why is said in `client::address`.
pub const ADDRESS_SUFFIX: &str = "@localhost";

/// The heddle folders of one repository.
#[derive(Debug)]
pub struct Folders<'a> {
    repository: &'a Repository,
}

/// What [`Folders::create`] had to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// `<git-common-dir>/heddle/` was not there.
    pub store: bool,
    /// `.heddle/` was not there.
    pub heddle: bool,
    /// The exclude line was not there.
    pub excluded: bool,
}

impl<'a> Folders<'a> {
    pub(super) fn new(repository: &'a Repository) -> Self {
        Self { repository }
    }

    pub(super) fn repository(&self) -> &Repository {
        self.repository
    }

    /// Makes both folders and the exclude line where they are missing, durably (G4).
    ///
    /// # Errors
    /// When a `.heddle` is there that is tracked by Git, is a link, or is not ours, and when the
    /// disk refuses.
    pub fn create(&self) -> Result<Created, Error> {
        let repository = self.repository;
        refuse_tracked(repository, repository.root(), repository.common_dir())?;
        let store = make_private(&repository.store_dir())?;
        let heddle = make_private(&repository.heddle_dir())?;
        let sockets = repository.heddle_dir().join("sockets");
        make_private(&sockets)?;
        put_link(
            Path::new("grpc.sock"),
            &sockets.join(format!("grpc{ADDRESS_SUFFIX}")),
        )?;
        // A bare repository has no `git status` to keep clean, but its linked worktrees do.
        let bare = repository.root() == repository.common_dir();
        let has_worktree = !bare || !repository.linked_worktrees().is_empty();
        let excluded = has_worktree && self.exclude()?;
        for linked in repository.linked_worktrees() {
            match link_worktree(repository, linked) {
                Err(e) if repository.worktree() == Some(&linked.path) => return Err(e),
                // One worktree that we may not touch is no reason to refuse the others.
                Err(e) => tracing::warn!("no socket link for a linked worktree: {e}"),
                Ok(()) => {}
            }
        }
        Ok(Created {
            store,
            heddle,
            excluded,
        })
    }

    /// Adds the exclude line unless it is there; the file keeps its mode, owner and other lines.
    fn exclude(&self) -> Result<bool, Error> {
        let info = self.repository.common_dir().join("info");
        let path = info.join("exclude");
        let fail = |e| Error::io("write", &path, e);
        let present = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(fail(e)),
        };
        if present
            .split(|byte| *byte == b'\n')
            .any(|line| line.trim_ascii_end() == EXCLUDE_LINE.as_bytes())
        {
            return Ok(false);
        }
        fs::create_dir_all(&info).map_err(|e| Error::io("create", &info, e))?;
        let newline = if present.is_empty() || present.ends_with(b"\n") {
            ""
        } else {
            "\n"
        };
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{newline}{EXCLUDE_LINE}\n").as_bytes()))
            .map_err(fail)?;
        Ok(true)
    }
}

fn refuse_tracked(repository: &Repository, worktree: &Path, git_dir: &Path) -> Result<(), Error> {
    if repository.tracks_heddle(git_dir)? {
        return Err(Error::ForeignFolder {
            path: worktree.join(".heddle"),
            why: "is tracked by Git, so a clone could have brought it",
            remedy: "run `git rm -r --cached .heddle` and commit, if you trust its origin",
        });
    }
    Ok(())
}

/// Gives a linked worktree its `.heddle/` with links to the one socket and pidfile.
fn link_worktree(repository: &Repository, linked: &LinkedWorktree) -> Result<(), Error> {
    refuse_tracked(repository, &linked.path, &linked.git_dir)?;
    let heddle = linked.path.join(".heddle");
    let sockets = heddle.join("sockets");
    make_private(&heddle)?;
    make_private(&sockets)?;
    for name in LINKED {
        let target = repository.heddle_dir().join("sockets").join(name);
        put_link(&target, &sockets.join(name))?;
    }
    Ok(())
}

/// Puts a link at `path`. Whatever else lies there would hide this repository's socket.
fn put_link(target: &Path, path: &Path) -> Result<(), Error> {
    let leads_there = || fs::read_link(path).is_ok_and(|current| current == target);
    if leads_there() {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("replace", path, e));
        }
        _ => {}
    }
    match symlink(target, path) {
        // Another daemon that starts at the same moment made it.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && leads_there() => Ok(()),
        made => made.map_err(|e| Error::io("create", path, e)),
    }
}

/// Makes a 0700 folder of ours, or checks that the one there is; true if it was made.
fn make_private(path: &Path) -> Result<bool, Error> {
    let made = match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
        Err(e) => return Err(Error::io("create", path, e)),
    };
    let found = path
        .symlink_metadata()
        .map_err(|e| Error::io("look at", path, e))?;
    let foreign = |why, remedy| Error::ForeignFolder {
        path: path.to_owned(),
        why,
        remedy,
    };
    if found.is_symlink() {
        return Err(foreign("is a symbolic link", "remove it and try again"));
    }
    if !found.is_dir() {
        return Err(foreign("is not a folder", "move it away and try again"));
    }
    if found.uid() != nix::unistd::Uid::effective().as_raw() {
        return Err(foreign(
            "belongs to another user",
            "run heddle as its owner, or remove it",
        ));
    }
    if made {
        sync_parent(path)?;
    } else if found.mode() & 0o777 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(|e| Error::io("make private", path, e))?;
    }
    Ok(made)
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(path);
    fs::File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| Error::io("sync", parent, e))
}
