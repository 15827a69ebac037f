//! A file that we made, and remove only while it is that very file (G6).

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A file that we made: where, and which.
#[derive(Debug)]
pub(crate) struct Made {
    path: PathBuf,
    identity: Identity,
}

/// Device, inode and time of birth. Filesystems give the number of a removed inode to the next
/// file, and that may be somebody else's; the time tells them apart where it is recorded.
type Identity = (u64, u64, Option<SystemTime>);

impl Made {
    /// Notes what lies at `path`: call it right after making it.
    pub(super) fn note(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(&path.symlink_metadata()?),
        })
    }

    /// Where we made it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there still, and not something else in its place.
    pub(super) fn is_there(&self) -> bool {
        let there = self.path.symlink_metadata();
        there.is_ok_and(|found| identity(&found) == self.identity)
    }

    /// Removes it, if it is there.
    pub(super) fn remove(&self) {
        if self.is_there()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn identity(found: &Metadata) -> Identity {
    (found.dev(), found.ino(), found.created().ok())
}
