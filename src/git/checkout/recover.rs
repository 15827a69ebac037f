//! Undoing a checkout that was cut short, by a crash or a power cut. What was moved aside goes back
//! where it was, by what lies in the staging folder; where that is gone, Git has it. What is neither
//! as before nor as planned is the user's, and is never removed.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::entry::Mode,
};

use super::{
    CheckoutError, Plan, aside,
    aside::Kept,
    check_out_in,
    place::Moves,
    render::Renderer,
    stage::{Stage, allowed, remove, writing},
    staging_folder,
};
use crate::git::{Change, Entry, GitDir, ScanError, Scanner, objects::sync};

/// Puts back what a plan that was cut short had changed; answers the paths that are neither as
/// before nor as planned, which are left alone.
///
/// # Errors
/// When it cannot be put back; it may be tried again.
pub fn undo_interrupted(scanner: &mut Scanner, plan: &Plan) -> Result<Vec<BString>, CheckoutError> {
    let git = &scanner.git().clone();
    let staging = staging_folder(scanner.root());
    let undoing = staging.with_file_name("undo");
    let mut judge = Judge::new(git, scanner, plan)?;
    let kept = Kept::beside(&staging);
    // Of an undoing that was cut short itself.
    judge.clear(scanner, &undoing, &kept)?;
    if staging.is_dir() {
        judge.put_back(scanner, &staging)?;
        judge.clear(scanner, &staging, &kept)?;
    } else if !writing(&staging).is_dir() {
        judge.take_from_git(git, scanner, &undoing)?;
    }
    // Otherwise it was still being written, and nothing had been moved.
    remove(&writing(&staging))?;
    judge.unknown(scanner)
}

/// Removes what crashes left of checkouts that are over, in a worktree in which none is under way.
///
/// # Errors
/// When it cannot be removed.
pub fn sweep_checkouts(root: &Path, none_is_open: bool) -> Result<(), CheckoutError> {
    let staging = staging_folder(root);
    aside::sweep(staging.parent().unwrap_or(root), none_is_open)
}

/// Tells what is as before, and what is as planned: by content, as each side's own attributes make
/// it, whichever of them lie in the worktree now.
struct Judge<'a> {
    plan: &'a Plan,
    root: PathBuf,
    before: Renderer,
    after: Renderer,
    keeps_modes: bool,
    /// What the user's own Git gives files for a mode.
    allowed: u32,
}

impl<'a> Judge<'a> {
    fn new(git: &GitDir, scanner: &Scanner, plan: &'a Plan) -> Result<Self, CheckoutError> {
        let paths = || plan.changes.iter().map(|change| change.path.as_bstr());
        let local = git.local();
        let keeps_modes = local.config_snapshot().boolean("core.fileMode");
        Ok(Self {
            root: scanner.root().to_owned(),
            before: Renderer::new(git.local(), plan.from, paths())?,
            after: Renderer::new(git.local(), plan.to, paths())?,
            keeps_modes: keeps_modes.unwrap_or(true),
            allowed: allowed(&local),
            plan,
        })
    }

    fn is_before(
        &mut self,
        scanner: &mut Scanner,
        change: &Change,
        file: &Path,
    ) -> Result<bool, CheckoutError> {
        self.is(scanner, change.path.as_bstr(), file, change.before)
    }

    fn is_after(
        &mut self,
        scanner: &mut Scanner,
        change: &Change,
        file: &Path,
    ) -> Result<bool, CheckoutError> {
        self.is(scanner, change.path.as_bstr(), file, change.after)
    }

    fn is(
        &mut self,
        scanner: &mut Scanner,
        path: &BStr,
        file: &Path,
        entry: Option<Entry>,
    ) -> Result<bool, CheckoutError> {
        match entry {
            // Nor is a folder anything to Git.
            None => Ok(file.symlink_metadata().map_or(true, |found| found.is_dir())),
            Some(entry) => self.is_file(scanner, path, file, entry),
        }
    }

