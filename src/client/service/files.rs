//! The files that an installation writes. Each says in its first lines that heddle wrote it, and
//! for which repository; what does not say so is never touched.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use super::Error;

/// By which a file is known to be ours.
pub(super) const MARKER: &str = "Written by `heddle agent install`";
/// What the line with the repository begins with.
pub(super) const REPOSITORY: &str = "# Repository: ";

/// Held while units are put in place or taken away: instances share templates, and one's going must
/// not meet another's coming. Released when dropped.
pub(super) fn lock(folder: &Path) -> Result<Flock<File>, Error> {
    let fail = |e| Error::file("lock", folder, e);
    fs::create_dir_all(folder).map_err(fail)?;
    let folder = File::open(folder).map_err(fail)?;
    Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, errno)| fail(errno.into()))
}

/// Refuses when a file is there that we did not write.
pub(super) fn refuse_foreign(files: &[(PathBuf, String)]) -> Result<(), Error> {
    for (path, _) in files {
        match fs::read_to_string(path) {
            Ok(text) if !text.contains(MARKER) => return Err(Error::NotOurs(path.clone())),
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("read", path, e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes a file, complete or not at all; false if it was there as it should be.
pub(super) fn write(path: &Path, text: &str) -> Result<bool, Error> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|e| Error::file("create", folder, e))?;
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    fs::write(&aside, text)
        .and_then(|()| fs::rename(&aside, path))
        .map_err(|e| Error::file("write", path, e))?;
    Ok(true)
}

/// Removes a file of ours, and the drop-in folder that it leaves empty.
pub(super) fn remove(path: &Path) -> Result<bool, Error> {
    let ours = fs::read_to_string(path).is_ok_and(|text| text.contains(MARKER));
    if !ours || is_shared_and_needed(path) {
        return Ok(false);
    }
    fs::remove_file(path).map_err(|e| Error::file("remove", path, e))?;
    if let Some(folder) = path
        .parent()
        .filter(|f| f.extension().is_some_and(|e| e == "d"))
    {
        // Somebody's own drop-in may be beside ours: then the folder stays.
        let _ = fs::remove_dir(folder);
    }
    Ok(true)
}

/// A template is needed while another instance has a drop-in for it.
fn is_shared_and_needed(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((template, kind)) = name.split_once("@.") else {
        return false;
    };
    let siblings = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    siblings.into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let instance = name
            .strip_prefix(&format!("{template}@"))
            .and_then(|rest| rest.strip_suffix(&format!(".{kind}.d")));
        // Without an instance it is the user's own drop-in for all of them.
        instance.is_some_and(|instance| !instance.is_empty())
    })
}

/// The repository that a file of ours was written for.
pub(super) fn repository_of(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(REPOSITORY))?;
    // As it is kept in a property list (launchd.rs).
    Some(line.replace("-&#45;", "--"))
}
