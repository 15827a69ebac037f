//! From one tree to another in a worktree: all of it, or none. What lies there is moved aside
//! before it is judged, so nothing of the user's is overwritten unseen (G9); it is moved back when
//! anything fails. HEAD, branches and index are not touched.

mod aside;
mod place;
mod recover;
mod render;
mod stage;

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    index::entry::Mode,
};

use super::{
    Change, Entry, Error, GitDir, ObjectError, ScanError, Scanner,
    objects::sync,
    repo_path::{is_safe, is_safe_name},
    scan::{Nested, disk, is_attribute_file},
};
use crate::failure::{Failure, Reason};
use place::Moves;
use stage::Stage;

pub use recover::{sweep_checkouts, undo_interrupted};

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
    /// A path is on another disk, or is one itself.
    #[error(
        "{} is on a disk that is mounted inside the worktree, or is one: files cannot be moved there from the worktree's own; unmount it, or restore other paths by naming them, and try again",
        path.to_str_lossy()
    )]
    Mounted {
        /// Which.
        path: BString,
    },
    /// A path that must not be written.
    #[error("the state has the path {:?}, which leads out of the worktree or into a folder of Git's or heddle's; restore other paths by naming them", path.to_str_lossy())]
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
            CheckoutError::InTheWay { .. }
            | CheckoutError::Mounted { .. }
            | CheckoutError::Unsafe { .. } => Reason::PathInTheWay,
            CheckoutError::Filter { .. } | CheckoutError::NotUndone { .. } => {
                Reason::WorktreeUnreadable
            }
            CheckoutError::Io { source, .. } => {
                let (reason, remedy) = disk(source);
                return Failure::new(reason, format!("{error}; {remedy}"));
            }
            CheckoutError::Git(Error::TooDeep { .. }) => Reason::TreeTooDeep,
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
    /// The place of each among all paths in which the trees differ: names for what is staged, that
    /// are the same whenever the plan is made again.
    numbers: Vec<usize>,
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
        let mut numbers = Vec::new();
        let mut nested = Nested::default();
        let all = git.diff(from, to, &[])?;
        let absent = scanner.are_absent_by_choice(all.iter().map(|c| c.path.as_bstr()))?;
        for (number, (change, absent)) in all.into_iter().zip(absent).enumerate() {
            let is_link = |entry: Option<Entry>| entry.is_some_and(|e| e.mode == Mode::SYMLINK);
            let name = change.path.rsplit_str("/").next().unwrap_or_default();
            if !is_safe(change.path.as_bstr())
                || is_ours(change.path.as_bstr())
                || !is_safe_name(name.as_bstr(), is_link(change.after))
            {
                return Err(CheckoutError::Unsafe { path: change.path });
            }
            let is_link = |entry: Option<Entry>| entry.is_some_and(|e| e.mode == Mode::COMMIT);
            if is_link(change.before) || is_link(change.after) {
                left_alone.push(own_repository(change.path.as_bstr()));
            } else if absent {
                let path = change.path.to_str_lossy();
                left_alone.push(format!("{path}: outside of the sparse checkout"));
            } else if let Some(own) = nested.around(change.path.as_bstr(), scanner)? {
                left_alone.push(own_repository(own));
            } else {
                Error::check_length(scanner.root(), change.path.as_bstr())?;
                changes.push(change);
                numbers.push(number);
            }
        }
        // One for all that is in it.
        left_alone.dedup();
        Ok(Self {
            from,
            to,
            changes,
            numbers,
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
        let lies_there = |change: &Change| {
            let found = root
                .join(OsStr::from_bytes(&change.path))
                .symlink_metadata();
            change.before.is_none() && found.is_ok_and(|found| !found.is_dir())
        };
        let there: Vec<(usize, Change)> = self
            .numbered()
            .filter(|(_, change)| lies_there(change))
            .map(|(number, change)| (number, change.clone()))
            .collect();
        let (numbers, changes) = there.into_iter().unzip();
        let part = Self {
            from: self.from,
            to: self.to,
            numbers,
            changes,
            left_alone: Vec::new(),
            there: Vec::new(),
        };
        if part.changes.is_empty() {
            return Ok(());
        }
        let mut stage = Stage::new(&staging_folder(root))?;
        let staged = stage.write(&scanner.git().local(), root, &part);
        let same = |(at, change): &(usize, &Change)| {
            let there = root.join(OsStr::from_bytes(&change.path));
            stage::is_same(&stage.path().join(Stage::new_name(*at)), &there)
        };
        let all = part.numbered();
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
        let passed = |path: &BStr| {
            let found = paths.binary_search_by(|passed| passed.as_ref().cmp(path.as_bytes()));
            found.is_ok()
        };
        self.keep_only(|path| !passed(path));
    }

    /// Its changes, with their numbers.
    fn numbered(&self) -> impl DoubleEndedIterator<Item = (usize, &Change)> {
        self.numbers.iter().copied().zip(&self.changes)
    }

    fn keep_only(&mut self, wanted: impl Fn(&BStr) -> bool) {
        let mut numbers = std::mem::take(&mut self.numbers).into_iter();
        self.changes.retain(|change| {
            let number = numbers.next();
            let keep = wanted(change.path.as_bstr());
            self.numbers.extend(number.filter(|_| keep));
            keep
        });
    }
}

fn own_repository(path: &BStr) -> String {
    format!("{}: a repository of its own", path.to_str_lossy())
}

/// Whether a path is `.heddle` or in it, in any spelling that some filesystem takes for it.
fn is_ours(path: &BStr) -> bool {
    let top = path.split_str("/").next().unwrap_or_default();
    top.eq_ignore_ascii_case(b".heddle")
}

