//! The service manager that may hold a repository's socket: installing units for it, and starting,
//! stopping and asking through it. What was installed is recorded in the repository's own heddle
//! folder, so that a client finds it without asking anybody.

mod files;
mod launchd;
mod systemd;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{child::child, git::Repository, local_daemon::activation::SUN_PATH_MAX};
pub use launchd::Launchd;
pub use systemd::Systemd;

/// A service manager of this user.
pub trait Manager {
    /// Where it binds the socket of an instance.
    ///
    /// # Errors
    /// When the environment does not tell.
    fn socket(&self, instance: &str) -> Result<PathBuf, Error>;

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

    /// Makes the manager know of what was written; with `now` also makes it listen. Answers what
    /// was done, in words.
    ///
    /// # Errors
    /// When the manager refuses.
    fn enable(&self, unit: &Unit, now: bool) -> Result<Vec<String>, Error>;

    /// Makes the manager let go of an instance. Answers what was done, in words.
    ///
    /// # Errors
    /// When the manager refuses.
    fn disable(&self, instance: &str) -> Result<Vec<String>, Error>;

    /// Makes it forget files that were removed.
    ///
    /// # Errors
    /// When the manager refuses.
    fn forget(&self) -> Result<(), Error>;

    /// Makes it listen.
    ///
    /// # Errors
    /// When the manager refuses.
    fn listen(&self, instance: &str) -> Result<(), Error>;

    /// Ends daemon and socket.
    ///
    /// # Errors
    /// When the manager refuses.
    fn stop(&self, instance: &str) -> Result<(), Error>;

    /// Ends the daemon and starts another, with the socket held all the while.
    ///
    /// # Errors
    /// When the manager refuses.
    fn restart(&self, instance: &str) -> Result<(), Error>;

