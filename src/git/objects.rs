//! New objects of one change: written aside, synced, renamed into place, folders synced. Nothing may
//! refer to them before [`ObjectBatch::finish`] says that they are durable (G4). Nothing is ever
//! overwritten or removed.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, DirBuilder, File, FileTimes, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::SystemTime,
};

use gix::{
    ObjectId,
    objs::{Kind, compute_hash, encode::loose_header},
    zlib::{Compression, stream::deflate},
};
use tempfile::TempPath;

use super::{CommitText, GitDir, Repository, StateId};

/// From so many files on, one sync of the whole filesystem replaces that of each.
const MANY: usize = 64;
/// Files that are synced at once: their filesystem writes its journal once for all.
const AT_ONCE: usize = 16;

/// What is being written is called so; `git gc` sweeps leftovers of such names (git-prune(1)).
const ASIDE: &str = "tmp_obj_heddle_";

/// Why objects cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct ObjectError {
    /// What was tried: a verb.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// The system's reason.
    #[source]
    pub source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ObjectError {
    move |source| ObjectError {
        action,
        path: path.to_owned(),
        source,
    }
}

/// New objects, not there yet. Threads may add to it at once. Dropped, it leaves nothing.
pub struct ObjectBatch {
    git: GitDir,
    hash: gix::hash::Kind,
    folder: PathBuf,
    /// The mode of Git's own folder of objects.
    mode: u32,
    level: Compression,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    known: HashSet<ObjectId>,
    written: Vec<(ObjectId, TempPath)>,
    referred: Vec<ObjectId>,
}

impl ObjectBatch {
    /// An empty batch for a repository's object database.
    pub fn new(git: &GitDir) -> Self {
        let local = git.local();
        let config = local.config_snapshot();
        let level = config
            .integer("core.looseCompression")
            .or_else(|| config.integer("core.compression"))
            .and_then(|level| Compression::new(level as i32))
            .unwrap_or(Compression::BEST_SPEED);
        let folder = local.objects.store_ref().path().to_owned();
        let mode = fs::metadata(&folder).map_or(0o700, |found| found.permissions().mode() & 0o7777);
        Self {
            git: git.clone(),
            hash: local.object_hash(),
            folder,
            mode,
            level,
            inner: Mutex::default(),
        }
    }

    /// Which function names objects here.
    pub fn hash(&self) -> gix::hash::Kind {
        self.hash
    }

    /// Adds an object, unless it is there; answers its id.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(
        &self,
        git: &gix::Repository,
        kind: Kind,
        data: &[u8],
    ) -> Result<ObjectId, ObjectError> {
        let id = compute_hash(self.hash, kind, data)
            .map_err(|e| failed("hash for", &self.folder)(io::Error::other(e.to_string())))?;
        if !self.inner().known.insert(id) {
            return Ok(id);
        }
        if git.has_object(id) && !is_empty(&loose_path(&self.folder, &id)) {
            self.inner().referred.push(id);
            return Ok(id);
        }
        let written = self.write_aside(kind, data)?;
        self.inner().written.push((id, written));
        Ok(id)
    }

    /// Says that the change comes after a commit of the user's, which Git may not have synced.
    pub fn refer_to_state(&self, state: Option<StateId>) {
        if let Some(state) = state {
            self.refer_to(&self.git.local(), state.into());
        }
    }

    /// Adds a state's commit; answers its id.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_commit(&self, text: &CommitText<'_>) -> Result<StateId, ObjectError> {
        let id = self.write(&self.git.local(), Kind::Commit, &text.encode())?;
        Ok(id.into())
    }

    /// Says that the change refers to an object that should be there; false if it is not.
    pub fn refer_to(&self, git: &gix::Repository, id: ObjectId) -> bool {
        if self.inner().known.contains(&id) {
            return true;
        }
        if !git.has_object(id) {
            return false;
        }
        let mut inner = self.inner();
        inner.known.insert(id);
        inner.referred.push(id);
        true
    }

    fn write_aside(&self, kind: Kind, data: &[u8]) -> Result<TempPath, ObjectError> {
        let fail = |e| failed("write an object in", &self.folder)(e);
        let aside = tempfile::Builder::new()
            .prefix(ASIDE)
            .permissions(Permissions::from_mode(0o444))
            .tempfile_in(&self.folder)
            .map_err(fail)?;
        let permissions = Permissions::from_mode(0o444 & self.mode);
        aside.as_file().set_permissions(permissions).map_err(fail)?;
        let mut deflated = deflate::Write::new(aside.as_file(), self.level);
        deflated
            .write_all(&loose_header(kind, data.len() as u64))
            .and_then(|()| deflated.write_all(data))
            .and_then(|()| deflated.flush())
            .map_err(fail)?;
        Ok(aside.into_temp_path())
    }

    /// Makes all of it durable and puts it in place.
    ///
    /// # Errors
    /// When the disk refuses; what is in place by then does no harm.
    pub fn finish(self) -> Result<(), ObjectError> {
        let inner = self.inner.into_inner();
        let inner = inner.unwrap_or_else(PoisonError::into_inner);
        let place = |id: &ObjectId| loose_path(&self.folder, id);
        let loose = loose_among(&self.folder, &inner.referred);
        for path in &loose {
            if is_empty(path) {
                let lost = "it is empty, as a power cut leaves what was not synced; `git fsck` says more, and touching the file that it is of has it written anew";
                return Err(failed("refer to", path)(io::Error::other(lost)));
            }
            freshen(path);
        }
        let many = inner.written.len() + loose.len() > MANY;
        let aside = inner.written.iter().map(|(_, path)| path.to_path_buf());
        let contents: Vec<_> = aside.chain(loose).collect();
        sync(&self.folder, &contents, many)?;

        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        let mut made = false;
        // In the order in which they were written: what an object refers to is there before it.
        for (id, aside) in inner.written {
            let path = place(&id);
            let folder = path.parent().unwrap_or(&self.folder);
            if !folders.contains(folder) {
                made |= make_folder(folder, self.mode)?;
                folders.insert(folder.to_owned());
            }
            match rename_new(&aside, &path) {
                // It is no temporary file any more.
                Ok(()) => drop(aside.keep()),
                // It had been lost in a power cut.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_empty(&path) => {
                    fs::rename(&aside, &path).map_err(failed("put an object at", &path))?;
                    drop(aside.keep());
                }
                // Somebody else wrote the same object meanwhile, and perhaps did not sync it.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => sync_one(&path)?,
                Err(e) => return Err(failed("put an object at", &path)(e)),
            }
        }
        if made {
            folders.insert(self.folder.clone());
        }
        let folders: Vec<PathBuf> = folders.into_iter().collect();
        if many {
            return sync(&self.folder, &folders, many);
        }
        // One after the other: they have no content to write, and the first writes the
        // filesystem's journal for all. Threads would cost more than that.
        folders.iter().try_for_each(|folder| sync_one(folder))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Git, as the batch was given it.
    pub fn git(&self) -> &GitDir {
        &self.git
    }
}