    /// Whether a file is this entry of one of the two trees.
    fn is_file(
        &mut self,
        scanner: &mut Scanner,
        path: &BStr,
        file: &Path,
        entry: Entry,
    ) -> Result<bool, CheckoutError> {
        if !self.has_mode(file, entry.mode) {
            return Ok(false);
        }
        let Some(found) = bytes(file)? else {
            return Ok(false);
        };
        for side in [&mut self.before, &mut self.after] {
            match side.content(path, entry) {
                Ok(content) if content == found => return Ok(true),
                // A filter that fails cannot tell.
                Ok(_) | Err(CheckoutError::Filter { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match scanner.is_still(path, file, entry, &mut None) {
            Ok(still) => Ok(still),
            Err(ScanError::Filter { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn has_mode(&self, file: &Path, mode: Mode) -> bool {
        let Ok(found) = file.symlink_metadata() else {
            return false;
        };
        if mode == Mode::SYMLINK && found.is_symlink() {
            return true;
        }
        let runs = found.permissions().mode() & 0o100 != 0;
        let runs_as_wanted = runs == (mode == Mode::FILE_EXECUTABLE);
        found.is_file() && (runs_as_wanted || !self.keeps_modes || mode == Mode::SYMLINK)
    }

    /// Where a path lies; `None` where no folder leads there, but a link or a file.
    fn place(&self, path: &BStr) -> Option<PathBuf> {
        let mut folder = self.root.clone();
        if let Some(slash) = path.rfind_byte(b'/') {
            for part in path[..slash].split_str("/") {
                folder.push(OsStr::from_bytes(part));
                match folder.symlink_metadata() {
                    Ok(found) if !found.is_dir() => return None,
                    _ => {}
                }
            }
        }
        Some(self.root.join(OsStr::from_bytes(path)))
    }

    /// Moves back what lies in the staging folder, and takes away what came from there.
    fn put_back(&mut self, scanner: &mut Scanner, staging: &Path) -> Result<(), CheckoutError> {
        let plan = self.plan;
        let mut moves = Moves::new(&self.root, self.allowed, Stage::left(staging))?;
        for (number, change) in plan.numbered().rev() {
            let path = change.path.as_bstr();
            let (None, Some(place)) = (change.before, self.place(path)) else {
                continue;
            };
            let name = Stage::new_name(number);
            let waits = staging.join(&name).symlink_metadata().is_ok();
            if !waits && change.after.is_some() && self.is_after(scanner, change, &place)? {
                moves.take(path, &name)?;
                if !self.is_after(scanner, change, &staging.join(&name))? {
                    // Changed between the two looks.
                    moves.give(path, &name)?;
                }
            }
            moves.remove_empty_folders(path)?;
        }
        for (number, change) in plan.numbered() {
            let path = change.path.as_bstr();
            let Some(place) = self.place(path) else {
                continue;
            };
            let name = Stage::old_name(number);
            if staging.join(&name).symlink_metadata().is_ok() {
                if place.symlink_metadata().is_err() {
                    moves.give(path, &name)?;
                } else if change.after.is_some() && self.is_after(scanner, change, &place)? {
                    self.swap(scanner, &mut moves, change, &name)?;
                }
                continue;
            }
            let name = Stage::new_name(number);
            let replaced = change.before.is_some() && change.after.is_some();
            if replaced
                && staging.join(&name).symlink_metadata().is_ok()
                && self.is_after(scanner, change, &place)?
            {
                self.swap(scanner, &mut moves, change, &name)?;
            }
        }
        let folders = moves.touched();
        Ok(sync(&self.root, &folders, folders.len() > 64)?)
    }

    /// What was moved aside and what the plan put there change places.
    fn swap(
        &mut self,
        scanner: &mut Scanner,
        moves: &mut Moves,
        change: &Change,
        name: &str,
    ) -> Result<(), CheckoutError> {
        let path = change.path.as_bstr();
        moves.swap(path, name)?;
        let aside = moves.staged_path(name);
        if !self.is_after(scanner, change, &aside)? {
            // Changed between the two looks.
            moves.swap(path, name)?;
        }
        Ok(())
    }

    /// Takes from Git what was there before, of those paths that are still as the plan wanted them.
    fn take_from_git(
        &mut self,
        git: &GitDir,
        scanner: &mut Scanner,
        undoing: &Path,
    ) -> Result<(), CheckoutError> {
        let mut back = self.way_back(scanner)?;
        loop {
            let undone = check_out_in(undoing, git, scanner, &back, &mut |s, p, f, e| {
                self.is_file(s, p, f, e)
            });
            match undone {
                Ok(undone) => {
                    undone.keep();
                    return Ok(());
                }
                // The user's, and left as it is.
                Err(CheckoutError::InTheWay { path } | CheckoutError::Changed { path }) => {
                    let below = [path.as_slice(), b"/"].concat();
                    back.keep_only(|other| other != path && !other.starts_with(&below));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn way_back(&mut self, scanner: &mut Scanner) -> Result<Plan, CheckoutError> {
        let plan = self.plan;
        let mut back = Plan {
            from: plan.to,
            to: plan.from,
            changes: Vec::new(),
            numbers: Vec::new(),
            left_alone: Vec::new(),
            there: Vec::new(),
        };
        for (number, change) in plan.numbered() {
            let as_planned = match self.place(change.path.as_bstr()) {
                Some(place) => self.is_after(scanner, change, &place)?,
                None => change.after.is_none(),
            };
            if as_planned {
                back.numbers.push(number);
                back.changes.push(Change {
                    path: change.path.clone(),
                    before: change.after,
                    after: change.before,
                });
            }
        }
        Ok(back)
    }

    /// Removes a staging folder, but for what is the only copy of something.
    fn clear(
        &mut self,
        scanner: &mut Scanner,
        folder: &Path,
        kept: &Kept,
    ) -> Result<(), CheckoutError> {
        if folder.symlink_metadata().is_err() {
            return Ok(());
        }
        let plan = self.plan;
        let changes: HashMap<usize, &Change> = plan.numbered().collect();
        let fail = CheckoutError::io("read", folder);
        let names = fs::read_dir(folder).and_then(|names| names.collect::<Result<Vec<_>, _>>());
        for entry in names.map_err(fail)? {
            let file = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.split_once('-').and_then(|(_, n)| n.parse().ok());
            let Some(change) = number.and_then(|n: usize| changes.get(&n).copied()) else {
                kept.keep(&file, BStr::new(name.as_bytes()))?;
                continue;
            };
            let known = (change.before.is_some() && self.is_before(scanner, change, &file)?)
                || (change.after.is_some() && self.is_after(scanner, change, &file)?);
            if !known {
                kept.keep(&file, change.path.as_bstr())?;
            }
        }
        remove(folder)
    }

    /// The paths that are not as before.
    fn unknown(&mut self, scanner: &mut Scanner) -> Result<Vec<BString>, CheckoutError> {
        let plan = self.plan;
        let mut unknown = Vec::new();
        for change in &plan.changes {
            let as_before = match self.place(change.path.as_bstr()) {
                Some(place) => self.is_before(scanner, change, &place)?,
                None => change.before.is_none(),
            };
            if !as_before {
                unknown.push(change.path.clone());
            }
        }
        Ok(unknown)
    }
}

/// What a file or link has; `None` where neither is.
fn bytes(file: &Path) -> Result<Option<Vec<u8>>, CheckoutError> {
    let fail = CheckoutError::io("read", file);
    let Ok(found) = file.symlink_metadata() else {
        return Ok(None);
    };
    if found.is_symlink() {
        let target = fs::read_link(file).map_err(fail)?;
        return Ok(Some(target.as_os_str().as_bytes().to_vec()));
    }
    if !found.is_file() {
        return Ok(None);
    }
    fs::read(file).map(Some).map_err(fail)
}
