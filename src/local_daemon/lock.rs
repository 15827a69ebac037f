//! The lock that decides who serves a repository (G1): `flock(2)` on a file in the heddle folder,
//! held for the life of the process.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// The held lock; dropping it, or the process's end, releases it.
#[derive(Debug)]
pub struct RepositoryLock {
    file: Flock<File>,
    path: PathBuf,
}

impl RepositoryLock {
    /// Takes the lock in `store_dir`; `None` when another process holds it.
    ///
    /// # Errors
    /// When the file cannot be made or opened.
    pub fn try_take(store_dir: &Path) -> io::Result<Option<Self>> {
        let path = store_dir.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                let lock = Self { file, path };
                // Somebody may have removed the folder between opening and locking.
                Ok(lock.still_ours().then_some(lock))
            }
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Whether some process holds the lock in `store_dir`. It looks through a shared lock, so those
    /// who look do not take each other for a daemon, and makes nothing.
    pub fn is_held(store_dir: &Path) -> bool {
        let Ok(file) = File::open(store_dir.join("lock")) else {
            return false;
        };
        matches!(
            Flock::lock(file, FlockArg::LockSharedNonblock),
            Err((_, Errno::EWOULDBLOCK))
        )
    }

    /// Whether the file that we hold is still the one at its path.
    pub fn still_ours(&self) -> bool {
        self.witness()()
    }

    /// The same question, for another thread.
    pub fn witness(&self) -> impl Fn() -> bool + Send + 'static {
        let held = self.file.metadata().map(|m| (m.dev(), m.ino())).ok();
        let path = self.path.clone();
        move || {
            let there = path.metadata().map(|m| (m.dev(), m.ino())).ok();
            held.is_some() && there == held
        }
    }
}