/// A plan that was carried out. It can be taken back until it is kept.
pub struct Checkout {
    moves: Option<Moves>,
    counts: CheckedOut,
}

impl Checkout {
    /// What was done.
    pub fn counts(&self) -> &CheckedOut {
        &self.counts
    }

    /// It stays. What was moved aside is removed, and the caller need not wait for it.
    pub fn keep(self) {
        if let Some(moves) = self.moves {
            moves.keep();
        }
    }

    /// Everything goes back where it was, durably; what somebody changed since stays as it is.
    ///
    /// # Errors
    /// What could not be put back, in words.
    pub fn take_back(self) -> Result<(), String> {
        match self.moves {
            Some(moves) => take_back(moves),
            None => Ok(()),
        }
    }
}

fn take_back(mut moves: Moves) -> Result<(), String> {
    let folders = moves.touched();
    moves.undo()?;
    // Those that were made are gone again.
    let folders: Vec<PathBuf> = folders.into_iter().filter(|f| f.is_dir()).collect();
    let many = folders.len() > 64;
    sync(moves.root(), &folders, many).map_err(|e| e.to_string())?;
    moves.discard();
    Ok(())
}

/// Where `root`'s worktree keeps what it is about to write and what it moved aside.
fn staging_folder(root: &Path) -> PathBuf {
    root.join(".heddle").join("restore")
}

/// Says whether a file that was moved aside from a path is what is expected there.
type IsStill<'f> =
    &'f mut dyn FnMut(&mut Scanner, &BStr, &Path, Entry) -> Result<bool, CheckoutError>;

/// Carries out a plan: all of it, durably (G4), or none of it.
///
/// # Errors
/// Why not; the worktree is then as it was, unless the error says otherwise.
pub fn check_out(scanner: &mut Scanner, plan: &Plan) -> Result<Checkout, CheckoutError> {
    let folder = staging_folder(scanner.root());
    let git = scanner.git().clone();
    // Attributes change after all that is judged by them.
    let mut filters = None;
    check_out_in(
        &folder,
        &git,
        scanner,
        plan,
        &mut |scanner, path, aside, entry| {
            Ok(scanner.is_still(path, aside, entry, &mut filters)?)
        },
    )
}

fn check_out_in(
    staging: &Path,
    git: &GitDir,
    scanner: &mut Scanner,
    plan: &Plan,
    is_still: IsStill<'_>,
) -> Result<Checkout, CheckoutError> {
    if plan.changes.is_empty() {
        return Ok(Checkout {
            moves: None,
            counts: CheckedOut::default(),
        });
    }
    let root = scanner.root().to_owned();
    let mut stage = Stage::new(staging)?;
    let written = stage
        .write(&git.local(), &root, plan)
        .and_then(|()| stage.ready(staging));
    if let Err(error) = written {
        stage.discard();
        return Err(error);
    }
    let mut moves = Moves::new(&root, stage::allowed(&git.local()), stage)
        .inspect_err(|_| Stage::left(staging).discard())?;
    let moved = move_all(&mut moves, scanner, plan, is_still);
    let moved = moved.and_then(|counts| {
        let folders = moves.touched();
        sync(&root, &folders, folders.len() > 64)?;
        Ok(counts)
    });
    match moved {
        Ok(counts) => {
            scanner.follow_checkout(plan.numbered().map(|(number, change)| {
                let path = change.path.as_bstr();
                // Not what somebody wrote there since.
                let is_ours = |_: &Entry| moves.is_as_put(number, path);
                (path, change.after.filter(is_ours))
            }));
            let moves = Some(moves);
            Ok(Checkout { moves, counts })
        }
        Err(cause) => match take_back(moves) {
            Ok(()) => Err(cause),
            Err(left) => Err(CheckoutError::NotUndone {
                cause: Box::new(cause),
                left,
            }),
        },
    }
}

/// What is replaced first; then removals, the deepest first, so that folders can give way to files;
/// then what is added. Attributes change after all that is judged by them.
fn move_all(
    moves: &mut Moves,
    scanner: &mut Scanner,
    plan: &Plan,
    is_still: IsStill<'_>,
) -> Result<CheckedOut, CheckoutError> {
    let is_rules = |change: &Change| is_attribute_file(change.path.as_bstr());
    let replaced = |change: &Change| change.before.is_some() && change.after.is_some();
    let removed = |change: &Change| change.after.is_none();
    let those = |wanted: &dyn Fn(&Change) -> bool| -> Vec<(usize, &Change)> {
        plan.numbered().filter(|(_, c)| wanted(c)).collect()
    };
    let order = [
        those(&|c| replaced(c) && !is_rules(c)),
        those(&|c| removed(c) && !is_rules(c))
            .into_iter()
            .rev()
            .collect(),
        those(&|c| removed(c) && is_rules(c))
            .into_iter()
            .rev()
            .collect(),
        those(&|c| replaced(c) && is_rules(c)),
        those(&|c| c.before.is_none() && c.after.is_some()),
    ];
    let mut checked_out = CheckedOut::default();
    for (number, change) in order.into_iter().flatten() {
        let path = change.path.as_bstr();
        match (change.before, change.after) {
            (Some(before), Some(_)) => {
                moves.replace(number, path, |aside| is_still(scanner, path, aside, before))?
            }
            (Some(before), None) => {
                moves.remove(number, path, |aside| is_still(scanner, path, aside, before))?
            }
            (None, Some(_)) => moves.add(number, path)?,
            (None, None) => continue,
        }
        if change.after.is_some() {
            checked_out.written += 1;
        } else {
            checked_out.removed += 1;
        }
    }
    Ok(checked_out)
}
