//! From one tree to another in a worktree: all of it, or none. What lies there is moved aside
//! before it is judged, so nothing of the user's is overwritten unseen (G9); it is moved back when
//! anything fails. HEAD, branches and index are not touched.

mod place;
mod stage;

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use gix::{ObjectId, bstr::BString, bstr::ByteSlice, index::entry::Mode};

use super::{
    Change, Entry, Error, GitDir, ObjectError, ScanError, Scanner,
    objects::sync,
    repo_path::{is_safe, is_safe_name},
    scan::{disk, is_attribute_file},
};
use crate::failure::{Failure, Reason};
use place::Moves;
use stage::Stage;

/// Why a worktree was not changed. What had been done was undone.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// A path is not what was captured a moment ago.
    #[error(
        "{} was changed while the restore was under way; nothing was changed by it: try again",
        path.to_str_lossy()
    )]
    Changed {
        /// Which.
        path: BString,
    },
    /// Something that no capture holds is where a file is to be.
    #[error(
        "{} is in the way, and no capture holds it: it is ignored or was left out; move it away and try again",
        path.to_str_lossy()
    )]
    InTheWay {
        /// What.
        path: BString,
    },
    /// A path that must not be written.
    #[error("the state has the path {:?}, which leads out of the worktree or into Git's own folder; restore other paths by naming them", path.to_str_lossy())]
    Unsafe {
        /// Which.
        path: BString,
    },
    /// A filter failed.
    #[error("{} cannot be filtered as Git's attributes say: {reason}", path.to_str_lossy())]
    Filter {
        /// Which file.
        path: BString,
        /// What the filter says.
        reason: String,
    },
    /// The system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Git's data cannot be read.
    #[error(transparent)]
    Git(#[from] Error),
    /// A sync failed.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// What had been done could not all be undone.
    #[error(
        "{cause}; and what had been done could not all be undone: {left}; the rescue capture has everything"
    )]
    NotUndone {
        /// What went wrong first.
        cause: Box<CheckoutError>,
        /// What went wrong then.
        left: String,
    },
}

impl CheckoutError {
    fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl From<CheckoutError> for Failure {
    fn from(error: CheckoutError) -> Self {
        let reason = match &error {
            CheckoutError::Changed { .. } => Reason::WorktreeChanged,
            CheckoutError::InTheWay { .. } | CheckoutError::Unsafe { .. } => Reason::PathInTheWay,
            CheckoutError::Filter { .. } | CheckoutError::NotUndone { .. } => {
                Reason::WorktreeUnreadable
            }
            CheckoutError::Io { source, .. } => {
                let (reason, remedy) = disk(source);
                return Failure::new(reason, format!("{error}; {remedy}"));
            }
            CheckoutError::Scan(_) | CheckoutError::Git(_) => Reason::WorktreeUnreadable,
            CheckoutError::Objects(objects) => return objects.into(),
        };
        Failure::new(reason, error.to_string())
    }
}

/// From where to where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The tree that the worktree has.
    pub from: ObjectId,
    /// The tree that it is to have.
    pub to: ObjectId,
    /// The paths in which they differ and that are to change, in order.
    pub changes: Vec<Change>,
    /// What is not to change although it differs, and why.
    pub left_alone: Vec<String>,
    /// Paths that nobody captured and that have the content of `to` already.
    pub there: Vec<BString>,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedOut {
    /// Files and links written.
    pub written: u32,
    /// Files and links removed.
    pub removed: u32,
}

impl Plan {
    /// What takes a worktree that has the tree `from` to the tree `to`.
    ///
    /// # Errors
    /// When a tree cannot be read, or has a path that must not be written.
    pub fn new(
        git: &GitDir,
        scanner: &mut Scanner,
        from: ObjectId,
        to: ObjectId,
    ) -> Result<Self, CheckoutError> {
        let mut left_alone = Vec::new();
        let mut changes = Vec::new();
        for change in git.diff(from, to, &[])? {
            let is_link = |entry: Option<Entry>| entry.is_some_and(|e| e.mode == Mode::SYMLINK);
            let name = change.path.rsplit_str("/").next().unwrap_or_default();
            if !is_safe(change.path.as_bstr())
                || !is_safe_name(name.as_bstr(), is_link(change.after))
            {
                return Err(CheckoutError::Unsafe { path: change.path });
            }
            let is_link = |entry: Option<Entry>| entry.is_some_and(|e| e.mode == Mode::COMMIT);
            if is_link(change.before) || is_link(change.after) {
                let path = change.path.to_str_lossy();
                left_alone.push(format!("{path}: a repository of its own"));
            } else if scanner.is_absent_by_choice(change.path.as_bstr())? {
                let path = change.path.to_str_lossy();
                left_alone.push(format!("{path}: outside of the sparse checkout"));
            } else {
                changes.push(change);
            }
        }
        Ok(Self {
            from,
            to,
            changes,
            left_alone,
            there: Vec::new(),
        })
    }

    /// Leaves as they are what is to be added and is there already: a file that was captured before
    /// it was ignored often is.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn pass_over_what_is_there(&mut self, scanner: &Scanner) -> Result<(), CheckoutError> {
        let root = scanner.root();
        let lies_there = |change: &&Change| {
            let found = root
                .join(OsStr::from_bytes(&change.path))
                .symlink_metadata();
            change.before.is_none() && found.is_ok_and(|found| !found.is_dir())
        };
        let part = Self {
            changes: self.changes.iter().filter(lies_there).cloned().collect(),
            ..self.clone()
        };
        if part.changes.is_empty() {
            return Ok(());
        }
        let stage = Stage::new(&staging_folder(root))?;
        let staged = stage.write(&scanner.git().local(), root, &part);
        let same = |(at, change): &(usize, &Change)| {
            let there = root.join(OsStr::from_bytes(&change.path));
            stage::is_same(&stage.path().join(Stage::new_name(*at)), &there)
        };
        let all = part.changes.iter().enumerate();
        let there: Vec<BString> = match staged {
            Ok(()) => all
                .filter(same)
                .map(|(_, change)| change.path.clone())
                .collect(),
            Err(_) => Vec::new(),
        };
        stage.discard();
        staged?;
        self.pass_over(&there);
        self.there = there;
        Ok(())
    }

