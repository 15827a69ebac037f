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
use crate::git::{
    Change, Entry, Error,
    diff::TreePaths,
    filter::{Named, encode_to_worktree},
    objects::sync,
};

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

    /// What was written under this name, as it was then.
    pub(super) fn seen(&self, name: &str) -> Option<Seen> {
        self.written.get(name).copied()
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
        let allowed = allowed(git);
        let shared = git.clone().into_sync();
        let symlinks = git
            .config_snapshot()
            .boolean("core.symlinks")
            .unwrap_or(true);
        let renderer = || Renderer::with(shared.to_thread_local(), plan.to, attributes.clone());
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
                write_one((root, allowed), &path, change, &content, symlinks)?;
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
        Ok(sync(
            &self.folder,
            std::slice::from_ref(&self.folder),
            false,
        )?)
    }

    /// Nothing of it is anybody's: it is removed at once.
    pub(super) fn discard(self) {
        if let Err(e) = remove(&self.folder) {
            tracing::warn!("{e}");
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
    (root, allowed): (&Path, u32),
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
    let permissions = permissions(root, allowed, change, mode == Some(Mode::FILE_EXECUTABLE));
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

/// Says what bytes a worktree has for what a tree has.
pub(super) struct Renderer {
    git: gix::Repository,
    pipeline: gix::filter::plumbing::Pipeline,
    attributes: Stack,
    tree: ObjectId,
}

impl Renderer {
    /// By the attributes in `tree`, as far as `paths` see them.
    pub(super) fn new<'p>(
        git: gix::Repository,
        tree: ObjectId,
        paths: impl Iterator<Item = &'p BStr>,
    ) -> Result<Self, CheckoutError> {
        let attributes = attributes_of(&git, tree, paths)?;
        Ok(Self::with(git, tree, attributes)?)
    }

    fn with(git: gix::Repository, tree: ObjectId, attributes: Stack) -> Result<Self, Error> {
        let pipeline = gix::filter::Pipeline::new(&git, attributes);
        let (pipeline, attributes) = pipeline
            .map_err(|e| Error::unreadable(&git, &e))?
            .into_parts();
        Ok(Self {
            git,
            pipeline,
            attributes,
            tree,
        })
    }

    /// The bytes of this entry at this path.
    pub(super) fn content(&mut self, path: &BStr, entry: Entry) -> Result<Vec<u8>, CheckoutError> {
        let git = &self.git;
        let blob = git
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
        let named =
            Named::of(&mut self.attributes, path, git).map_err(|e| failed(e.to_string()))?;
        if named.is_encoded {
            let made = tempfile::tempdir_in(git.common_dir().join("heddle"))
                .and_then(|folder| encode_to_worktree(git, folder.path(), self.tree, path));
            return made.map_err(|e| failed(e.to_string()));
        }
        let found = self
            .attributes
            .at_entry(path, Some(Mode::FILE), &git.objects)
            .map_err(|e| failed(e.to_string()))?;
        let filtered = named.convert(&mut self.pipeline, |pipeline| {
            to_worktree(pipeline, &blob.data, path, |outcome| {
                found.matching_attributes(outcome);
            })
        });
        Ok(filtered.map_err(failed)?.unwrap_or(blob.data))
    }
}

/// A blob's content as it lies in a worktree; `None` where that is the same.
fn to_worktree(
    pipeline: &mut gix::filter::plumbing::Pipeline,
    blob: &[u8],
    path: &BStr,
    attributes: impl Fn(&mut gix::attrs::search::Outcome),
) -> Result<Option<Vec<u8>>, String> {
    let options = Options {
        can_delay: Delay::Forbid,
        unknown_encoding: UnknownEncoding::Fail,
    };
    let mut of_path = |_: &BStr, outcome: &mut gix::attrs::search::Outcome| attributes(outcome);
    let outcome = pipeline.convert_to_worktree(blob, path, &mut of_path, options);
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
    let mut tree = TreePaths::new(git, tree)?;
    for mut file in folders {
        if !file.is_empty() {
            file.push(b'/');
        }
        file.extend_from_slice(b".gitattributes");
        if let Some(entry) = tree.entry(file.as_bstr())? {
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
