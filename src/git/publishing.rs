//! Remotes to which a push would publish what is under `refs/heddle/`.

use std::collections::BTreeMap;

use gix::bstr::ByteSlice;

use super::{Error, NAMESPACE, Repository};

/// A remote that would be sent our refs, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publishing {
    /// The remote's name.
    pub remote: String,
    /// The refspec that covers our refs; `None` where the remote is a mirror.
    pub refspec: Option<String>,
}

#[derive(Default)]
struct Remote {
    mirror: bool,
    push: Vec<String>,
}

impl Repository {
    /// The configured remotes to which `git push` would publish captures (git-push(1), `--mirror`
    /// and `remote.<name>.push`).
    ///
    /// # Errors
    /// When Git's configuration cannot be read.
    pub fn publishing_remotes(&self) -> Result<Vec<Publishing>, Error> {
        let git = self.open_git().map_err(|e| Error::Unreadable {
            path: self.common_dir().to_owned(),
            reason: e.to_string(),
        })?;
        let config = git.config_snapshot();
        let mut remotes: BTreeMap<String, Remote> = BTreeMap::new();
        let sections = config.plumbing().sections_by_name("remote");
        for section in sections.into_iter().flatten() {
            let Some(name) = section.header().subsection_name() else {
                continue;
            };
            let remote = remotes.entry(name.to_string()).or_default();
            // The last one that says so counts; a key without a value says yes (git-config(1)).
            if let Some(value) = section.value_implicit("mirror") {
                remote.mirror = value.is_none_or(|value| {
                    let value = value.to_ascii_lowercase();
                    matches!(value.as_slice(), b"true" | b"yes" | b"on" | b"1")
                });
            }
            let refspecs = section.values("push");
            remote
                .push
                .extend(refspecs.iter().map(|text| text.to_str_lossy().into_owned()));
        }
        Ok(remotes.into_iter().filter_map(publishing).collect())
    }
}

fn publishing((remote, said): (String, Remote)) -> Option<Publishing> {
    if said.mirror {
        let refspec = None;
        return Some(Publishing { remote, refspec });
    }
    if said.push.iter().any(|refspec| leaves_out(refspec)) {
        return None;
    }
    let covers = said.push.into_iter().find(|refspec| covers(refspec))?;
    let refspec = Some(covers);
    Some(Publishing { remote, refspec })
}

/// Whether a refspec sends any of our refs. A name may lack its `refs/` (gitrevisions(7)).
fn covers(refspec: &str) -> bool {
    let refspec = refspec.strip_prefix('+').unwrap_or(refspec);
    let source = refspec.split(':').next().unwrap_or_default();
    match source.split_once('*') {
        Some((before, _)) => NAMESPACE.starts_with(before) || before.starts_with(NAMESPACE),
        None => source.starts_with(NAMESPACE) || format!("refs/{source}").starts_with(NAMESPACE),
    }
}

/// Whether a refspec keeps all of our refs from being sent.
fn leaves_out(refspec: &str) -> bool {
    let before = refspec
        .strip_prefix('^')
        .and_then(|not| not.strip_suffix('*'));
    before.is_some_and(|before| NAMESPACE.starts_with(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refspecs_that_cover_our_refs_are_known() {
        for refspec in [
            "refs/*:refs/*",
            "+refs/*:refs/*",
            "refs/heddle/*",
            "refs/heddle/threads/*:refs/backup/*",
            "refs/heddle/threads/main",
            "heddle/threads/main",
            "refs/h*:refs/h*",
            "*:*",
        ] {
            assert!(covers(refspec), "{refspec}");
        }
        for refspec in [
            "refs/heads/*:refs/heads/*",
            "main",
            "HEAD:refs/heddle/x",
            ":",
            "refs/heddler/*",
            "^refs/heddle/*",
        ] {
            assert!(!covers(refspec), "{refspec}");
        }
        assert!(leaves_out("^refs/heddle/*") && leaves_out("^refs/h*"));
        assert!(!leaves_out("^refs/heddle/threads/*") && !leaves_out("^refs/heads/*"));
    }
}
