//! The staging folder: everything new is written and synced there before the worktree is touched, so
//! that a full disk or a failing filter changes nothing; what is replaced or removed waits there
//! until all is done.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    filter::plumbing::{
        driver::apply::{Delay, MaybeDelayed},
        pipeline::convert::{
            ToWorktreeOutcome,
            to_worktree::{Options, UnknownEncoding},
        },
    },
    index::{
        self,
        entry::{Flags, Mode, Stat},
    },
    worktree::{Stack, stack::state::attributes::Source},
};
use rayon::prelude::*;

use super::{CheckoutError, Plan};
use crate::git::{
    Change, Error,
    diff::entry_at,
    filter::{Named, encode_to_worktree},
    objects::sync,
};

/// A folder for one checkout.
pub(super) struct Stage {
    folder: PathBuf,
}

impl Stage {
    /// Makes it, empty: what an earlier one left was dealt with at the start of the daemon.
    pub(super) fn new(folder: &Path) -> Result<Self, CheckoutError> {
        let fail = |e| CheckoutError::io("make", folder)(e);
        match fs::remove_dir_all(folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(fail)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// What the change at this place writes, and after it what was there before.
    pub(super) fn new_name(at: usize) -> String {
        format!("new-{at}")
    }

    /// Where what was removed or made way waits.
    pub(super) fn old_name(at: usize) -> String {
        format!("old-{at}")
    }

    /// Writes what is to be written, through Git's filters, and syncs it.
    pub(super) fn write(
        &self,
        git: &gix::Repository,
        root: &Path,
        plan: &Plan,
    ) -> Result<(), CheckoutError> {
        let writes: Vec<(usize, &Change)> = plan
            .changes
            .iter()
            .enumerate()
            .filter(|(_, change)| change.after.is_some())
            .collect();
        let attributes = attributes_of(git, plan, &writes)?;
        let allowed = allowed(git);
        let shared = git.clone().into_sync();
        let symlinks = git
            .config_snapshot()
            .boolean("core.symlinks")
            .unwrap_or(true);
        let writer = || {
            let git = shared.to_thread_local();
            let pipeline = gix::filter::Pipeline::new(&git, attributes.clone());
            let parts = pipeline.map(gix::filter::Pipeline::into_parts);
            let parts = parts.map_err(|e| Error::unreadable(&git, &e));
            (git, parts)
        };
        writes.into_par_iter().with_min_len(8).try_for_each_init(
            writer,
            |(git, parts), (at, change)| {
                let (pipeline, attributes) = match parts {
                    Ok((pipeline, attributes)) => (pipeline, attributes),
                    Err(error) => return Err(CheckoutError::Git(error.repeated())),
                };
                let content = self.content(git, pipeline, attributes, (plan.to, change))?;
                self.write_one((root, allowed), at, change, &content, symlinks)
            },
        )?;
        let files: Vec<PathBuf> = plan
            .changes
            .iter()
            .enumerate()
            .filter(|(_, change)| {
                change
                    .after
                    .is_some_and(|after| after.mode != Mode::SYMLINK)
            })
            .map(|(at, _)| self.folder.join(Self::new_name(at)))
            .collect();
        let many = files.len() > 64;
        Ok(sync(&self.folder, &files, many)?)
    }

    fn write_one(
        &self,
        (root, allowed): (&Path, u32),
        at: usize,
        change: &Change,
        content: &[u8],
        symlinks: bool,
    ) -> Result<(), CheckoutError> {
        let path = self.folder.join(Self::new_name(at));
        let fail = |e| CheckoutError::io("write", &path)(e);
        let Some(after) = change.after else {
            return Ok(());
        };
        if after.mode == Mode::SYMLINK && symlinks {
            return symlink(std::ffi::OsStr::from_bytes(content), &path).map_err(fail);
        }
        let permissions = permissions(root, allowed, change, after.mode == Mode::FILE_EXECUTABLE);
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        file.write_all(content).map_err(fail)?;
        file.set_permissions(Permissions::from_mode(permissions))
            .map_err(fail)
    }

    /// All is done, or undone.
    pub(super) fn discard(self) {
        if let Err(e) = fs::remove_dir_all(&self.folder) {
            tracing::warn!("{} cannot be removed: {e}", self.folder.display());
        }
    }
}

/// Whether two files, or two links, are the same.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let look = |path: &Path| {
        let found = path.symlink_metadata().ok()?;
        let content = if found.is_symlink() {
            fs::read_link(path)
                .ok()?
                .into_os_string()
                .into_encoded_bytes()
        } else if found.is_file() {
            fs::read(path).ok()?
        } else {
            return None;
        };
        Some((found.mode(), content))
    };
    let (one, other) = (look(one), look(other));
    one.is_some() && one == other
}

