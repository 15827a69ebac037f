//! Installing and removing a repository's service. Each thing done is answered in words; what was
//! not written by us is never touched, and an installation that fails leaves nothing.

use std::path::{Path, PathBuf};

use super::{Error, Manager, Service, Unit, files};
use crate::{git::Repository, local_daemon::activation::SUN_PATH_MAX};

/// Installs a service for a repository; with `now` it listens at once. Answers what was done, in
/// words.
///
/// # Errors
/// When the name is taken or cannot be one, when a file is in the way that we did not write, and
/// when the manager refuses.
pub fn install(
    repository: &Repository,
    service: &Service,
    now: bool,
) -> Result<Vec<String>, Error> {
    let unit = &service.unit;
    let manager = service.manager.manager();
    check_name(&*manager, &unit.instance)?;
    check_paths(unit)?;
    let installed = Service::installed(repository);
    let was_installed = installed.is_some();
    let same = |there: &Service| {
        (there.manager, &there.unit.instance) == (service.manager, &unit.instance)
    };
    if let Some(other) = installed.filter(|there| !same(there)) {
        return Err(Error::Installed(other.unit.instance));
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
        service.note(repository)?;
        done.extend(manager.enable(unit)?);
        if now {
            manager.listen(unit)?;
            done.push(format!(
                "started {}: the first call starts the daemon",
                service.name()
            ));
        }
        Ok(())
    };
    match put_in_place() {
        Ok(()) => Ok(done),
        Err(error) => {
            if !was_installed {
                take_back(repository, service, &written);
            }
            Err(error)
        }
    }
}

/// Undoes an installation that failed half-way, as far as that works: why it failed is what counts.
fn take_back(repository: &Repository, service: &Service, written: &[&PathBuf]) {
    let manager = service.manager.manager();
    let _ = let_go(&*manager, &service.unit);
    for path in written.iter().rev() {
        let _ = files::remove(path);
    }
    let _ = Service::forget(repository);
    let _ = manager.forget();
}

/// Undoes as much as can be undone; answers what failed first.
fn let_go(manager: &dyn Manager, unit: &Unit) -> Result<(), Error> {
    let stopped = manager.stop(unit);
    let disabled = manager.disable(unit);
    stopped.and(disabled)
}

/// Removes the service of a repository, and the shared units with the last one. Answers its name
/// and what was done, in words.
///
/// # Errors
/// When there is none, and when the manager refuses.
pub fn uninstall(repository: &Repository) -> Result<(String, Vec<String>), Error> {
    let service = Service::installed(repository).ok_or(Error::NotInstalled)?;
    let manager = service.manager.manager();
    let _alone = files::lock(&manager.folder()?)?;
    // A manager that cannot be asked holds nothing; what was written goes all the same.
    let mut done = vec![match let_go(&*manager, &service.unit) {
        Ok(()) => format!("stopped and disabled {}", service.name()),
        Err(error) => format!("note: {error}"),
    }];
    // Drop-ins first: a template goes only with the last of them.
    for (path, _) in manager.files(&service.unit)?.iter().rev() {
        if files::remove(path)? {
            done.push(format!("removed {}", path.display()));
        }
    }
    if let Err(error) = manager.forget() {
        done.push(format!("note: {error}"));
    }
    Service::forget(repository)?;
    Ok((service.unit.instance, done))
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
