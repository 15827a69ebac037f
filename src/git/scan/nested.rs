//! Repositories that lie in the worktree and are none of its own: what is in them is theirs, and a
//! restore has no business there. They are told as the walk tells them.

use std::{collections::HashMap, ffi::OsStr, os::unix::ffi::OsStrExt};

use gix::bstr::{BStr, BString, ByteSlice};

use super::{ScanError, Scanner};

/// Folders that were looked at, and whether each is such a repository.
#[derive(Default)]
pub(in crate::git) struct Nested(HashMap<BString, bool>);

impl Nested {
    /// The repository that a path lies in, if it is not the worktree's.
    pub(in crate::git) fn around<'p>(
        &mut self,
        path: &'p BStr,
        scanner: &mut Scanner,
    ) -> Result<Option<&'p BStr>, ScanError> {
        for slash in path.find_iter("/") {
            let folder = path[..slash].as_bstr();
            let is_one = match self.0.get(folder) {
                Some(known) => *known,
                None => {
                    let is_one = scanner.is_repository(folder)?;
                    self.0.insert(folder.to_owned(), is_one);
                    is_one
                }
            };
            if is_one {
                return Ok(Some(folder));
            }
        }
        Ok(None)
    }
}

impl Scanner {
    /// Whether a repository lies in a folder. To Git it is none while it tracks files in it.
    fn is_repository(&mut self, folder: &BStr) -> Result<bool, ScanError> {
        let root = self.worktree.root.join(OsStr::from_bytes(folder));
        let is_one = root.join(".git").symlink_metadata().is_ok() && gix::open(root).is_ok();
        if !is_one {
            return Ok(false);
        }
        let below = [folder.as_bytes(), b"/"].concat();
        self.with_rules(|_, index, _| Ok(index.state().prefixed_entries(below.as_bstr()).is_none()))
    }
}