/// What the user's own Git allows when it writes a file: the daemon's umask is not the user's, and
/// that of the last Git that wrote here can be seen.
pub(super) fn allowed(git: &gix::Repository) -> u32 {
    let written = [git.index_path(), git.git_dir().join("HEAD")];
    let mut written = written.iter().filter_map(|path| path.metadata().ok());
    written.next().map_or(0o600, |found| found.mode() & 0o666)
}

/// As the file that is replaced, or else as the user's Git would.
fn permissions(root: &Path, allowed: u32, change: &Change, executable: bool) -> u32 {
    let path = root.join(std::ffi::OsStr::from_bytes(&change.path));
    let replaced = path.symlink_metadata().ok().filter(|found| found.is_file());
    let allowed = replaced.map_or(allowed, |found| found.mode() & 0o777);
    if executable {
        allowed | ((allowed & 0o444) >> 2)
    } else {
        allowed & !0o111
    }
}

impl Stage {
    fn content(
        &self,
        git: &gix::Repository,
        pipeline: &mut gix::filter::plumbing::Pipeline,
        attributes: &mut Stack,
        (tree, change): (ObjectId, &Change),
    ) -> Result<Vec<u8>, CheckoutError> {
        let Some(after) = change.after else {
            return Ok(Vec::new());
        };
        let path = change.path.as_bstr();
        let blob = git
            .find_object(after.id)
            .map_err(|e| Error::unreadable(git, &e))?
            .detach();
        if after.mode == Mode::SYMLINK {
            return Ok(blob.data);
        }
        let failed = |reason: String| CheckoutError::Filter {
            path: path.to_owned(),
            reason,
        };
        let named = Named::of(attributes, path, git).map_err(|e| failed(e.to_string()))?;
        if named.is_encoded {
            let made = tempfile::tempdir_in(&self.folder)
                .and_then(|folder| encode_to_worktree(git, &folder.keep(), tree, path));
            return made.map_err(|e| failed(e.to_string()));
        }
        let found = attributes
            .at_entry(path, Some(Mode::FILE), &git.objects)
            .map_err(|e| failed(e.to_string()))?;
        let options = Options {
            can_delay: Delay::Forbid,
            unknown_encoding: UnknownEncoding::Fail,
        };
        let filtered = named.convert(pipeline, |pipeline| {
            let outcome = pipeline.convert_to_worktree(
                &blob.data,
                path,
                &mut |_, outcome| {
                    found.matching_attributes(outcome);
                },
                options,
            );
            match outcome.map_err(|e| e.to_string())? {
                ToWorktreeOutcome::Unchanged(_) => Ok(None),
                ToWorktreeOutcome::Buffer(filtered) => Ok(Some(filtered.to_vec())),
                ToWorktreeOutcome::Process(MaybeDelayed::Immediate(mut filter)) => {
                    let mut filtered = Vec::new();
                    let read = filter.read_to_end(&mut filtered);
                    read.map_err(|e| e.to_string())?;
                    Ok(Some(filtered))
                }
                ToWorktreeOutcome::Process(MaybeDelayed::Delayed(_)) => {
                    Err("it delays its answer although it was not asked to".into())
                }
            }
        });
        Ok(filtered.map_err(failed)?.unwrap_or(blob.data))
    }
}

/// The attributes of the tree that is being checked out, as far as its changed paths see them: they
/// decide, not those that lie in the worktree now (gitattributes(5)).
fn attributes_of(
    git: &gix::Repository,
    plan: &Plan,
    writes: &[(usize, &Change)],
) -> Result<Stack, CheckoutError> {
    let mut folders: BTreeSet<BString> = BTreeSet::new();
    for (_, change) in writes {
        let mut path: &BStr = change.path.as_bstr();
        while let Some(slash) = path.rfind_byte(b'/') {
            path = path[..slash].as_bstr();
            if !folders.insert(path.to_owned()) {
                break;
            }
        }
    }
    folders.insert(BString::default());
    let mut state = index::State::new(git.object_hash());
    for mut file in folders {
        if !file.is_empty() {
            file.push(b'/');
        }
        file.extend_from_slice(b".gitattributes");
        if let Some(entry) = entry_at(git, plan.to, file.as_bstr())? {
            let stat = Stat::default();
            state.dangerously_push_entry(
                stat,
                entry.id,
                Flags::empty(),
                entry.mode,
                file.as_bstr(),
            );
        }
    }
    state.sort_entries();
    let stack = git
        .attributes_only(&state, Source::IdMapping)
        .map_err(|e| Error::unreadable(git, &e))?;
    Ok(stack.detach())
}
