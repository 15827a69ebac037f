//! Discussions: turns anchored to a symbol of a file, which follow that symbol through the history.

mod anchor;
mod annotations;
mod commands;
mod queries;

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use anchor::{Seen, require_signable};
pub use annotations::{Annotation, FOLLOWED, annotations};
pub use commands::{
    AppendTurn, AppendedTurn, OpenDiscussion, OpenRequest, OpenedDiscussion, ResolveDiscussion,
    ResolvedDiscussion, Settlement,
};
pub use queries::{Discussions, Filter};

use crate::failure::{Failure, Reason};
pub use crate::store::{DiscussionRecord, Resolution, TurnRecord};

/// Bytes of one turn, and of an annotation.
pub const BODY_LIMIT: usize = 64 * 1024;
/// Bytes of all turns of a discussion, with who said them.
pub const DISCUSSION_BYTES: usize = 1024 * 1024;

/// A discussion, seen at a state.
#[derive(Debug, Clone, PartialEq)]
pub struct Discussion {
    /// What is kept of it.
    pub record: DiscussionRecord,
    /// What was said, oldest first.
    pub turns: Vec<TurnRecord>,
    /// What has become of its symbol.
    pub seen: Seen,
}

/// What an annotation says about the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnnotationKind {
    /// What the code must keep to.
    Constraint,
    /// What always holds of it.
    Invariant,
    /// Why it is as it is.
    Rationale,
}

impl AnnotationKind {
    /// As it is kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Constraint => "constraint",
            Self::Invariant => "invariant",
            Self::Rationale => "rationale",
        }
    }
}

/// For whom a discussion is meant; kept and given back as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visibility(String);

impl Visibility {
    /// Checks one of WIRE.md's; the empty string means `public`.
    ///
    /// # Errors
    /// When it is another.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let labelled = ["team:", "restricted:", "private:"];
        let is_labelled = labelled.iter().any(|kind| {
            let label = text.strip_prefix(kind);
            label.is_some_and(|label| !label.is_empty() && label.len() <= 256)
        });
        match text {
            "" => Ok(Self("public".to_owned())),
            "public" | "internal" => Ok(Self(text.to_owned())),
            _ if is_labelled => Ok(Self(text.to_owned())),
            _ => Err(Failure::field(
                Reason::InvalidField,
                "visibility",
                format!(
                    "visibility is {:?}; give `public`, `internal`, `team:<id>`, `restricted:<label>` or `private:<label>`",
                    text.chars().take(64).collect::<String>()
                ),
            )),
        }
    }

    /// As it is kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks the text of a turn or of an annotation.
fn check_body(body: &str, field: &'static str) -> Result<(), Failure> {
    let fault = if body.trim().is_empty() {
        format!("{field} is empty; say something")
    } else if body.len() > BODY_LIMIT {
        format!(
            "{field} has {} bytes; {BODY_LIMIT} are the limit: put what is longer into a file, and name it",
            body.len()
        )
    } else {
        return Ok(());
    };
    Err(Failure::field(Reason::InvalidField, field, fault))
}

/// Reads the id of a discussion, which is in this field of the request.
///
/// # Errors
/// When it is none.
pub fn parse_id(text: &str, field: &'static str) -> Result<Uuid, Failure> {
    Uuid::try_parse(text).map_err(|_| {
        Failure::field(
            Reason::InvalidField,
            field,
            format!(
                "{:?} is no id of a discussion: those are UUIDs, and `heddle discuss list` has them",
                text.chars().take(64).collect::<String>()
            ),
        )
    })
}

fn unknown(id: impl fmt::Display) -> Failure {
    Failure::field(
        Reason::DiscussionUnknown,
        "discussion_id",
        format!("there is no discussion {id}; `heddle discuss list` has all"),
    )
}

fn settled(record: &DiscussionRecord) -> Failure {
    let how = match &record.resolution {
        Some(Resolution::Annotation { .. }) => "into an annotation",
        Some(Resolution::Edit { .. }) => "by an edit",
        Some(Resolution::Dismissed { .. }) => "by dismissing it",
        None => "already",
    };
    Failure::field(
        Reason::DiscussionResolved,
        "discussion_id",
        format!(
            "the discussion {} was resolved {how}, and that is final; open another one",
            record.id
        ),
    )
}
