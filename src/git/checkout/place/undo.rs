//! Undoing moves. What somebody made or changed since is newer, and stays; what cannot go back then, and
//! may be the only copy of something, is kept.

use gix::bstr::{BStr, ByteSlice};
use nix::{
    errno::Errno,
    fcntl::renameat,
    sys::stat::mkdirat,
    unistd::{UnlinkatFlags, unlinkat},
};

use super::{
    super::{
        CheckoutError,
        aside::Kept,
        stage::{Seen, Stage},
    },
    Done, Moves,
};

impl Moves {
    /// Undoes all of it, the last first; answers what could not be.
    pub(in crate::git::checkout) fn undo(&mut self) -> Result<(), String> {
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
}
