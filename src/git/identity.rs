//! The identity that Git is configured with. It is read when first asked for and again only when a
//! configuration file changed, so that a call does not pay for parsing it.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::config_files::ConfigFiles;

/// A person or agent, as Git names them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// As in `user.name`.
    pub name: String,
    /// As in `user.email`.
    pub email: String,
}

/// Gives the configured identity of one repository.
#[derive(Debug)]
pub struct IdentitySource {
    git_dir: PathBuf,
    cached: Mutex<Option<Cached>>,
}

#[derive(Debug)]
struct Cached {
    identity: Option<Identity>,
    files: ConfigFiles,
}

impl IdentitySource {
    pub(super) fn new(git_dir: PathBuf) -> Self {
        Self {
            git_dir,
            cached: Mutex::new(None),
        }
    }

    /// The identity by `author.*` or `user.*`; `None` when Git has none or cannot be read now.
    pub fn current(&self) -> Option<Identity> {
        let mut cached = self
            .cached
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let fresh = cached.as_ref().is_some_and(|c| !c.files.changed());
        if !fresh {
            *cached = read(&self.git_dir);
        }
        cached.as_ref().and_then(|c| c.identity.clone())
    }
}

fn read(git_dir: &Path) -> Option<Cached> {
    let repository = gix::open(git_dir).ok()?;
    let config = repository.config_snapshot();
    let value = |key: &str| {
        let own = config.string(format!("author.{key}").as_str());
        own.or_else(|| config.string(format!("user.{key}").as_str()))
            .map(|text| text.to_string())
    };
    let identity = value("name")
        .zip(value("email"))
        .map(|(name, email)| Identity { name, email });

    let files = ConfigFiles::of(&repository);
    Some(Cached { identity, files })
}
