//! The identity that Git is configured with. It is read when first asked for and again only when a
//! configuration file changed, so that a call does not pay for parsing it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// A person or agent, as Git names them.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    files: Vec<(PathBuf, Stamp)>,
}

/// What tells one version of a file from another; `None` where there is none.
type Stamp = Option<(u64, u64, i64, i64)>;

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
        let fresh = cached
            .as_ref()
            .is_some_and(|c| c.files.iter().all(|(path, seen)| stamp(path) == *seen));
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

    let mut paths: Vec<PathBuf> = config
        .plumbing()
        .sections()
        .filter_map(|section| section.meta().path.clone())
        .collect();
    paths.extend(places_that_may_appear(git_dir));
    paths.sort();
    paths.dedup();
    let files = paths
        .into_iter()
        .map(|path| {
            let seen = stamp(&path);
            (path, seen)
        })
        .collect();
    Some(Cached { identity, files })
}

/// Files that Git would read if they were there (git-config(1), FILES).
fn places_that_may_appear(git_dir: &Path) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let xdg = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| home.as_ref().map(|home| home.join(".config")));
    let mut places = vec![git_dir.join("config"), git_dir.join("config.worktree")];
    places.extend(home.map(|home| home.join(".gitconfig")));
    places.extend(xdg.map(|xdg| xdg.join("git").join("config")));
    places
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}
