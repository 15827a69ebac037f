//! The service that a repository has: the one that was installed, as recorded in its own heddle
//! folder, or units as packaged that listen for its path. A client finds either without asking
//! anybody.

use std::{
    fs, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Error, Kind, Manager, Systemd, Unit, files, systemd};
use crate::git::Repository;

/// The service of a repository, and the manager that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Which manager.
    pub manager: Kind,
    /// Under which name, and what it starts.
    pub unit: Unit,
}

/// What is recorded of an installation.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    manager: Kind,
    instance: String,
    heddle: PathBuf,
    /// The repository's root: a copied folder brings the record, and is not installed.
    repository: PathBuf,
}

impl Service {
    /// The service that holds the repository's socket, if there is one.
    pub fn of(repository: &Repository) -> Option<Self> {
        Self::installed(repository).or_else(|| Self::by_path(repository))
    }

    /// The service that was installed for the repository.
    pub fn installed(repository: &Repository) -> Option<Self> {
        let text = fs::read_to_string(record(repository)).ok()?;
        let installed: Record = toml::from_str(&text).ok()?;
        (installed.repository == repository.root()).then(|| Self {
            manager: installed.manager,
            unit: Unit::new(repository, installed.instance, installed.heddle),
        })
    }

    /// Packaged units need no installation: `heddle-agent@<escaped path>`. Their socket is there
    /// while they listen, and goes when they are stopped (`RemoveOnStop=`).
    fn by_path(repository: &Repository) -> Option<Self> {
        let instance = systemd::escaped(repository.root());
        let socket = Systemd.socket(&instance).ok()?.symlink_metadata().ok()?;
        socket.file_type().is_socket().then(|| Self {
            manager: Kind::Systemd,
            unit: Unit::new(repository, instance, systemd::PACKAGED_HEDDLE.into()),
        })
    }

    /// Records that this service was installed for the repository.
    pub(super) fn note(&self, repository: &Repository) -> Result<(), Error> {
        let path = record(repository);
        let record = Record {
            manager: self.manager,
            instance: self.unit.instance.clone(),
            heddle: self.unit.heddle.clone(),
            repository: self.unit.repository.clone(),
        };
        let text = toml::to_string(&record)
            .map_err(|e| Error::file("write", &path, io::Error::other(e)))?;
        files::write(&path, &text).map(drop)
    }

    /// Removes that record.
    pub(super) fn forget(repository: &Repository) -> Result<(), Error> {
        let path = record(repository);
        fs::remove_file(&path).map_err(|e| Error::file("remove", &path, e))
    }

    /// What its manager calls it.
    pub fn name(&self) -> String {
        self.manager.manager().listener(&self.unit.instance)
    }

    /// Where its manager binds the socket.
    ///
    /// # Errors
    /// When the environment does not tell.
    pub fn socket(&self) -> Result<PathBuf, Error> {
        self.manager.manager().socket(&self.unit.instance)
    }

    /// Whether its manager listens now.
    pub fn is_listening(&self) -> bool {
        self.manager.manager().is_listening(&self.unit)
    }

    /// Makes its manager listen.
    ///
    /// # Errors
    /// When the manager refuses.
    pub fn listen(&self) -> Result<(), Error> {
        self.manager.manager().listen(&self.unit)
    }

    /// Ends daemon and socket.
    ///
    /// # Errors
    /// When the manager refuses.
    pub fn stop(&self) -> Result<(), Error> {
        self.manager.manager().stop(&self.unit)
    }

    /// See [`Manager::restart`].
    ///
    /// # Errors
    /// When the manager refuses.
    pub fn restart(&self) -> Result<bool, Error> {
        self.manager.manager().restart(&self.unit)
    }

    /// Whether it starts the executable at `heddle`.
    pub fn starts(&self, heddle: &Path) -> bool {
        self.unit.heddle == heddle
    }
}

fn record(repository: &Repository) -> PathBuf {
    repository.store_dir().join("service.toml")
}
