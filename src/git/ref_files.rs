//! Moving refs as Git does it, and making durable what was moved.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use gix::{
    lock::acquire::Fail,
    refs::{
        FullName, Target,
        store::WriteReflog,
        transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog},
    },
};

use super::{RefMove, Repository, StateId};

impl Repository {
    /// Whether somebody holds a ref, or a crash left it held.
    pub fn is_ref_held(&self, name: &str) -> bool {
        lock_of(&self.common_dir().join(name)).is_file()
    }
}

/// Moves refs, all of them or none where one is held by somebody else. A ref that gets a file needs no
/// lock of the packed ones, which gix takes all the same: a run of Git may have it for long, and one
/// that was killed has it for ever.
pub(super) fn move_refs(git: &gix::Repository, moves: &[RefMove]) -> Result<(), gix::Error> {
    let are_held = lock_of(&git.common_dir().join("packed-refs")).exists();
    let (mut files, mut edits) = (Vec::new(), Vec::new());
    for to in moves {
        match to.target.filter(|_| are_held) {
            Some(target) => files.push((to.name.as_str(), target)),
            None => edits.push(edit(to)?),
        }
    }
    for (name, target) in files {
        write_file(git.common_dir(), name, target).map_err(gix::Error::from_error)?;
    }
    if edits.is_empty() {
        return Ok(());
    }
    let mut git = git.clone();
    git.refs.write_reflog = WriteReflog::Disable;
    git.edit_references_as(edits, None)?;
    Ok(())
}

/// Gives a ref its file, under its own lock.
fn write_file(common_dir: &Path, name: &str, target: StateId) -> io::Result<()> {
    let wait = Fail::AfterDurationWithBackoff(Duration::from_millis(100));
    let path = common_dir.join(name);
    let boundary = Some(common_dir.join("refs"));
    let lock = gix::lock::File::acquire_to_update_resource(path, wait, boundary, 0);
    let mut lock = lock.map_err(io::Error::other)?;
    lock.with_mut(|file| writeln!(file, "{target}"))?;
    lock.commit().map_err(|e| io::Error::other(e.to_string()))?;
    Ok(())
}

fn edit(to: &RefMove) -> Result<RefEdit, gix::Error> {
    let name = FullName::try_from(to.name.as_str()).map_err(gix::Error::from_error)?;
    let change = match to.target {
        Some(target) => Change::Update {
            log: LogChange::default(),
            // The store decides: what somebody else made of it is repaired.
            expected: PreviousValue::Any,
            new: Target::Object(target.into()),
        },
        None => Change::Delete {
            expected: PreviousValue::Any,
            log: RefLog::AndReference,
        },
    };
    Ok(RefEdit {
        change,
        name,
        deref: false,
    })
}

/// Whether a ref is where a move takes it.
pub(super) fn is_at(git: &gix::Repository, to: &RefMove) -> bool {
    let found = git.try_find_reference(to.name.as_str());
    match (found, to.target) {
        (Ok(None), None) => true,
        (Ok(Some(found)), Some(target)) => {
            found.target().try_id() == Some(gix::ObjectId::from(target).as_ref())
        }
        _ => false,
    }
}

/// A crash in the middle of a move leaves a lock; a power cut, a file in which nothing is. Git's own
/// locks last a moment, and nobody else has one on a ref of ours for longer.
pub(super) fn remove_leftovers(git: &gix::Repository, name: &str) {
    let file = git.common_dir().join(name);
    let lock = lock_of(&file);
    let is_empty = |file: &Path| {
        file.symlink_metadata()
            .is_ok_and(|f| f.is_file() && f.len() == 0)
    };
    let left = [(&lock, lock.is_file()), (&file, is_empty(&file))];
    for (path, _) in left.iter().filter(|(_, left)| *left) {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("{} cannot be removed: {e}", path.display());
            }
            _ => tracing::info!("removed {}, which a crash left", path.display()),
        }
    }
}

fn lock_of(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.lock", file.display()))
}

/// Syncs the files of refs and the folders that lead to them. A ref without a file is among the
/// packed ones, or is deleted.
pub(super) fn sync_refs(common_dir: &Path, names: &BTreeSet<String>) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    let mut packed = false;
    for name in names {
        packed |= !sync_one(&common_dir.join(name))?;
        let above = Path::new(name).ancestors().skip(1);
        folders.extend(above.take_while(|folder| !folder.as_os_str().is_empty()));
    }
    if packed {
        sync_one(&common_dir.join("packed-refs"))?;
        folders.insert(Path::new(""));
    }
    for folder in folders {
        sync_one(&common_dir.join(folder))?;
    }
    Ok(())
}

/// False where there is nothing to sync.
fn sync_one(path: &Path) -> io::Result<bool> {
    match File::open(path).and_then(|file| file.sync_all()) {
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(false)
        }
        synced => synced.map(|()| true),
    }
}
