//! `RepoPath`: a path that a caller gives, checked: it lies in the worktree, and is not Git's.

use std::path::{Component, Path};

use crate::failure::{Failure, Reason};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    validate::path::{
        component,
        component::{Mode, Options},
    },
};

/// A path from the worktree's root; empty is the root itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoPath(BString);

/// Why a path is none of the worktree's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path {asked:?} {why}; give one from the worktree's root, such as `src/main.rs`")]
pub struct PathError {
    asked: String,
    why: &'static str,
}

impl RepoPath {
    /// Checks a path that is absolute and inside `root`, or starts at it.
    ///
    /// # Errors
    /// When it leads out of the worktree, into Git's own folder or into `.heddle`.
    pub fn parse(root: &Path, asked: &str) -> Result<Self, PathError> {
        let fault = |why| PathError {
            asked: asked.chars().take(256).collect(),
            why,
        };
        if asked.contains('\0') {
            return Err(fault("has a NUL byte, which no path can"));
        }
        let path = Path::new(asked);
        let path = if path.is_absolute() {
            let inside = path.strip_prefix(root);
            inside.map_err(|_| fault("lies outside of the worktree"))?
        } else {
            path
        };
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) => parts.push(name.as_encoded_bytes()),
                Component::ParentDir => {
                    parts
                        .pop()
                        .ok_or_else(|| fault("leads out of the worktree"))?;
                }
                Component::RootDir | Component::Prefix(_) => {
                    return Err(fault("lies outside of the worktree"));
                }
            }
        }
        let path: BString = parts.join(&b'/').into();
        if !path.is_empty() && !is_safe(path.as_bstr()) {
            return Err(fault("is Git's own, or none that Git would keep"));
        }
        if parts.first() == Some(&b".heddle".as_slice()) {
            return Err(fault("is heddle's own"));
        }
        Ok(Self(path))
    }

    /// The path.
    pub fn as_bstr(&self) -> &BStr {
        self.0.as_bstr()
    }
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        Failure::field(Reason::PathInvalid, "paths", error.to_string())
    }
}

/// A path for people and for texts that are UTF-8: as it is or, where it is no UTF-8, quoted as Git
/// does (git-config(1), core.quotePath).
pub fn shown_path(path: &BStr) -> String {
    if let Ok(text) = path.to_str() {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for byte in path.iter().copied() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            byte => quoted.push_str(&format!("\\{byte:03o}")),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether Git would check such a path out: no part of it is `.git`, in any spelling that some
/// filesystem takes for it, nor leads elsewhere (`verify_path` in Git; git-config(1),
/// core.protectHFS, core.protectNTFS).
pub(super) fn is_safe(path: &BStr) -> bool {
    path.split_str("/")
        .all(|part| is_safe_name(part.as_bstr(), false))
}

/// The same for one name; Git does not take its own `.gitmodules` from a link.
pub(super) fn is_safe_name(name: &BStr, is_link: bool) -> bool {
    let options = Options {
        protect_windows: false,
        protect_hfs: true,
        protect_ntfs: true,
    };
    let mode = is_link.then_some(Mode::Symlink);
    component(name, mode, options).is_ok()
}
