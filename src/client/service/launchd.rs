//! launchd, for the user's session. What it is given is tested everywhere; that it takes it, on
//! macOS only.

use std::{env, path::PathBuf};

use super::{Error, Manager, Unit, ask, files::MARKER};

const PROPERTY_LIST: &str = include_str!("../../../packaging/launchd/dev.heddle.agent.plist");

/// The user's launchd.
#[derive(Debug, Clone, Copy)]
pub struct Launchd;

impl Manager for Launchd {
    fn socket(&self, instance: &str) -> Result<PathBuf, Error> {
        Ok(home()?
            .join("Library/Caches/heddle")
            .join(format!("{instance}.sock")))
    }

    fn files(&self, unit: &Unit) -> Result<Vec<(PathBuf, String)>, Error> {
        let path = home()?
            .join("Library/LaunchAgents")
            .join(format!("{}.plist", label(&unit.instance)));
        let text = PROPERTY_LIST
            .replace("@INSTANCE@", &escaped(&unit.instance))
            .replace("@HEDDLE@", &escaped(&unit.heddle.to_string_lossy()))
            .replace("@REPOSITORY@", &escaped(&unit.repository.to_string_lossy()))
            .replace(
                "@SOCKET@",
                &escaped(&self.socket(&unit.instance)?.to_string_lossy()),
            )
            .replace(
                "@LOG@",
                &escaped(&unit.repository.join(".heddle/agent.log").to_string_lossy()),
            );
        // Two hyphens would end the comment.
        let repository = unit
            .repository
            .display()
            .to_string()
            .replace("--", "-&#45;");
        let marker = format!("<!-- {MARKER}\n# Repository: {repository}\n-->\n<plist version");
        Ok(vec![(path, text.replacen("<plist version", &marker, 1))])
    }

    fn folder(&self) -> Result<PathBuf, Error> {
        Ok(home()?.join("Library/LaunchAgents"))
    }

    fn enable(&self, unit: &Unit, now: bool) -> Result<Vec<String>, Error> {
        if !now {
            return Ok(vec!["launchd takes it at the next login".to_owned()]);
        }
        self.listen(&unit.instance)?;
        Ok(vec![
            "launchd listens: the first call starts the daemon".to_owned(),
        ])
    }

    fn disable(&self, instance: &str) -> Result<Vec<String>, Error> {
        if self.is_listening(instance) {
            self.stop(instance)?;
        }
        Ok(vec![format!("launchd let go of {}", label(instance))])
    }

    fn forget(&self) -> Result<(), Error> {
        Ok(())
    }

    fn listen(&self, instance: &str) -> Result<(), Error> {
        let list = home()?
            .join("Library/LaunchAgents")
            .join(format!("{}.plist", label(instance)));
        launchctl(&["bootstrap", &domain(), &list.to_string_lossy()])
    }

    fn stop(&self, instance: &str) -> Result<(), Error> {
        launchctl(&["bootout", &format!("{}/{}", domain(), label(instance))])
    }

    fn restart(&self, instance: &str) -> Result<(), Error> {
        launchctl(&[
            "kickstart",
            "-k",
            &format!("{}/{}", domain(), label(instance)),
        ])
    }

    fn is_listening(&self, instance: &str) -> bool {
        launchctl(&["print", &format!("{}/{}", domain(), label(instance))]).is_ok()
    }
}

fn label(instance: &str) -> String {
    format!("dev.heddle.agent.{instance}")
}

fn domain() -> String {
    format!("gui/{}", nix::unistd::Uid::effective())
}

fn home() -> Result<PathBuf, Error> {
    let home = env::var_os("HOME").filter(|home| !home.is_empty());
    home.map(PathBuf::from).ok_or_else(|| {
        Error::Environment("HOME is not set, so there is no place for agents".into())
    })
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
