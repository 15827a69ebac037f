//! Moving files between the staging folder and the worktree. Every path is walked folder by folder
//! from the root, and never through a link, so that nothing outside of it can be reached. Each move
//! is one rename(2) and is remembered, so that it can be undone.

mod folders;
mod undo;

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use gix::bstr::{BStr, BString, ByteSlice};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, renameat},
    sys::stat::{Mode, fstatat},
};

use super::{
    CheckoutError,
    aside::{Needless, tidy},
    stage::{Seen, Stage},
};

/// The moves of one checkout.
pub(super) struct Moves {
    root: PathBuf,
    allowed: u32,
    top: OwnedFd,
    staged: OwnedFd,
    stage: Stage,
    done: Vec<Done>,
    /// What was moved aside and judged, as it was then.
    judged: Needless,
    last: Option<(BString, OwnedFd)>,
    /// While it goes up from folder to folder: those around the last one, the nearest at the end.
    around: Option<VecDeque<(BString, OwnedFd)>>,
}

enum Done {
    Removed(usize, BString),
    Replaced(usize, BString),
    Added(usize, BString),
    MadeFolder(BString),
    RemovedFolder(BString, Mode),
    /// Something was put back here.
    PutBack(BString),
}

impl Done {
    fn path(&self) -> &BString {
        match self {
            Self::Removed(_, path)
            | Self::Replaced(_, path)
            | Self::Added(_, path)
            | Self::MadeFolder(path)
            | Self::RemovedFolder(path, _)
            | Self::PutBack(path) => path,
        }
    }
}

/// An open folder and a name in it.
struct Folder<'a> {
    folder: &'a OwnedFd,
    name: &'a OsStr,
}

const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

type Still<'f> = &'f mut dyn FnMut(&Path) -> Result<bool, CheckoutError>;

impl Moves {
    /// Moves in the worktree at `root`, where the user's own Git gives files the mode `allowed`.
    pub(super) fn new(root: &Path, allowed: u32, stage: Stage) -> Result<Self, CheckoutError> {
        let open = |path: &Path| {
            let opened = open(path, FOLDER, Mode::empty());
            opened.map_err(|e| CheckoutError::io("open", path)(e.into()))
        };
        Ok(Self {
            top: open(root)?,
            staged: open(stage.path())?,
            root: root.to_owned(),
            allowed,
            stage,
            done: Vec::new(),
            judged: Needless::new(),
            last: None,
            around: None,
        })
    }

    /// Moves a file aside; `still` looks at it there, and says whether it is the one expected.
    /// Folders that become empty go with it.
    pub(super) fn remove(
        &mut self,
        at: usize,
        path: &BStr,
        mut still: impl FnMut(&Path) -> Result<bool, CheckoutError>,
    ) -> Result<(), CheckoutError> {
        self.move_aside(at, path, &mut still)?;
        self.remove_empty_folders(path)
    }

    fn move_aside(
        &mut self,
        at: usize,
        path: &BStr,
        still: Still<'_>,
    ) -> Result<(), CheckoutError> {
        let aside = Stage::old_name(at);
        self.open_parent(path, false)?;
        let place = self.place(path);
        renameat(place.folder, place.name, &self.staged, aside.as_str())
            .map_err(|e| self.refused("move", path, e))?;
        self.done.push(Done::Removed(at, path.to_owned()));
        self.check(path, &aside, still)
    }

    /// Puts a new file in the place of one; `still` as in [`Moves::remove`].
    pub(super) fn replace(
        &mut self,
        at: usize,
        path: &BStr,
        mut still: impl FnMut(&Path) -> Result<bool, CheckoutError>,
    ) -> Result<(), CheckoutError> {
        let new = Stage::new_name(at);
        self.open_parent(path, false)?;
        match self.exchange(path, &new) {
            Ok(()) => {
                self.done.push(Done::Replaced(at, path.to_owned()));
                self.check(path, &new, &mut still)
            }
            // Not on this filesystem: two moves, and a moment without the file.
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {
                self.move_aside(at, path, &mut still)?;
                self.add(at, path)
            }
            Err(error) => Err(self.refused("replace", path, error)),
        }
    }

    /// Puts a new file where nothing is.
    pub(super) fn add(&mut self, at: usize, path: &BStr) -> Result<(), CheckoutError> {
        let new = Stage::new_name(at);
        self.open_parent(path, true)?;
        if self.remove_hollow_folder(path)? {
            tracing::debug!("an empty folder made way for {path}");
            self.open_parent(path, true)?;
        }
        match self.put(&new, path) {
            Ok(()) => {
                self.done.push(Done::Added(at, path.to_owned()));
                Ok(())
            }
            Err(Errno::EEXIST) => Err(CheckoutError::InTheWay {
                path: path.to_owned(),
            }),
            Err(error) => Err(self.refused("write", path, error)),
        }
    }

    fn check(&mut self, path: &BStr, aside: &str, still: Still<'_>) -> Result<(), CheckoutError> {
        let file = self.staged_path(aside);
        let seen = Seen::at(&file);
        if still(&file)? {
            self.judged
                .insert(aside.to_owned(), (path.to_owned(), seen));
            return Ok(());
        }
        Err(CheckoutError::Changed {
            path: path.to_owned(),
        })
    }

