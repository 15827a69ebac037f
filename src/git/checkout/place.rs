//! Moving files between the staging folder and the worktree. Every path is walked folder by folder
//! from the root, and never through a link, so that nothing outside of it can be reached. Each move
//! is one rename(2) and is remembered, so that it can be undone.

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
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat, renameat},
    sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

use super::{
    CheckoutError,
    aside::{Kept, Needless, tidy},
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

/// Folders that are kept open while it goes up: one by one from the root, each would be opened as often
/// as there are folders in it.
const AROUND: usize = 64;

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
pub(super) struct Folder<'a> {
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

    /// Undoes all of it, the last first; answers what could not be.
    pub(super) fn undo(&mut self) -> Result<(), String> {
        let mut left = Vec::new();
        while let Some(done) = self.done.pop() {
            let path = done.path().clone();
            if let Err(error) = self.undo_one(&done, path.as_bstr()) {
                left.push(format!("{path} ({error})"));
            }
        }
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(", "))
        }
    }

    fn undo_one(&mut self, done: &Done, path: &BStr) -> Result<(), CheckoutError> {
        self.open_parent(path, false)?;
        let undone = match done {
            Done::Removed(at, _) => {
                let old = Stage::old_name(*at);
                match self.put(&old, path) {
                    // Made since, and newer.
                    Err(Errno::EEXIST) => return self.set_aside(&old, path),
                    put => put,
                }
            }
            Done::Replaced(at, _) => self.undo_replaced(&Stage::new_name(*at), path),
            Done::Added(at, _) => self.undo_added(&Stage::new_name(*at), path),
            Done::MadeFolder(_) => {
                self.last = None;
                let (folder, name) = self.opened(path)?;
                match unlinkat(&folder, name, UnlinkatFlags::RemoveDir) {
                    Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOENT) => Ok(()),
                    removed => removed,
                }
            }
            Done::PutBack(_) => Ok(()),
            Done::RemovedFolder(_, mode) => {
                let place = self.place(path);
                match mkdirat(place.folder, place.name, *mode) {
                    Err(Errno::EEXIST) => Ok(()),
                    made => made.and_then(|()| self.set_mode(path, *mode)),
                }
            }
        };
        undone.map_err(|e| self.refused("put back", path, e))
    }

    /// The file from before comes back, unless somebody changed the new one: that is newer.
    fn undo_replaced(&mut self, new: &str, path: &BStr) -> Result<(), Errno> {
        match self.exchange(path, new) {
            Err(Errno::ENOENT) => return self.put(new, path),
            exchanged => exchanged?,
        }
        if self.stage.is_as_written(new) {
            return Ok(());
        }
        tracing::warn!("{path} was changed while a restore was undone, and is left as it is");
        self.exchange(path, new)
    }

    fn undo_added(&mut self, new: &str, path: &BStr) -> Result<(), Errno> {
        let place = self.place(path);
        match renameat(place.folder, place.name, &self.staged, new) {
            Err(Errno::ENOENT) => return Ok(()),
            moved => moved?,
        }
        if self.stage.is_as_written(new) {
            return Ok(());
        }
        tracing::warn!("{path} was changed while a restore was undone, and is left as it is");
        self.put(new, path)
    }

    /// A file that cannot go back, and may be the only copy of what it has.
    fn set_aside(&mut self, staged: &str, path: &BStr) -> Result<(), CheckoutError> {
        let file = self.staged_path(staged);
        match self.judged.get(staged) {
            // The rescue has it.
            Some((_, seen)) if Seen::at(&file) == *seen => Ok(()),
            _ => Kept::beside(self.stage.path()).keep(&file, path),
        }
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

    /// Opens the folder that `path` lies in, and makes it where that is wanted.
    fn open_parent(&mut self, path: &BStr, make: bool) -> Result<(), CheckoutError> {
        let Some(slash) = path.rfind_byte(b'/') else {
            self.last = None;
            return Ok(());
        };
        let parent = path[..slash].as_bstr();
        if self.last.as_ref().is_some_and(|(last, _)| *last == parent) {
            return Ok(());
        }
        self.last = None;
        if let Some(around) = &mut self.around {
            if let Some((_, folder)) = around.pop_back_if(|(known, _)| *known == parent) {
                self.last = Some((parent.to_owned(), folder));
                return Ok(());
            }
            around.clear();
        }
        let mut at = 0;
        let mut open: Option<OwnedFd> = None;
        for part in parent.split_str("/") {
            at += part.len() + usize::from(at > 0);
            let so_far = parent[..at].as_bstr();
            let within = open.as_ref().unwrap_or(&self.top);
            let name = OsStr::from_bytes(part);
            let opened = match openat(within, name, FOLDER, Mode::empty()) {
                Err(Errno::ENOENT) if make => {
                    let mode = self.folder_mode(within);
                    let made = mkdirat(within, name, mode)
                        .and_then(|()| openat(within, name, FOLDER, Mode::empty()));
                    if let Ok(folder) = &made {
                        // What umask(2) took away: the daemon's is not the user's.
                        let _ = fchmod(folder, mode);
                        self.done.push(Done::MadeFolder(so_far.to_owned()));
                    }
                    made
                }
                opened => opened,
            };
            let inner = opened.map_err(|e| self.refused("open", so_far, e))?;
            if let Some(outer) = open.replace(inner)
                && let Some(around) = &mut self.around
            {
                let path = parent[..so_far.rfind_byte(b'/').unwrap_or(0)].into();
                around.push_back((path, outer));
                if around.len() > AROUND {
                    around.pop_front();
                }
            }
        }
        self.last = open.map(|open| (parent.to_owned(), open));
        Ok(())
    }

    /// What the user's own Git gives a new folder. A folder of a group's makes folders of the group's.
    fn folder_mode(&self, within: &OwnedFd) -> Mode {
        let searchable = self.allowed | (self.allowed & 0o444) >> 2;
        let inherited = fstat(within).map_or(0, |found| found.st_mode & 0o2000);
        Mode::from_bits_truncate(searchable | inherited)
    }

    fn opened<'p>(&mut self, path: &'p BStr) -> Result<(OwnedFd, &'p OsStr), CheckoutError> {
        self.open_parent(path, false)?;
        let name = path
            .rfind_byte(b'/')
            .map_or(path, |slash| path[slash + 1..].as_bstr());
        let folder = self.last.as_ref().map_or(&self.top, |(_, folder)| folder);
        let folder = folder
            .try_clone()
            .map_err(CheckoutError::io("open", &self.root))?;
        Ok((folder, OsStr::from_bytes(name)))
    }

    fn set_mode(&self, path: &BStr, mode: Mode) -> Result<(), Errno> {
        let place = self.place(path);
        let folder = openat(place.folder, place.name, FOLDER, Mode::empty())?;
        fchmod(&folder, mode)
    }

    pub(super) fn remove_empty_folders(&mut self, path: &BStr) -> Result<(), CheckoutError> {
        // Only now: later they may be elsewhere.
        self.around = Some(VecDeque::new());
        let removed = self.remove_empty_folders_above(path);
        self.around = None;
        removed
    }

    fn remove_empty_folders_above(&mut self, path: &BStr) -> Result<(), CheckoutError> {
        let mut path = path;
        while let Some(slash) = path.rfind_byte(b'/') {
            path = path[..slash].as_bstr();
            // Where one is missing, the next may still be there.
            if self.open_parent(path, false).is_ok()
                && !self.remove_folder(path)?
                && self.is_there(path)
            {
                break;
            }
        }
        Ok(())
    }

    /// Removes the folder at a path, if there is nothing in it but folders with nothing in them.
    fn remove_hollow_folder(&mut self, path: &BStr) -> Result<bool, CheckoutError> {
        if self.open_parent(path, false).is_err() {
            return Ok(false);
        }
        if self.remove_folder(path)? {
            return Ok(true);
        }
        // Those in it come after it, and go before it.
        let mut hollow = vec![path.to_owned()];
        let mut at = 0;
        while let Some(folder) = hollow.get(at).cloned() {
            if self.open_parent(folder.as_bstr(), false).is_err() {
                return Ok(false);
            }
            let Some(names) = self.only_folders_in(folder.as_bstr()) else {
                return Ok(false);
            };
            let inner = |name: &BString| [folder.as_bytes(), name.as_slice()].join(&b'/');
            hollow.extend(names.iter().map(inner).map(BString::from));
            at += 1;
        }
        while let Some(folder) = hollow.pop() {
            self.open_parent(folder.as_bstr(), false)?;
            if !self.remove_folder(folder.as_bstr())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The names in the folder at a path whose parent is open; `None` if there is more than folders.
    fn only_folders_in(&self, path: &BStr) -> Option<Vec<BString>> {
        let place = self.place(path);
        let mut folder = Dir::openat(place.folder, place.name, FOLDER, Mode::empty()).ok()?;
        let mut names = Vec::new();
        for entry in folder.iter() {
            let entry = entry.ok()?;
            match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name if entry.file_type() == Some(Type::Directory) => names.push(name.into()),
                _ => return None,
            }
        }
        Some(names)
    }

    /// Whether what lies at a path is what was staged for it, as it was then.
    pub(super) fn is_as_put(&self, number: usize, path: &BStr) -> bool {
        let lies_at = self.root.join(OsStr::from_bytes(path));
        let staged = self.stage.seen(&Stage::new_name(number));
        staged.is_some() && staged == Seen::at(&lies_at)
    }

    fn is_there(&self, path: &BStr) -> bool {
        let place = self.place(path);
        fstatat(place.folder, place.name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Removes the folder at a path whose parent is open, if it is there and empty.
    fn remove_folder(&mut self, path: &BStr) -> Result<bool, CheckoutError> {
        let place = self.place(path);
        let Ok(found) = fstatat(place.folder, place.name, AtFlags::AT_SYMLINK_NOFOLLOW) else {
            return Ok(false);
        };
        match unlinkat(place.folder, place.name, UnlinkatFlags::RemoveDir) {
            Ok(()) => {}
            // The disk's own trouble; anything else keeps a folder that does no harm.
            Err(error @ (Errno::EIO | Errno::ENOSPC | Errno::EDQUOT | Errno::EROFS)) => {
                return Err(self.refused("remove", path, error));
            }
            Err(_) => return Ok(false),
        }
        let mode = Mode::from_bits_truncate(found.st_mode & 0o7777);
        self.done.push(Done::RemovedFolder(path.to_owned(), mode));
        Ok(true)
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
