//! Which files the store has open: what is written to a file that was removed or replaced is lost
//! with the process, so nothing of it may be acknowledged (G1, G4).

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The database and its write-ahead log, by device and inode. Both lie there as long as the writer
/// has its connection.
#[derive(Clone)]
pub(super) struct Files {
    seen: Vec<(PathBuf, (u64, u64))>,
}

impl Files {
    /// Looks at the files of an open database.
    pub(super) fn of(database: &Path, wal: PathBuf) -> io::Result<Self> {
        let mut seen = Vec::new();
        for path in [database.to_owned(), wal] {
            let found = identity(&path)?;
            seen.push((path, found));
        }
        Ok(Self { seen })
    }

    /// Whether they are still the ones at their paths.
    pub(super) fn in_place(&self) -> bool {
        let same = |(path, seen): &(PathBuf, _)| identity(path).is_ok_and(|now| now == *seen);
        self.seen.iter().all(same)
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = path.symlink_metadata()?;
    Ok((found.dev(), found.ino()))
}
