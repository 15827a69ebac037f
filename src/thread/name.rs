//! `ThreadName`: what a thread is called; a name that Git can have behind `refs/heddle/threads/`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Reason},
    git::{NAMESPACE, check_ref_name},
};

/// Bytes that a thread's name may have: a file is named after each part of it.
pub const NAME_LIMIT: usize = 200;

/// A checked name. It keeps Git's rules and cannot lead out of its folder of refs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ThreadName(String);

impl ThreadName {
    /// Checks a name that a caller gave in the request's `field`.
    ///
    /// # Errors
    /// `THREAD_NAME_INVALID`, with the rule that it breaks.
    pub fn parse(name: &str, field: &'static str) -> Result<Self, Failure> {
        let fault = if name.len() > NAME_LIMIT {
            Err(format!(
                "has {} bytes, and {NAME_LIMIT} are the limit",
                name.len()
            ))
        } else {
            check_ref_name(name)
        };
        fault.map(|()| Self(name.to_owned())).map_err(|fault| {
            let asked: String = name.chars().take(64).collect();
            Failure::field(
                Reason::ThreadNameInvalid,
                field,
                format!("the thread name {asked:?} {fault}; choose one such as `fix-login`"),
            )
        })
    }

    /// The name of a thread that is a branch, or is in the store: it was checked then.
    pub(crate) fn known(name: String) -> Self {
        Self(name)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ref that leads to its newest state.
    pub fn reference(&self) -> String {
        format!("{NAMESPACE}threads/{}", self.0)
    }

    /// Names of the ref that keeps its `number`th chain, the one wanted most first: the others are for
    /// when Git could not have it beside another. Ever new ones come.
    pub fn kept_references(&self, number: i64) -> impl Iterator<Item = String> {
        let flat = self.0.replace('%', "%25").replace('/', "%2F");
        let plain = format!("{NAMESPACE}kept/{}/{number}", self.0);
        let others = (0_u32..).map(move |again| match again {
            0 => format!("{NAMESPACE}kept/{flat}/{number}"),
            again => format!("{NAMESPACE}kept/{flat}-{again}/{number}"),
        });
        std::iter::once(plain).chain(others)
    }
}

impl fmt::Display for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