    /// Leaves these paths, which are in order, as they are.
    pub fn pass_over(&mut self, paths: &[impl AsRef<[u8]>]) {
        let passed = |path: &BString| {
            let found = paths.binary_search_by(|passed| passed.as_ref().cmp(path.as_slice()));
            found.is_ok()
        };
        self.changes.retain(|change| !passed(&change.path));
    }

    /// The way back, of those paths that are as the plan wanted them.
    fn back(&self, scanner: &mut Scanner) -> Result<(Self, Vec<BString>), CheckoutError> {
        let mut changes = Vec::new();
        let mut unknown = Vec::new();
        for change in &self.changes {
            let known = change.after.or(change.before).map(|entry| entry.mode);
            let found = scanner.hash_now(change.path.as_bstr(), known)?;
            let found = found.map(|(mode, id)| Entry { mode, id });
            if found == change.after {
                changes.push(Change {
                    path: change.path.clone(),
                    before: change.after,
                    after: change.before,
                });
            } else if found != change.before {
                unknown.push(change.path.clone());
            }
        }
        let plan = Self {
            from: self.to,
            to: self.from,
            changes,
            left_alone: Vec::new(),
            there: Vec::new(),
        };
        Ok((plan, unknown))
    }
}

/// Where `root`'s worktree keeps what it is about to write and what it moved aside.
fn staging_folder(root: &Path) -> PathBuf {
    root.join(".heddle").join("restore")
}

/// Carries out a plan: all of it, durably (G4), or none of it. `done` counts paths.
///
/// # Errors
/// Why not; the worktree is then as it was, unless the error says otherwise.
pub fn check_out(
    scanner: &mut Scanner,
    plan: &Plan,
    done: &AtomicU64,
) -> Result<CheckedOut, CheckoutError> {
    if plan.changes.is_empty() {
        return Ok(CheckedOut::default());
    }
    let folder = staging_folder(scanner.root());
    let stage = Stage::new(&folder)?;
    if let Err(error) = stage.write(&scanner.git().local(), scanner.root(), plan) {
        stage.discard();
        return Err(error);
    }
    let root = scanner.root().to_owned();
    let mut moves = Moves::new(&root, stage::allowed(&scanner.git().local()), &stage)?;
    let moved = move_all(&mut moves, scanner, plan, done);
    let moved = moved.and_then(|checked_out| {
        let folders = moves.touched();
        sync(&root, &folders, folders.len() > 64)?;
        Ok(checked_out)
    });
    match moved {
        Ok(checked_out) => {
            for change in &plan.changes {
                let path = change.path.as_bstr();
                match change.after {
                    Some(entry) => scanner.note_written(path, entry),
                    None => scanner.removed(path),
                }
            }
            stage.discard();
            Ok(checked_out)
        }
        Err(cause) => match moves.undo() {
            Ok(()) => {
                stage.discard();
                Err(cause)
            }
            Err(left) => Err(CheckoutError::NotUndone {
                cause: Box::new(cause),
                left,
            }),
        },
    }
}

/// What was there is judged by the attributes that it was captured by: they change after the rest.
/// Removals first, the deepest first, so that folders can give way to files; then what is written.
fn move_all(
    moves: &mut Moves<'_>,
    scanner: &mut Scanner,
    plan: &Plan,
    done: &AtomicU64,
) -> Result<CheckedOut, CheckoutError> {
    let mut checked_out = CheckedOut::default();
    let all = || plan.changes.iter().enumerate();
    for attributes in [false, true] {
        let due = |(_, change): &(usize, &Change)| {
            change.before.is_some() && is_attribute_file(change.path.as_bstr()) == attributes
        };
        for (at, change) in all().rev().filter(due) {
            if let (Some(before), None) = (change.before, change.after) {
                let path = change.path.as_bstr();
                moves.remove(at, path, |aside| Ok(scanner.is_still(path, aside, before)?))?;
                checked_out.removed += 1;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
        for (at, change) in all().filter(due) {
            if let (Some(before), Some(_)) = (change.before, change.after) {
                let path = change.path.as_bstr();
                moves.replace(at, path, |aside| Ok(scanner.is_still(path, aside, before)?))?;
                checked_out.written += 1;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    for (at, change) in all() {
        if let (None, Some(_)) = (change.before, change.after) {
            moves.add(at, change.path.as_bstr())?;
            checked_out.written += 1;
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(checked_out)
}

/// Puts back what a plan that was cut short had changed; answers the paths that are neither as
/// before nor as planned, which are left alone.
///
/// # Errors
/// When it cannot be put back.
pub fn undo_interrupted(scanner: &mut Scanner, plan: &Plan) -> Result<Vec<BString>, CheckoutError> {
    let (back, unknown) = plan.back(scanner)?;
    check_out(scanner, &back, &AtomicU64::new(0))?;
    let folder = staging_folder(scanner.root());
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(CheckoutError::io("remove", folder)(e))
        }
        _ => Ok(unknown),
    }
}