/// Removes what was being written when an earlier daemon was killed: nothing refers to it.
///
/// # Errors
/// When the folder cannot be read, or a file not be removed.
pub fn sweep_objects(git: &GitDir, repository: &Repository) -> Result<(), ObjectError> {
    let folder = git.local().objects.store_ref().path().to_owned();
    let own = folder.canonicalize().map_err(failed("find", &folder))?;
    if !own.starts_with(repository.common_dir()) {
        // Shared with another repository, whose daemon may be writing.
        return Ok(());
    }
    let names = fs::read_dir(&folder).map_err(failed("read", &folder))?;
    for entry in names {
        let entry = entry.map_err(failed("read", &folder))?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(ASIDE.as_bytes())
        {
            let path = entry.path();
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}

/// Whether an object's file is there and has nothing in it: no object is so.
fn is_empty(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.len() == 0)
}

/// Makes a folder of objects; answers whether it was not there.
fn make_folder(folder: &Path, mode: u32) -> Result<bool, ObjectError> {
    match DirBuilder::new().mode(0o777).create(folder) {
        Ok(()) => {
            // The daemon's umask is not the user's, nor that of those who share the repository.
            let permissions = Permissions::from_mode(mode);
            fs::set_permissions(folder, permissions).map_err(failed("make", folder))?;
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(failed("make", folder)(e)),
    }
}

/// Moves a file to where none is.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use nix::{
            errno::Errno,
            fcntl::{AT_FDCWD, RenameFlags, renameat2},
        };
        match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {}
            moved => return Ok(moved?),
        }
    }
    // Nothing is lost by putting an object in the place of the same one.
    fs::rename(from, to)
}

fn loose_path(folder: &Path, id: &ObjectId) -> PathBuf {
    let hex = id.to_string();
    let (first, rest) = hex.split_at(2);
    folder.join(first).join(rest)
}

/// The files of those objects that are loose: packs are synced by Git.
fn loose_among(folder: &Path, ids: &[ObjectId]) -> Vec<PathBuf> {
    let paths = |ids: &mut dyn Iterator<Item = &ObjectId>| -> Vec<PathBuf> {
        ids.map(|id| loose_path(folder, id))
            .filter(|path| path.exists())
            .collect()
    };
    if ids.len() <= MANY * 4 {
        return paths(&mut ids.iter());
    }
    // Looking into 256 folders is less than asking for each of so many.
    let mut loose = HashSet::new();
    for first in 0..=255_u8 {
        let first = format!("{first:02x}");
        let Ok(names) = fs::read_dir(folder.join(&first)) else {
            continue;
        };
        loose.extend(names.flatten().filter_map(|entry| {
            let name = entry.file_name();
            ObjectId::from_hex(format!("{first}{}", name.to_str()?).as_bytes()).ok()
        }));
    }
    paths(&mut ids.iter().filter(|id| loose.contains(*id)))
}

/// As Git does with an object that it would write and that is there: it is young again, and not
/// removed as one that nobody needed for weeks.
fn freshen(path: &Path) {
    let times = FileTimes::new().set_modified(SystemTime::now());
    if let Ok(file) = File::open(path) {
        // Not ours to touch in a shared repository; then it is as old as it is.
        let _ = file.set_times(times);
    }
}

/// Syncs files or folders that all lie on the filesystem of `folder`.
pub(super) fn sync(folder: &Path, paths: &[PathBuf], many: bool) -> Result<(), ObjectError> {
    if paths.is_empty() {
        return Ok(());
    }
    #[cfg(target_os = "linux")]
    if many {
        let whole = File::open(folder).map_err(failed("open", folder))?;
        return nix::unistd::syncfs(&whole).map_err(|e| failed("sync", folder)(e.into()));
    }
    let _ = (folder, many);
    if let [path] = paths {
        return sync_one(path);
    }
    let share = paths.len().div_ceil(AT_ONCE);
    thread::scope(|scope| {
        let shares: Vec<_> = paths
            .chunks(share)
            .map(|share| scope.spawn(|| share.iter().try_for_each(|path| sync_one(path))))
            .collect();
        shares.into_iter().try_for_each(|share| {
            let died = || failed("sync", folder)(io::Error::other("a thread died"));
            share.join().unwrap_or_else(|_| Err(died()))
        })
    })
}

fn sync_one(path: &Path) -> Result<(), ObjectError> {
    let open = OpenOptions::new().read(true).open(path);
    open.and_then(|file| file.sync_all())
        .map_err(failed("sync", path))
}
