//! What a checkout moved aside, once nobody needs it any more. What was changed there, by a program
//! that still had it open, or by a crash at the wrong moment is unknown, is the only copy of
//! something: it is kept, and told of in the log.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    thread,
};

use gix::bstr::{BStr, BString, ByteSlice};

use super::{
    CheckoutError,
    stage::{Seen, remove},
};

/// The first name for a folder of kept files that is free.
pub(super) fn kept_folder(heddle: &Path) -> PathBuf {
    free_name(heddle, "restore-kept")
}

fn free_name(heddle: &Path, name: &str) -> PathBuf {
    let mut number = 1_u64;
    loop {
        let folder = heddle.join(format!("{name}-{number}"));
        if folder.symlink_metadata().is_err() {
            return folder;
        }
        number += 1;
    }
}

/// Files that are kept, in a folder of their own beside `staging`.
pub(super) struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// A folder that is made with the first file.
    pub(super) fn beside(staging: &Path) -> Self {
        Self {
            folder: kept_folder(staging.parent().unwrap_or(staging)),
        }
    }

    /// Keeps a file that was at `path`.
    pub(super) fn keep(&self, file: &Path, path: &BStr) -> Result<(), CheckoutError> {
        let to = self.folder.join(OsStr::from_bytes(path));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(CheckoutError::io("make", parent))?;
        }
        fs::rename(file, &to).map_err(CheckoutError::io("move", file))?;
        tracing::warn!(
            "{path} was changed by another program while it was restored; that version is kept in {}",
            to.display()
        );
        Ok(())
    }
}

/// Files in a staging folder that nobody needs, by their names: the path that each was at, and how
/// it was when it was last looked at.
pub(super) type Needless = HashMap<String, (BString, Option<Seen>)>;

/// Puts a staging folder out of the way and removes it behind the caller's back.
pub(super) fn tidy(staging: &Path, needless: Needless) {
    let heddle = staging.parent().unwrap_or(staging);
    let done = free_name(heddle, "restore-done");
    if let Err(e) = fs::rename(staging, &done) {
        // Another's `git clean` has it, or the next start.
        return tracing::warn!("{} is not removed yet: {e}", staging.display());
    }
    let work = {
        let done = done.clone();
        move || remove_needless(&done, &needless)
    };
    if let Err(e) = thread::Builder::new().name("tidy".into()).spawn(work) {
        tracing::warn!("{} is not removed yet: {e}", done.display());
    }
}

fn remove_needless(folder: &Path, needless: &Needless) {
    let kept = Kept::beside(folder);
    for (name, (path, seen)) in needless {
        let file = folder.join(name);
        if Seen::at(&file) == *seen {
            continue;
        }
        if let Err(e) = kept.keep(&file, path.as_bstr()) {
            // The whole folder stays, until the next start has another look.
            return tracing::error!("{path}, as another program left it, is in danger: {e}");
        }
    }
    if let Err(e) = remove(folder) {
        tracing::warn!("{e}");
    }
}

/// Removes what a crash left of checkouts in `heddle`'s folder that had ended. With `all`, also of
/// those that had not: nobody is going to undo them any more.
pub(super) fn sweep(heddle: &Path, all: bool) -> Result<(), CheckoutError> {
    let names = match fs::read_dir(heddle) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names.map_err(CheckoutError::io("read", heddle))?,
    };
    for entry in names {
        let entry = entry.map_err(CheckoutError::io("read", heddle))?;
        let name = entry.file_name();
        let name = name.as_bytes();
        let written = name.ends_with(b"-writing") || name.starts_with(b"restore-done-");
        if written || (all && (name == b"restore" || name == b"undo")) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
