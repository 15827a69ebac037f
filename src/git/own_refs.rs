//! The refs under `refs/heddle/` as Git has them now, packed and loose.

use std::{collections::BTreeMap, fs, os::unix::ffi::OsStrExt};

use gix::{
    bstr::{BStr, ByteSlice},
    lock::{Marker, acquire::Fail},
    path::RelativePath,
    refs::{Target, file::Store as RefStore, file::find::ReferenceDecode},
};

use super::{Error, NAMESPACE, Repository, StateId};

/// Where each of our refs leads, by its full name; `None` where it leads to no object: it is
/// symbolic, or its file is damaged.
pub type OwnRefs = BTreeMap<String, Option<StateId>>;

impl Repository {
    /// Reads our refs. Git's configuration is not read for it: this is part of every start.
    ///
    /// # Errors
    /// When the folder of refs, or the file of packed ones, cannot be read.
    pub fn own_refs(&self) -> Result<OwnRefs, Error> {
        let unreadable = |error: gix::Error| Error::Unreadable {
            path: self.common_dir().join(NAMESPACE),
            reason: error.to_string(),
        };
        let store = RefStore::at(self.common_dir().to_owned(), self.object_hash());
        let prefix: &RelativePath = BStr::new(NAMESPACE).try_into().map_err(unreadable)?;
        let platform = store.iter().map_err(unreadable)?;
        let refs = platform.prefixed(prefix);
        let mut own = OwnRefs::new();
        for found in refs.map_err(|e| Error::io("read", self.common_dir(), e))? {
            match found {
                Ok(found) => {
                    let target = match found.target {
                        Target::Object(id) => Some(id.into()),
                        Target::Symbolic(_) => None,
                    };
                    own.insert(found.name.as_bstr().to_string(), target);
                }
                Err(error) => {
                    let name = damaged(&error).ok_or_else(|| unreadable(error))?;
                    own.insert(name, None);
                }
            }
        }
        Ok(own)
    }

    /// Removes the file of one of our refs if no object id is in it, so that the ref can be made
    /// again: what is packed would be taken for it.
    ///
    /// # Errors
    /// When somebody else is changing the ref, or the disk refuses.
    pub fn clear_damaged_ref(&self, name: &str) -> Result<(), Error> {
        let path = self.common_dir().join(name);
        if !name.starts_with(NAMESPACE) || self.own_refs()?.get(name) != Some(&None) {
            return Ok(());
        }
        // As Git holds a ref that it changes.
        let held = Marker::acquire_to_hold_resource(&path, Fail::Immediately, None, 0);
        let held = held.map_err(|e| Error::Git(format!("cannot change {name}: {e}")))?;
        let removed = match self.own_refs()?.get(name) {
            Some(None) => fs::remove_file(&path),
            _ => Ok(()),
        };
        drop(held);
        removed.map_err(|e| Error::io("remove", &path, e))
    }
}

/// The ref whose file has no object id in it: a power cut can leave it empty.
fn damaged(error: &gix::Error) -> Option<String> {
    let decode: &ReferenceDecode = error.downcast_any_ref()?;
    let path = decode.relative_path.as_os_str().as_bytes();
    Some(path.to_str().ok()?.to_owned())
}
