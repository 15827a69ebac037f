//! The folders around what is moved: opened one by one and never through a link, made where they are
//! missing, removed where nothing is in them any more.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
};

use gix::bstr::{BStr, BString, ByteSlice};
use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{AtFlags, openat},
    sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

use super::{super::CheckoutError, Done, FOLDER, Moves};

/// Folders that are kept open while it goes up: one by one from the root, each would be opened as often
/// as there are folders in it.
const AROUND: usize = 64;

impl Moves {
    /// Opens the folder that `path` lies in, and makes it where that is wanted.
    pub(super) fn open_parent(&mut self, path: &BStr, make: bool) -> Result<(), CheckoutError> {
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

    pub(super) fn opened<'p>(
        &mut self,
        path: &'p BStr,
    ) -> Result<(OwnedFd, &'p OsStr), CheckoutError> {
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

    pub(super) fn set_mode(&self, path: &BStr, mode: Mode) -> Result<(), Errno> {
        let place = self.place(path);
        let folder = openat(place.folder, place.name, FOLDER, Mode::empty())?;
        fchmod(&folder, mode)
    }

    pub(in crate::git::checkout) fn remove_empty_folders(
        &mut self,
        path: &BStr,
    ) -> Result<(), CheckoutError> {
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
    pub(super) fn remove_hollow_folder(&mut self, path: &BStr) -> Result<bool, CheckoutError> {
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
}
