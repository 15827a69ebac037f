//! The service manager that may hold a repository's socket: installing units for it, and starting,
//! stopping and asking through it.

mod files;
mod install;
mod launchd;
mod present;
mod systemd;

use std::{
    env, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{child::child, git::Repository, local_daemon::default_socket_path};
pub use install::{default_name, install, uninstall};
pub use launchd::Launchd;
pub use present::Service;
pub use systemd::Systemd;

/// A service manager of this user: what differs between them, and nothing else.
pub trait Manager {
    /// Where it binds the socket of an instance.
    ///
    /// # Errors
    /// When the environment does not tell.
    fn socket(&self, instance: &str) -> Result<PathBuf, Error>;

    /// What it calls that socket.
    fn listener(&self, instance: &str) -> String;

    /// The files that make up an instance: path and text.
    ///
    /// # Errors
    /// When the environment does not tell where they belong.
    fn files(&self, unit: &Unit) -> Result<Vec<(PathBuf, String)>, Error>;

    /// The folder that all instances' files lie in or below.
    ///
    /// # Errors
    /// When the environment does not tell.
    fn folder(&self) -> Result<PathBuf, Error>;

    /// Makes it know of what was written, and listen from the next login on. Answers what was done,
    /// in words.
    ///
    /// # Errors
    /// When the manager refuses.
    fn enable(&self, unit: &Unit) -> Result<Vec<String>, Error>;

    /// Undoes `enable`, for an instance that was stopped.
    ///
    /// # Errors
    /// When the manager refuses.
    fn disable(&self, unit: &Unit) -> Result<(), Error>;

    /// Makes it forget files that were removed.
    ///
    /// # Errors
    /// When the manager refuses.
    fn forget(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Makes it listen.
    ///
    /// # Errors
    /// When the manager refuses.
    fn listen(&self, unit: &Unit) -> Result<(), Error>;

    /// Ends daemon and socket.
    ///
    /// # Errors
    /// When the manager refuses.
    fn stop(&self, unit: &Unit) -> Result<(), Error>;

    /// Lets the daemon drain and starts another, with the socket held all the while. False where it
    /// has no command for that: then the daemon is to be asked to leave, and a call starts the next.
    ///
    /// # Errors
    /// When the manager refuses.
    fn restart(&self, unit: &Unit) -> Result<bool, Error> {
        let _ = unit;
        Ok(false)
    }

    /// Whether it listens for the instance now.
    fn is_listening(&self, unit: &Unit) -> bool;
}

/// The service managers that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `systemd --user`.
    Systemd,
    /// launchd, for the user's session.
    Launchd,
}

impl Kind {
    /// The manager of this machine.
    pub fn native() -> Self {
        if cfg!(target_os = "macos") {
            Self::Launchd
        } else {
            Self::Systemd
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Launchd => "launchd",
        }
    }

    /// The manager itself.
    pub fn manager(self) -> Box<dyn Manager> {
        match self {
            Self::Systemd => Box::new(Systemd),
            Self::Launchd => Box::new(Launchd),
        }
    }
}

/// One repository's service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name among this user's.
    pub instance: String,
    /// The executable, absolute.
    pub heddle: PathBuf,
    /// The repository's root.
    pub repository: PathBuf,
    /// Its heddle folder in the Git folder: while that is there, so is the repository.
    pub store: PathBuf,
    /// Where clients look for the socket.
    pub link: PathBuf,
}

impl Unit {
    /// The service of a repository, with a name and an executable to be started.
    pub fn new(repository: &Repository, instance: String, heddle: PathBuf) -> Self {
        Self {
            instance,
            heddle,
            repository: repository.root().to_owned(),
            store: repository.store_dir(),
            link: default_socket_path(repository),
        }
    }
}

/// Why a service could not be installed, removed or talked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be an instance's.
    #[error("{name:?} cannot name a service: {why}; give another one with --name")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Another repository has the name.
    #[error("the name {name} is taken by {other}; give another one, such as --name {proposal}")]
    Taken {
        /// The name.
        name: String,
        /// The repository that has it.
        other: String,
        /// A name that is free.
        proposal: String,
    },
    /// This repository has a service already, under another name.
    #[error("this repository is installed already, as {0}; run `heddle agent uninstall` first")]
    Installed(String),
    /// No service is installed for this repository.
    #[error("no service is installed for this repository; `heddle agent install` does it")]
    NotInstalled,
    /// A file is there that was not written by us.
    #[error("{} was not written by heddle and is left as it is; move it away first", .0.display())]
    NotOurs(PathBuf),
    /// The environment lacks something.
    #[error("{0}")]
    Environment(String),
    /// The manager refused.
    #[error("`{command}` failed: {said}")]
    Manager {
        /// The command that was run.
        command: String,
        /// What it said.
        said: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Runs a manager's own command.
fn ask(program: &str, arguments: &[&str]) -> Result<(), Error> {
    let command = format!("{program} {}", arguments.join(" "));
    let failed = |said: String| Error::Manager {
        command: command.clone(),
        said,
    };
    let output = child(program)
        .args(arguments)
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.trim().replace('\n', "; ")))
}

/// A folder that the environment names.
fn named_folder(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
}