    /// Takes the file at a path into the staging folder.
    pub(super) fn take(&mut self, path: &BStr, name: &str) -> Result<(), CheckoutError> {
        self.open_parent(path, false)?;
        self.note(path);
        let place = self.place(path);
        renameat(place.folder, place.name, &self.staged, name)
            .map_err(|e| self.refused("move", path, e))
    }

    /// Gives a staged file to where nothing is; leaves it where something is.
    pub(super) fn give(&mut self, path: &BStr, name: &str) -> Result<(), CheckoutError> {
        self.open_parent(path, true)?;
        self.note(path);
        match self.put(name, path) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(error) => Err(self.refused("put back", path, error)),
        }
    }

    /// A staged file and the one at a path change places.
    pub(super) fn swap(&mut self, path: &BStr, name: &str) -> Result<(), CheckoutError> {
        self.open_parent(path, false)?;
        self.note(path);
        let swapped = match self.exchange(path, name) {
            // Not on this filesystem: three moves.
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {
                let (place, spare) = (self.place(path), format!("spare-{name}"));
                renameat(place.folder, place.name, &self.staged, spare.as_str())
                    .and_then(|()| self.put(name, path))
                    .and_then(|()| renameat(&self.staged, spare.as_str(), &self.staged, name))
            }
            exchanged => exchanged,
        };
        swapped.map_err(|e| self.refused("put back", path, e))
    }

    /// Something is about to be moved at a path.
    fn note(&mut self, path: &BStr) {
        self.done.push(Done::PutBack(path.to_owned()));
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a staged file lies.
    pub(super) fn staged_path(&self, name: &str) -> PathBuf {
        self.stage.path().join(name)
    }

    /// All of it stays: what was moved aside is removed.
    pub(super) fn keep(self) {
        tidy(self.stage.path(), self.judged);
    }

    /// All of it was undone.
    pub(super) fn discard(self) {
        self.stage.discard();
    }

    /// The folders in which something was moved.
    pub(super) fn touched(&self) -> Vec<PathBuf> {
        let folder_of = |path: &BString| {
            let path = self.root.join(OsStr::from_bytes(path));
            path.parent().map(Path::to_owned)
        };
        let touched: BTreeSet<PathBuf> = self
            .done
            .iter()
            .filter_map(|done| folder_of(done.path()))
            .filter(|folder| folder.is_dir())
            .collect();
        touched.into_iter().collect()
    }

    fn place<'p>(&'p self, path: &'p BStr) -> Folder<'p> {
        let name = path
            .rfind_byte(b'/')
            .map_or(path, |slash| path[slash + 1..].as_bstr());
        Folder {
            folder: self.last.as_ref().map_or(&self.top, |(_, folder)| folder),
            name: OsStr::from_bytes(name),
        }
    }

    /// Whether what lies at a path is what was staged for it, as it was then.
    pub(super) fn is_as_put(&self, number: usize, path: &BStr) -> bool {
        let lies_at = self.root.join(OsStr::from_bytes(path));
        let staged = self.stage.seen(&Stage::new_name(number));
        staged.is_some() && staged == Seen::at(&lies_at)
    }

    /// A staged file goes to where nothing is.
    fn put(&self, staged: &str, path: &BStr) -> Result<(), Errno> {
        let place = self.place(path);
        #[cfg(target_os = "linux")]
        {
            use nix::fcntl::{RenameFlags, renameat2};
            let flags = RenameFlags::RENAME_NOREPLACE;
            match renameat2(&self.staged, staged, place.folder, place.name, flags) {
                Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {}
                moved => return moved,
            }
        }
        match fstatat(place.folder, place.name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => renameat(&self.staged, staged, place.folder, place.name),
            Err(error) => Err(error),
            Ok(_) => Err(Errno::EEXIST),
        }
    }

    /// A staged file and the one at `path` change places, in one step.
    #[cfg(target_os = "linux")]
    fn exchange(&self, path: &BStr, staged: &str) -> Result<(), Errno> {
        use nix::fcntl::{RenameFlags, renameat2};
        let place = self.place(path);
        let flags = RenameFlags::RENAME_EXCHANGE;
        renameat2(
            &self.staged,
            staged,
            place.folder.as_fd(),
            place.name,
            flags,
        )
    }

    #[cfg(not(target_os = "linux"))]
    fn exchange(&self, _: &BStr, _: &str) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }

    fn refused(&self, action: &'static str, path: &BStr, error: Errno) -> CheckoutError {
        match error {
            Errno::ENOENT => CheckoutError::Changed {
                path: path.to_owned(),
            },
            Errno::ELOOP | Errno::ENOTDIR | Errno::EISDIR | Errno::ENOTEMPTY => {
                CheckoutError::InTheWay {
                    path: path.to_owned(),
                }
            }
            Errno::EXDEV | Errno::EBUSY => CheckoutError::Mounted {
                path: path.to_owned(),
            },
            error => {
                let path = self.root.join(OsStr::from_bytes(path));
                CheckoutError::io(action, path)(io::Error::from(error))
            }
        }
    }
}
