//! launchd, for the user's session. What systemd does by `Symlinks=`, `DirectoryMode=` and
//! `RemoveOnStop=` is done here: launchd binds the socket, and neither makes its folder nor removes
//! anything. Tested with a stand-in for launchctl; that the real one takes it, on macOS only.

use std::{
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use super::{Error, Manager, Unit, ask, files::MARKER, named_folder};
use crate::local_daemon::activation::{link_to, private_folder};

const PROPERTY_LIST: &str = include_str!("../../../packaging/launchd/dev.heddle.agent.plist");

/// What `launchctl bootout` says when the daemon is still finishing what is in flight.
const DRAINS: &str = "Operation now in progress";

/// The user's launchd.
#[derive(Debug, Clone, Copy)]
pub struct Launchd;

impl Manager for Launchd {
    fn socket(&self, instance: &str) -> Result<PathBuf, Error> {
        Ok(sockets()?.join(format!("{instance}.sock")))
    }

    fn listener(&self, instance: &str) -> String {
        format!("dev.heddle.agent.{instance}")
    }

    fn files(&self, unit: &Unit) -> Result<Vec<(PathBuf, String)>, Error> {
        let text = PROPERTY_LIST
            .replace("@INSTANCE@", &escaped(&unit.instance))
            .replace("@HEDDLE@", &escaped(&unit.heddle.to_string_lossy()))
            .replace("@REPOSITORY@", &escaped(&unit.repository.to_string_lossy()))
            .replace(
                "@SOCKET@",
                &escaped(&self.socket(&unit.instance)?.to_string_lossy()),
            );
        // Two hyphens would end the comment.
        let repository = unit
            .repository
            .display()
            .to_string()
            .replace("--", "-&#45;");
        let marker = format!("<!-- {MARKER}\n# Repository: {repository}\n-->\n<plist version");
        let text = text.replacen("<plist version", &marker, 1);
        Ok(vec![(self.property_list(unit)?, text)])
    }

    fn folder(&self) -> Result<PathBuf, Error> {
        Ok(home()?.join("Library/LaunchAgents"))
    }

    fn enable(&self, unit: &Unit) -> Result<Vec<String>, Error> {
        let mut done = self.prepare(unit)?;
        let label = self.listener(&unit.instance);
        done.push(format!(
            "launchd listens for {label} from the next login on"
        ));
        Ok(done)
    }

    fn disable(&self, unit: &Unit) -> Result<(), Error> {
        if is_link_to(&unit.link, &self.socket(&unit.instance)?) {
            fs::remove_file(&unit.link).map_err(|e| Error::file("remove", &unit.link, e))?;
        }
        // Sockets of other instances may lie beside ours: then the folder stays.
        let _ = fs::remove_dir(sockets()?);
        Ok(())
    }

    fn listen(&self, unit: &Unit) -> Result<(), Error> {
        self.prepare(unit)?;
        if self.is_loaded(unit) {
            // Its socket was removed, and it makes another only when it is loaded.
            launchctl(&["bootout", &self.target(unit)])?;
        }
        let list = self.property_list(unit)?;
        launchctl(&["bootstrap", &domain(), &list.to_string_lossy()])
    }

    fn stop(&self, unit: &Unit) -> Result<(), Error> {
        if self.is_loaded(unit) {
            match launchctl(&["bootout", &self.target(unit)]) {
                Err(Error::Manager { said, .. }) if said.contains(DRAINS) => {}
                other => other?,
            }
        }
        let socket = self.socket(&unit.instance)?;
        if !is_socket(&socket) {
            return Ok(());
        }
        fs::remove_file(&socket).map_err(|e| Error::file("remove", &socket, e))
    }

    fn is_listening(&self, unit: &Unit) -> bool {
        self.socket(&unit.instance).is_ok_and(|at| is_socket(&at)) && self.is_loaded(unit)
    }
}

impl Launchd {
    /// Makes the folder that the socket is to lie in, and the link that leads clients to it. Answers
    /// what was done, in words.
    fn prepare(&self, unit: &Unit) -> Result<Vec<String>, Error> {
        let mut done = Vec::new();
        let folder = sockets()?;
        let is_new = !folder.exists();
        let above = folder.parent().unwrap_or(&folder);
        fs::create_dir_all(above)
            .and_then(|()| private_folder(&folder))
            .map_err(|e| Error::file("create", &folder, e))?;
        if is_new {
            done.push(format!("made {}", folder.display()));
        }
        let socket = self.socket(&unit.instance)?;
        // What lies there and is no link is the socket of a daemon that runs by itself. A folder
        // that is gone comes back with the daemon, and the link with it.
        let is_free = match unit.link.symlink_metadata() {
            Ok(found) => found.is_symlink(),
            Err(_) => unit.link.parent().is_some_and(Path::exists),
        };
        if is_free && !is_link_to(&unit.link, &socket) {
            link_to(&socket, &unit.link).map_err(|e| Error::file("link", &unit.link, e))?;
            done.push(format!(
                "linked {} to {}",
                unit.link.display(),
                socket.display()
            ));
        }
        Ok(done)
    }

    fn property_list(&self, unit: &Unit) -> Result<PathBuf, Error> {
        let label = self.listener(&unit.instance);
        Ok(self.folder()?.join(format!("{label}.plist")))
    }

    fn target(&self, unit: &Unit) -> String {
        format!("{}/{}", domain(), self.listener(&unit.instance))
    }

    fn is_loaded(&self, unit: &Unit) -> bool {
        launchctl(&["print", &self.target(unit)]).is_ok()
    }
}

fn domain() -> String {
    format!("gui/{}", nix::unistd::Uid::effective())
}

fn sockets() -> Result<PathBuf, Error> {
    Ok(home()?.join("Library/Caches/heddle"))
}

fn home() -> Result<PathBuf, Error> {
    named_folder("HOME").ok_or_else(|| {
        Error::Environment("HOME is not set, so there is no place for agents".into())
    })
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|found| found.file_type().is_socket())
}

fn is_link_to(link: &Path, target: &Path) -> bool {
    fs::read_link(link).is_ok_and(|there| there == target)
}

fn launchctl(arguments: &[&str]) -> Result<(), Error> {
    ask("launchctl", arguments)
}

/// Text between the tags of a property list.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