    /// Whether it listens for the instance now.
    fn is_listening(&self, instance: &str) -> bool;
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

/// What is installed for a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// For which manager.
    pub manager: Kind,
    /// Under which name.
    pub instance: String,
    /// The executable that it starts.
    pub heddle: PathBuf,
    /// The repository's root: a copied folder brings the record, and is not installed.
    pub repository: PathBuf,
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

impl Installed {
    /// What is recorded for a repository, if anything is.
    pub fn of(repository: &Repository) -> Option<Self> {
        let text = fs::read_to_string(record(repository)).ok()?;
        let installed: Self = toml::from_str(&text).ok()?;
        (installed.repository == repository.root()).then_some(installed)
    }
}

/// Installs a service for a repository. Answers what was done, in words.
///
/// # Errors
/// When the name is taken or cannot be one, when a file is in the way that we did not write, and
/// when the manager refuses.
pub fn install(repository: &Repository, unit: &Unit, now: bool) -> Result<Vec<String>, Error> {
    let kind = Kind::native();
    let manager = kind.manager();
    check_name(&*manager, &unit.instance)?;
    check_paths(unit)?;
    let installed = Installed::of(repository);
    let was_installed = installed.is_some();
    if let Some(other) = installed.filter(|there| there.instance != unit.instance) {
        return Err(Error::Installed(other.instance));
    }
    let _alone = files::lock(&manager.folder()?)?;
    let files = manager.files(unit)?;
    files::refuse_foreign(&files)?;
    refuse_taken(&*manager, unit)?;

    let mut done = Vec::new();
    let mut written = Vec::new();
    let mut put_in_place = || -> Result<(), Error> {
        for (path, text) in &files {
            if files::write(path, text)? {
                written.push(path);
                done.push(format!("wrote {}", path.display()));
            }
        }
        let installed = Installed {
            manager: kind,
            instance: unit.instance.clone(),
            heddle: unit.heddle.clone(),
            repository: unit.repository.clone(),
        };
        files::write_record(&record(repository), &installed)?;
        done.extend(manager.enable(unit, now)?);
        Ok(())
    };
    match put_in_place() {
        Ok(()) => Ok(done),
        Err(error) => {
            if !was_installed {
                take_back(repository, &*manager, &unit.instance, &written);
            }
            Err(error)
        }
    }
}

/// Undoes an installation that failed half-way, as far as that works: why it failed is what counts.
fn take_back(repository: &Repository, manager: &dyn Manager, instance: &str, written: &[&PathBuf]) {
    let _ = manager.disable(instance);
    for path in written.iter().rev() {
        let _ = files::remove(path);
    }
    let _ = fs::remove_file(record(repository));
    let _ = manager.forget();
}

/// Removes the service of a repository, and the shared units with the last one.
///
/// # Errors
/// When there is none, and when the manager refuses.
pub fn uninstall(repository: &Repository, unit: &Unit) -> Result<Vec<String>, Error> {
    let installed = Installed::of(repository).ok_or(Error::NotInstalled)?;
    let manager = installed.manager.manager();
    let _alone = files::lock(&manager.folder()?)?;
    // A manager that cannot be asked holds nothing; what was written goes all the same.
    let mut done = match manager.disable(&installed.instance) {
        Ok(done) => done,
        Err(error) => vec![format!("note: {error}")],
    };
    let unit = Unit {
        instance: installed.instance,
        ..unit.clone()
    };
    // Drop-ins first: a template goes only with the last of them.
    for (path, _) in manager.files(&unit)?.iter().rev() {
        if files::remove(path)? {
            done.push(format!("removed {}", path.display()));
        }
    }
    if let Err(error) = manager.forget() {
        done.push(format!("note: {error}"));
    }
    let record = record(repository);
    fs::remove_file(&record).map_err(|e| Error::file("remove", &record, e))?;
    Ok(done)
}

/// The name that a repository gets where none is asked for: its folder's, as far as it can be one.
pub fn default_name(repository: &Path) -> String {
    let folder = repository.file_name().unwrap_or_default().to_string_lossy();
    let folder = folder.trim_end_matches(".git");
    let name: String = folder
        .chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "repository" } else { name }.to_owned()
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Characters of a unit's name (systemd.unit(5)); the backslash is for escaped paths.
fn check_name(manager: &dyn Manager, name: &str) -> Result<(), Error> {
    let fail = |why: String| {
        Err(Error::Name {
            name: name.to_owned(),
            why,
        })
    };
    let allowed = |c: char| is_plain(c) || matches!(c, ':' | '\\');
    if name.is_empty() || !name.chars().all(allowed) {
        return fail("it must be of letters, digits, and _ - . : \\".to_owned());
    }
    let socket = manager.socket(name)?;
    let length = socket.as_os_str().len();
    if length > SUN_PATH_MAX {
        return fail(format!(
            "its socket {} would have {length} bytes, and a socket's path may have {SUN_PATH_MAX}",
            socket.display()
        ));
    }
    Ok(())
}

/// Refuses paths that a line of a unit cannot hold.
fn check_paths(unit: &Unit) -> Result<(), Error> {
    for path in [&unit.heddle, &unit.repository] {
        let text = path.to_string_lossy();
        if text.chars().any(char::is_control) || text.ends_with([' ', '\\']) {
            return Err(Error::Environment(format!(
                "no unit can have the path {text:?}: it has control characters, or ends in a blank or backslash; move it"
            )));
        }
    }
    Ok(())
}

/// Refuses a name under which another repository is installed.
fn refuse_taken(manager: &dyn Manager, unit: &Unit) -> Result<(), Error> {
    let taken_by = |instance: &str| -> Result<Option<String>, Error> {
        let other = Unit {
            instance: instance.to_owned(),
            ..unit.clone()
        };
        let owners = manager.files(&other)?;
        Ok(owners
            .iter()
            .find_map(|(path, _)| files::repository_of(path)))
    };
    let own = unit.repository.display().to_string();
    let Some(other) = taken_by(&unit.instance)?.filter(|other| *other != own) else {
        return Ok(());
    };
    let mut proposals = (2..).map(|n| format!("{}-{n}", unit.instance));
    let proposal = proposals
        .find(|name| matches!(taken_by(name), Ok(None)))
        .unwrap_or_default();
    Err(Error::Taken {
        name: unit.instance.clone(),
        other,
        proposal,
    })
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

fn record(repository: &Repository) -> PathBuf {
    repository.store_dir().join("service.toml")
}
