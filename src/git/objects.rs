//! New objects of one change: written aside, synced, renamed into place, folders synced. Nothing may
//! refer to them before [`ObjectBatch::finish`] says that they are durable (G4). Nothing is ever
//! overwritten or removed.

use std::{
    collections::HashSet,
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

use super::{CommitText, GitDir, StateId};

/// From so many files on, one sync of the whole filesystem replaces that of each.
const MANY: usize = 64;
/// Files that are synced at once: their filesystem writes its journal once for all.
const AT_ONCE: usize = 16;

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
    made_folders: bool,
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
        if git.has_object(id) {
            self.inner().referred.push(id);
            return Ok(id);
        }
        let written = self.write_aside(id, kind, data)?;
        self.inner().written.push((id, written));
        Ok(id)
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

    fn write_aside(&self, id: ObjectId, kind: Kind, data: &[u8]) -> Result<TempPath, ObjectError> {
        let folder = self.fan_out(&id);
        let fail = |e| failed("write an object in", &folder)(e);
        match DirBuilder::new().mode(0o777).create(&folder) {
            Ok(()) => {
                // The daemon's umask is not the user's, nor that of those who share the repository.
                let _ = fs::set_permissions(&folder, Permissions::from_mode(self.mode));
                self.inner().made_folders = true;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(fail(e)),
        }
        // `git gc` sweeps leftovers of this name (git-prune(1)).
        let aside = tempfile::Builder::new()
            .prefix("tmp_obj_")
            .permissions(Permissions::from_mode(0o444))
            .tempfile_in(&folder)
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
            freshen(path);
        }
        let many = inner.written.len() + loose.len() > MANY;
        let aside = inner.written.iter().map(|(_, path)| path.to_path_buf());
        let contents: Vec<_> = aside.chain(loose).collect();
        sync(&self.folder, &contents, many)?;

        let mut folders: Vec<PathBuf> = Vec::new();
        for (id, aside) in inner.written {
            let path = place(&id);
            match aside.persist_noclobber(&path) {
                Ok(()) => {}
                // Somebody else wrote the same object meanwhile, and perhaps did not sync it.
                Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {
                    sync_one(&path)?;
                }
                Err(e) => return Err(failed("put an object at", &path)(e.error)),
            }
            folders.extend(path.parent().map(Path::to_owned));
        }
        folders.sort();
        folders.dedup();
        if inner.made_folders {
            folders.push(self.folder.clone());
        }
        sync(&self.folder, &folders, many)
    }

    fn fan_out(&self, id: &ObjectId) -> PathBuf {
        let hex = id.to_hex_with_len(2).to_string();
        self.folder.join(hex)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Git, as the batch was given it.
    pub fn git(&self) -> &GitDir {
        &self.git
    }
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
