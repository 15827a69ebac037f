//! Which commit a person or program means: any revision of Git's (gitrevisions(7)), or raw bytes.

use gix::{ObjectId, objs::Kind};

use super::StateId;

/// Why a revision names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAState {
    /// Nothing of that name.
    #[error("there is no state or revision {0:?} in this repository")]
    Unknown(String),
    /// More than one object begins like this.
    #[error("{asked:?} is short for more than one object: {candidates}; give more digits")]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// Some of what it may mean.
        candidates: String,
    },
    /// An object that is no commit.
    #[error("{asked} is a {kind}, and a state is a commit")]
    NotACommit {
        /// What was asked for.
        asked: String,
        /// What it is.
        kind: Kind,
    },
    /// Raw bytes that are no object id of this repository.
    #[error("a state id of {found} bytes cannot be: this repository's have {wanted}")]
    WrongLength {
        /// Bytes given.
        found: usize,
        /// Bytes that an id has here.
        wanted: usize,
    },
}

/// The commit that `revision` means to Git; tags are followed when named, not by their own id.
///
/// # Errors
/// When it is none, or not a single one.
pub(super) fn resolve(git: &gix::Repository, revision: &str) -> Result<StateId, NotAState> {
    let asked = || revision.chars().take(256).collect::<String>();
    let parsed = match git.rev_parse(revision) {
        Ok(parsed) => parsed.single(),
        Err(error) => return Err(why_not(&error, asked())),
    };
    let Some(id) = parsed else {
        return Err(NotAState::Unknown(asked()));
    };
    let id = id.detach();
    let named = !id.to_string().starts_with(&revision.to_ascii_lowercase());
    commit(git, id, named, asked())
}

/// The commit of this raw object id.
///
/// # Errors
/// When it is none of this repository's.
pub(super) fn resolve_bytes(git: &gix::Repository, bytes: &[u8]) -> Result<StateId, NotAState> {
    let wanted = git.object_hash().len_in_bytes();
    let id = ObjectId::try_from(bytes)
        .ok()
        .filter(|_| bytes.len() == wanted)
        .ok_or(NotAState::WrongLength {
            found: bytes.len(),
            wanted,
        })?;
    commit(git, id, false, id.to_string())
}

fn commit(
    git: &gix::Repository,
    id: ObjectId,
    follow_tags: bool,
    asked: String,
) -> Result<StateId, NotAState> {
    let unknown = |asked| NotAState::Unknown(asked);
    let mut object = match git.find_object(id) {
        Ok(object) => object,
        Err(_) => return Err(unknown(asked)),
    };
    if follow_tags && object.kind == Kind::Tag {
        object = match object.peel_tags_to_end() {
            Ok(object) => object,
            Err(_) => return Err(unknown(asked)),
        };
    }
    match object.kind {
        Kind::Commit => Ok(object.id.into()),
        kind => Err(NotAState::NotACommit { asked, kind }),
    }
}

fn why_not(error: &gix::Error, asked: String) -> NotAState {
    use gix::revision::spec::parse::Error as Parse;
    // It is a tree of errors, and not only a chain of sources.
    for error in error.iter_errors() {
        if let Some(
            Parse::AmbiguousPrefix { candidates, .. }
            | Parse::AmbiguousRefAndObject { candidates, .. },
        ) = error.downcast_ref()
        {
            let candidates = candidates.iter().take(5);
            let candidates: Vec<_> = candidates.map(|(id, _)| id.to_string()).collect();
            return NotAState::Ambiguous {
                asked,
                candidates: candidates.join(", "),
            };
        }
    }
    NotAState::Unknown(asked)
}
