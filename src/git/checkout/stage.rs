//! The staging folder: everything new is written and synced there before the worktree is touched, so
//! that a full disk or a failing filter changes nothing; what is replaced or removed waits there
//! until all is done.

use std::{
    collections::{BTreeSet, HashMap},
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

use super::{CheckoutError, Plan, aside};
use crate::git::{Change, Entry, Error, diff::entry_at, objects::sync};

/// A folder for one checkout.
pub(super) struct Stage {
    folder: PathBuf,
    /// What was written, as it was then, by its name.
    written: HashMap<String, Seen>,
}

/// By what a file is known again after it was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Seen {
    /// A file as it is now; `None` where none is.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let found = path.symlink_metadata().ok()?;
        Some(Self {
            inode: found.ino(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

impl Stage {
    /// Makes it, empty, beside its place: what lies there is never half written.
    pub(super) fn new(place: &Path) -> Result<Self, CheckoutError> {
        let folder = writing(place);
        remove(&folder)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(CheckoutError::io("make", &folder))?;
        Ok(Self::left(&folder))
    }

    /// One that was left, as it is.
    pub(super) fn left(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            written: HashMap::new(),
        }
    }

    /// All is written and synced: it goes to its place. From here on, what lies in it may be the
    /// user's.
    pub(super) fn ready(&mut self, place: &Path) -> Result<(), CheckoutError> {
        let heddle = place.parent().unwrap_or(place);
        if place.symlink_metadata().is_ok() {
            // Nobody knows what it is any more, so nobody may remove it.
            let kept = aside::kept_folder(heddle);
            tracing::warn!("what an earlier restore left is kept in {}", kept.display());
            fs::rename(place, &kept).map_err(CheckoutError::io("move", place))?;
        }
        fs::rename(&self.folder, place).map_err(CheckoutError::io("move", &self.folder))?;
        self.folder = place.to_owned();
        Ok(sync(heddle, &[heddle.to_owned()], false)?)
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// What the change with this number writes, and after it what was there before.
    pub(super) fn new_name(number: usize) -> String {
        format!("new-{number}")
    }

    /// Where what was removed or made way waits.
    pub(super) fn old_name(number: usize) -> String {
        format!("old-{number}")
    }

    /// Whether what has this name now is what was written under it, and nobody changed it.
    pub(super) fn is_as_written(&self, name: &str) -> bool {
        let written = self.written.get(name);
        written.is_some_and(|written| Seen::at(&self.folder.join(name)) == Some(*written))
    }

    /// Writes what is to be written, through Git's filters, and syncs it.
    pub(super) fn write(
        &mut self,
        git: &gix::Repository,
        root: &Path,
        plan: &Plan,
    ) -> Result<(), CheckoutError> {
        let writes: Vec<(usize, &Change)> = plan
            .numbered()
            .filter(|(_, change)| change.after.is_some())
            .collect();
        let paths = writes.iter().map(|(_, change)| change.path.as_bstr());
        let attributes = attributes_of(git, plan.to, paths)?;
        let shared = git.clone().into_sync();
        let symlinks = git
            .config_snapshot()
            .boolean("core.symlinks")
            .unwrap_or(true);
        let renderer = || Renderer::with(shared.to_thread_local(), attributes.clone());
        let written: Result<Vec<(String, Seen)>, CheckoutError> = writes
            .par_iter()
            .with_min_len(8)
            .map_init(renderer, |renderer, (number, change)| {
                let renderer = match renderer {
                    Ok(renderer) => renderer,
                    Err(error) => return Err(CheckoutError::Git(error.repeated())),
                };
                let Some(after) = change.after else {
                    return Err(vanished(&self.folder));
                };
                let content = renderer.content(change.path.as_bstr(), after)?;
                let name = Self::new_name(*number);
                let path = self.folder.join(&name);
                write_one(root, &path, change, &content, symlinks)?;
                let seen = Seen::at(&path).ok_or_else(|| vanished(&path))?;
                Ok((name, seen))
            })
            .collect();
        self.written = written?.into_iter().collect();
        let is_file = |change: &Change| {
            let after = change.after;
            after.is_some_and(|after| after.mode != Mode::SYMLINK)
        };
        let files: Vec<PathBuf> = writes
            .iter()
            .filter(|(_, change)| is_file(change))
            .map(|(number, _)| self.folder.join(Self::new_name(*number)))
            .collect();
        let many = files.len() > 64;
        sync(&self.folder, &files, many)?;
        Ok(sync(&self.folder, &[self.folder.clone()], false)?)
    }

    /// Nothing of it is anybody's: it is removed at once.
    pub(super) fn discard(self) {
        if let Err(e) = remove(&self.folder) {
            tracing::warn!("{e}");
        }
    }
}

/// Where the folder that belongs at `place` is written.
pub(super) fn writing(place: &Path) -> PathBuf {
    let mut folder = place.as_os_str().to_owned();
    folder.push("-writing");
    folder.into()
}

/// Removes a folder, if it is there.
pub(super) fn remove(folder: &Path) -> Result<(), CheckoutError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(CheckoutError::io("remove", folder)(e))
        }
        _ => Ok(()),
    }
}

fn vanished(path: &Path) -> CheckoutError {
    CheckoutError::io("find", path)(io::ErrorKind::NotFound.into())
}

fn write_one(
    root: &Path,
    path: &Path,
    change: &Change,
    content: &[u8],
    symlinks: bool,
) -> Result<(), CheckoutError> {
    let fail = |e| CheckoutError::io("write", path)(e);
    let mode = change.after.map(|after| after.mode);
    if mode == Some(Mode::SYMLINK) && symlinks {
        return symlink(std::ffi::OsStr::from_bytes(content), path).map_err(fail);
    }
    let permissions = permissions(root, change, mode == Some(Mode::FILE_EXECUTABLE));
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(fail)?;
    file.write_all(content).map_err(fail)?;
    file.set_permissions(Permissions::from_mode(permissions))
        .map_err(fail)
}

/// As the file that is replaced, or else as its folder allows: the daemon's own umask is not the
/// user's.
fn permissions(root: &Path, change: &Change, executable: bool) -> u32 {
    let path = root.join(std::ffi::OsStr::from_bytes(&change.path));
    let replaced = path.symlink_metadata().ok().filter(|found| found.is_file());
    let allowed = match replaced {
        Some(found) => found.mode() & 0o777,
        None => {
            let folder = path
                .ancestors()
                .skip(1)
                .find_map(|folder| folder.metadata().ok());
            folder.map_or(0o600, |folder| folder.mode() & 0o666)
        }
    };
    if executable {
        allowed | ((allowed & 0o444) >> 2)
    } else {
        allowed & !0o111
    }
}

/// Says what bytes a worktree has for what a tree has.
pub(super) struct Renderer {
    git: gix::Repository,
    pipeline: gix::filter::plumbing::Pipeline,
    attributes: Stack,
}

impl Renderer {
    /// By the attributes in `tree`, as far as `paths` see them.
    pub(super) fn new<'p>(
        git: gix::Repository,
        tree: ObjectId,
        paths: impl Iterator<Item = &'p BStr>,
    ) -> Result<Self, CheckoutError> {
        let attributes = attributes_of(&git, tree, paths)?;
        Ok(Self::with(git, attributes)?)
    }

    fn with(git: gix::Repository, attributes: Stack) -> Result<Self, Error> {
        let pipeline = gix::filter::Pipeline::new(&git, attributes);
        let (pipeline, attributes) = pipeline
            .map_err(|e| Error::unreadable(&git, &e))?
            .into_parts();
        Ok(Self {
            git,
            pipeline,
            attributes,
        })
    }

    /// The bytes of this entry at this path.
    pub(super) fn content(&mut self, path: &BStr, entry: Entry) -> Result<Vec<u8>, CheckoutError> {
        let git = &self.git;
        let mut blob = git
            .find_object(entry.id)
            .map_err(|e| Error::unreadable(git, &e))?
            .detach();
        if entry.mode == Mode::SYMLINK {
            return Ok(blob.data);
        }
        let failed = |reason: String| CheckoutError::Filter {
            path: path.to_owned(),
            reason,
        };
        let found = self
            .attributes
            .at_entry(path, Some(Mode::FILE), &git.objects)
            .map_err(|e| failed(e.to_string()))?;
        let options = Options {
            can_delay: Delay::Forbid,
            unknown_encoding: UnknownEncoding::Fail,
        };
        let outcome = self.pipeline.convert_to_worktree(
            &blob.data,
            path,
            &mut |_, outcome| {
                found.matching_attributes(outcome);
            },
            options,
        );
        match outcome.map_err(|e| failed(e.to_string()))? {
            ToWorktreeOutcome::Unchanged(_) => {}
            ToWorktreeOutcome::Buffer(filtered) => return Ok(filtered.to_vec()),
            ToWorktreeOutcome::Process(MaybeDelayed::Immediate(mut filter)) => {
                let mut filtered = Vec::new();
                filter
                    .read_to_end(&mut filtered)
                    .map_err(|e| failed(e.to_string()))?;
                return Ok(filtered);
            }
            ToWorktreeOutcome::Process(MaybeDelayed::Delayed(_)) => {
                return Err(failed(
                    "it delays its answer although it was not asked to".into(),
                ));
            }
        }
        Ok(std::mem::take(&mut blob.data))
    }
}

/// The attributes of a tree, as far as these paths see them: where it is checked out they decide,
/// not those that lie in the worktree now (gitattributes(5)).
fn attributes_of<'p>(
    git: &gix::Repository,
    tree: ObjectId,
    paths: impl Iterator<Item = &'p BStr>,
) -> Result<Stack, CheckoutError> {
    let mut folders: BTreeSet<BString> = BTreeSet::new();
    for mut path in paths {
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
        if let Some(entry) = entry_at(git, tree, file.as_bstr())? {
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
