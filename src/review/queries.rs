//! Reading what was signed about a state.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{CheckRecord, SignatureRecord};
use crate::{
    failure::{Failure, Reason},
    git::StateId,
    store::{Error, ReadTx},
};

/// Checks on a page where the caller names no limit.
pub const DEFAULT_CHECKS: u32 = 100;
/// Checks on a page at most.
pub const CHECKS_LIMIT: u32 = 1_000;

/// Signatures of a state, in the order in which they were recorded.
#[derive(Debug, Default)]
pub struct Signatures {
    /// They.
    pub signatures: Vec<SignatureRecord>,
    /// Whether there are more than fit.
    pub truncated: bool,
}

/// Reads the signatures of a state after the one `after`, as long as they fit; `None` where that is
/// none of the state's.
///
/// # Errors
/// When the store cannot be read.
pub fn signatures(
    tx: &ReadTx<'_>,
    state: StateId,
    after: Option<Uuid>,
    mut fits: impl FnMut(&SignatureRecord) -> bool,
) -> Result<Option<Signatures>, Error> {
    let after = match after {
        Some(after) => tx.signature_place(state.as_bytes(), after)?,
        None => Some(0),
    };
    let Some(after) = after else {
        return Ok(None);
    };
    let mut page = Signatures::default();
    tx.signatures(state.as_bytes(), after, |signature| {
        page.truncated = !fits(&signature);
        if !page.truncated {
            page.signatures.push(signature);
        }
        !page.truncated
    })?;
    Ok(Some(page))
}

/// The id of a signature that a caller gave; `None` where it is empty.
///
/// # Errors
/// `INVALID_FIELD` when it cannot be one.
pub fn parse_signature_id(id: &str, field: &'static str) -> Result<Option<Uuid>, Failure> {
    if id.is_empty() {
        return Ok(None);
    }
    Uuid::try_parse(id).map(Some).map_err(|_| {
        let asked: String = id.chars().take(64).collect();
        Failure::field(
            Reason::InvalidField,
            field,
            format!(
                "{asked:?} is not the id of a signature; leave it empty to begin with the first"
            ),
        )
    })
}

/// One page of the checks of a state.
#[derive(Debug, Default)]
pub struct Checks {
    /// They, in the order in which each was first given.
    pub checks: Vec<CheckRecord>,
    /// What asks for the next page; empty on the last one.
    pub next_page: String,
}

/// Reads a page of the checks of a state: those of one reviewer, or of all where `actor` is empty,
/// after the place `after`. A check that is added or changed meanwhile moves no other one.
///
/// # Errors
/// When the store cannot be read.
pub fn checks(
    tx: &ReadTx<'_>,
    state: StateId,
    actor: &str,
    after: i64,
    limit: u32,
    mut fits: impl FnMut(&CheckRecord) -> bool,
) -> Result<Checks, Error> {
    let limit = match limit {
        0 => DEFAULT_CHECKS,
        limit => limit.min(CHECKS_LIMIT),
    };
    let mut page = Checks::default();
    let (mut last, mut more) = (after, false);
    let by = Some(actor).filter(|actor| !actor.is_empty());
    tx.checks(state.as_bytes(), by, after, |check| {
        more = page.checks.len() == limit as usize || !fits(&check);
        if !more {
            last = check.id;
            page.checks.push(check);
        }
        !more
    })?;
    if more {
        page.next_page = page_token(state, actor, last);
    }
    Ok(page)
}

/// The token of the page after the check at `place`. It holds for one state and one reviewer.
fn page_token(state: StateId, actor: &str, place: i64) -> String {
    let seal = Sha256::new()
        .chain_update(b"heddle review progress\0")
        .chain_update(state.as_bytes())
        .chain_update(place.to_be_bytes())
        .chain_update(actor)
        .finalize();
    let seal = u64::from_be_bytes(*seal.first_chunk().unwrap_or(&[0; 8]));
    format!("{place:x}-{seal:016x}")
}

/// The place that a token means; the beginning for an empty one.
///
/// # Errors
/// `INVALID_FIELD` for one that was not answered to this question.
pub fn parse_page_token(state: StateId, actor: &str, token: &str) -> Result<i64, Failure> {
    if token.is_empty() {
        return Ok(0);
    }
    let place = token.split_once('-');
    let place = place.and_then(|(place, _)| i64::from_str_radix(place, 16).ok());
    place
        .filter(|place| page_token(state, actor, *place) == token)
        .ok_or_else(|| {
            Failure::field(
                Reason::InvalidField,
                "page_token",
                "this page_token was not answered to this question (same state, same actor_name); leave it empty to begin with the first page",
            )
        })
}
