//! The staging folder: everything new is written and synced there before the worktree is touched, so
//! that a full disk or a failing filter changes nothing; what is replaced or removed waits there
//! until all is done.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use gix::{bstr::ByteSlice, index::entry::Mode};
use rayon::prelude::*;

use super::{
    CheckoutError, Plan, aside,
    render::{Renderer, attributes_of},
};
use crate::git::{Change, objects::sync};

/// A folder for one checkout.
pub(super) struct Stage {
    folder: PathBuf,
    /// What was written, as it was then, by its name.
    written: HashMap<String, Seen>,
}

/// By what a file is known again after it was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Seen {
    /// A file as it is now; `None` where none is.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let found = path.symlink_metadata().ok()?;
        Some(Self {
            inode: found.ino(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

impl Stage {
    /// Makes it, empty, beside its place: what lies there is never half written.
    pub(super) fn new(place: &Path) -> Result<Self, CheckoutError> {
        let folder = writing(place);
        remove(&folder)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(CheckoutError::io("make", &folder))?;
        Ok(Self::left(&folder))
    }

    /// One that was left, as it is.
    pub(super) fn left(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            written: HashMap::new(),
        }
    }

    /// All is written and synced: it goes to its place. From here on, what lies in it may be the
    /// user's.
    pub(super) fn ready(&mut self, place: &Path) -> Result<(), CheckoutError> {
        let heddle = place.parent().unwrap_or(place);
        if place.symlink_metadata().is_ok() {
            // Nobody knows what it is any more, so nobody may remove it.
            let kept = aside::kept_folder(heddle);
            tracing::warn!("what an earlier restore left is kept in {}", kept.display());
            fs::rename(place, &kept).map_err(CheckoutError::io("move", place))?;
        }
        fs::rename(&self.folder, place).map_err(CheckoutError::io("move", &self.folder))?;
        self.folder = place.to_owned();
        Ok(sync(heddle, &[heddle.to_owned()], false)?)
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// What the change with this number writes, and after it what was there before.
    pub(super) fn new_name(number: usize) -> String {
        format!("new-{number}")
    }

    /// Where what was removed or made way waits.
    pub(super) fn old_name(number: usize) -> String {
        format!("old-{number}")
    }

    /// What was written under this name, as it was then.
    pub(super) fn seen(&self, name: &str) -> Option<Seen> {
        self.written.get(name).copied()
    }

    /// Whether what has this name now is what was written under it, and nobody changed it.
    pub(super) fn is_as_written(&self, name: &str) -> bool {
        let written = self.written.get(name);
        written.is_some_and(|written| Seen::at(&self.folder.join(name)) == Some(*written))
    }

    /// Writes what is to be written, through Git's filters, and syncs it.
    pub(super) fn write(
        &mut self,
        git: &gix::Repository,
        root: &Path,
        plan: &Plan,
    ) -> Result<(), CheckoutError> {
        let writes: Vec<(usize, &Change)> = plan
            .numbered()
            .filter(|(_, change)| change.after.is_some())
            .collect();
        let paths = writes.iter().map(|(_, change)| change.path.as_bstr());
        let attributes = attributes_of(git, plan.to, paths)?;
        let allowed = allowed(git);
        let shared = git.clone().into_sync();
        let symlinks = git
            .config_snapshot()
            .boolean("core.symlinks")
            .unwrap_or(true);
        let renderer = || Renderer::with(shared.to_thread_local(), plan.to, attributes.clone());
        let written: Result<Vec<(String, Seen)>, CheckoutError> = writes
            .par_iter()
            .with_min_len(8)
            .map_init(renderer, |renderer, (number, change)| {
                let renderer = match renderer {
                    Ok(renderer) => renderer,
                    Err(error) => return Err(CheckoutError::Git(error.repeated())),
                };
                let Some(after) = change.after else {
                    return Err(vanished(&self.folder));
                };
                let content = renderer.content(change.path.as_bstr(), after)?;
                let name = Self::new_name(*number);
                let path = self.folder.join(&name);
                write_one((root, allowed), &path, change, &content, symlinks)?;
                let seen = Seen::at(&path).ok_or_else(|| vanished(&path))?;
                Ok((name, seen))
            })
            .collect();
        self.written = written?.into_iter().collect();
        let is_file = |change: &Change| {
            let after = change.after;
            after.is_some_and(|after| after.mode != Mode::SYMLINK)
        };
        let files: Vec<PathBuf> = writes
            .iter()
            .filter(|(_, change)| is_file(change))
            .map(|(number, _)| self.folder.join(Self::new_name(*number)))
            .collect();
        let many = files.len() > 64;
        sync(&self.folder, &files, many)?;
        Ok(sync(
            &self.folder,
            std::slice::from_ref(&self.folder),
            false,
        )?)
    }

    /// Nothing of it is anybody's: it is removed at once.
    pub(super) fn discard(self) {
        if let Err(e) = remove(&self.folder) {
            tracing::warn!("{e}");
        }
    }
}

/// Whether two files, or two links, are the same.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let look = |path: &Path| {
        let found = path.symlink_metadata().ok()?;
        let content = if found.is_symlink() {
            fs::read_link(path)
                .ok()?
                .into_os_string()
                .into_encoded_bytes()
        } else if found.is_file() {
            fs::read(path).ok()?
        } else {
            return None;
        };
        Some((found.mode(), content))
    };
    let (one, other) = (look(one), look(other));
    one.is_some() && one == other
}

/// What the user's own Git allows when it writes a file: the daemon's umask is not the user's, and
/// that of the last Git that wrote here can be seen.
pub(super) fn allowed(git: &gix::Repository) -> u32 {
    let written = [git.index_path(), git.git_dir().join("HEAD")];
    let mut written = written.iter().filter_map(|path| path.metadata().ok());
    written.next().map_or(0o600, |found| found.mode() & 0o666)
}

/// Where the folder that belongs at `place` is written.
pub(super) fn writing(place: &Path) -> PathBuf {
    let mut folder = place.as_os_str().to_owned();
    folder.push("-writing");
    folder.into()
}

/// Removes a folder, if it is there.
pub(super) fn remove(folder: &Path) -> Result<(), CheckoutError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(CheckoutError::io("remove", folder)(e))
        }
        _ => Ok(()),
    }
}

fn vanished(path: &Path) -> CheckoutError {
    CheckoutError::io("find", path)(io::ErrorKind::NotFound.into())
}

fn write_one(
    (root, allowed): (&Path, u32),
    path: &Path,
    change: &Change,
    content: &[u8],
    symlinks: bool,
) -> Result<(), CheckoutError> {
    let fail = |e| CheckoutError::io("write", path)(e);
    let mode = change.after.map(|after| after.mode);
    if mode == Some(Mode::SYMLINK) && symlinks {
        return symlink(std::ffi::OsStr::from_bytes(content), path).map_err(fail);
    }
    let permissions = permissions(root, allowed, change, mode == Some(Mode::FILE_EXECUTABLE));
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(fail)?;
    file.write_all(content).map_err(fail)?;
    file.set_permissions(Permissions::from_mode(permissions))
        .map_err(fail)
}

/// As the file that is replaced, or else as the user's Git would.
fn permissions(root: &Path, allowed: u32, change: &Change, executable: bool) -> u32 {
    let path = root.join(std::ffi::OsStr::from_bytes(&change.path));
    let replaced = path.symlink_metadata().ok().filter(|found| found.is_file());
    let allowed = replaced.map_or(allowed, |found| found.mode() & 0o777);
    if executable {
        allowed | ((allowed & 0o444) >> 2)
    } else {
        allowed & !0o111
    }
}
