//! The files that Git's configuration comes from, and whether one changed since they were read.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Configuration and attributes that hold for a whole repository, as they were at one moment.
#[derive(Debug)]
pub(super) struct ConfigFiles {
    files: Vec<(PathBuf, Stamp)>,
}

/// What tells one version of a file from another; `None` where there is none.
type Stamp = Option<(u64, u64, i64, i64)>;

impl ConfigFiles {
    /// The files that `git` was configured from.
    pub(super) fn of(git: &gix::Repository) -> Self {
        let config = git.config_snapshot();
        let mut paths: Vec<PathBuf> = config
            .plumbing()
            .sections()
            .filter_map(|section| section.meta().path.clone())
            .collect();
        paths.extend(places_that_may_appear(git.git_dir(), git.common_dir()));
        // Which of them count may depend on the branch (git-config(1), includeIf, onbranch).
        let mut includes = config.plumbing().sections_by_name("includeIf");
        if includes
            .as_mut()
            .is_some_and(|found| found.any(|one| of_branch(&one)))
        {
            paths.push(git.git_dir().join("HEAD"));
        }
        let attributes = config.trusted_path("core.attributesFile");
        paths.extend(attributes.ok().flatten());
        paths.sort();
        paths.dedup();
        let stamped = |path: PathBuf| {
            let seen = stamp(&path);
            (path, seen)
        };
        Self {
            files: paths.into_iter().map(stamped).collect(),
        }
    }

    /// Whether one of them is not what it was.
    pub(super) fn changed(&self) -> bool {
        self.files.iter().any(|(path, seen)| stamp(path) != *seen)
    }
}

fn of_branch(section: &gix::config::file::SectionRef<'_>) -> bool {
    let condition = section.header().subsection_name();
    condition.is_some_and(|condition| condition.starts_with(b"onbranch:"))
}

/// Files that Git would read if they were there (git-config(1), FILES; gitattributes(5)).
fn places_that_may_appear(git_dir: &Path, common_dir: &Path) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let xdg = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| home.as_ref().map(|home| home.join(".config")));
    let mut places = vec![
        common_dir.join("config"),
        git_dir.join("config.worktree"),
        common_dir.join("info/attributes"),
    ];
    places.extend(home.map(|home| home.join(".gitconfig")));
    for name in ["config", "attributes"] {
        places.extend(xdg.as_ref().map(|xdg| xdg.join("git").join(name)));
    }
    places
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}
