//! A statement about a state, as it is signed. It is parsed at the edge and cannot be wrong after that.

use serde::{Deserialize, Serialize};

use super::{CheckKind, NAME_LIMIT, ReviewKind, SCOPE_LIMIT, SYMBOLS_LIMIT, TEXT_LIMIT, Verdict};
use crate::{
    failure::{Failure, Reason},
    git::StateId,
    symbol::SymbolRef,
};

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The state that it is about.
    pub state: StateId,
    /// What it says of it.
    pub said: Said,
    /// When the signer says that it was signed, in seconds since the Unix epoch.
    pub at_secs: i64,
}

/// What is said of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// It was reviewed.
    Review {
        /// How.
        kind: ReviewKind,
        /// How much of it.
        scope: Scope,
        /// What the reviewer adds; empty for nothing.
        justification: String,
    },
    /// It was judged.
    Verdict {
        /// The judgement.
        verdict: Verdict,
        /// How much of it was.
        scope: Scope,
        /// Why; empty for no reason.
        reason: String,
    },
    /// Something in it was ticked off, or a tick taken back.
    Check {
        /// What sort of thing.
        kind: CheckKind,
        /// Which one: a file's path, or what a signal is known by.
        reference: String,
        /// False where the tick is taken back.
        acked: bool,
    },
}

/// How much of a state's change a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// The change as a whole.
    WholeChange,
    /// These symbols, in the order in which they are signed.
    Symbols(Vec<SymbolRef>),
}

impl Said {
    /// A review.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a text that cannot be signed.
    pub fn review(kind: ReviewKind, scope: Scope, justification: String) -> Result<Self, Failure> {
        check_text("justification", &justification, TEXT_LIMIT)?;
        Ok(Self::Review {
            kind,
            scope,
            justification,
        })
    }

    /// A verdict.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a text that cannot be signed.
    pub fn verdict(verdict: Verdict, scope: Scope, reason: String) -> Result<Self, Failure> {
        check_text("reason", &reason, TEXT_LIMIT)?;
        Ok(Self::Verdict {
            verdict,
            scope,
            reason,
        })
    }

    /// A tick, or one taken back.
    ///
    /// # Errors
    /// `INVALID_FIELD` for an empty reference, or one that cannot be signed.
    pub fn check(kind: CheckKind, reference: String, acked: bool) -> Result<Self, Failure> {
        check_name("check_ref", &reference)?;
        Ok(Self::Check {
            kind,
            reference,
            acked,
        })
    }

    /// How much it is about; `None` for a check.
    pub fn scope(&self) -> Option<&Scope> {
        match self {
            Self::Review { scope, .. } | Self::Verdict { scope, .. } => Some(scope),
            Self::Check { .. } => None,
        }
    }

    /// The field of a request that its time comes in.
    pub(super) fn time_field(&self) -> &'static str {
        match self {
            Self::Check { .. } => "acked_at",
            _ => "signed_at",
        }
    }
}

impl Scope {
    /// A scope of these symbols, of which each has a file.
    ///
    /// # Errors
    /// `INVALID_FIELD`, within the field that has them, when there are none or too many of them, and
    /// for a name that cannot be signed.
    pub fn symbols(symbols: Vec<SymbolRef>) -> Result<Self, Failure> {
        let refuse = |message| Err(Failure::field(Reason::InvalidField, "symbols", message));
        if symbols.is_empty() {
            return refuse(
                "a scope of no symbols is about nothing; name some, or give `whole_change`"
                    .to_owned(),
            );
        }
        if symbols.len() > SYMBOLS_LIMIT {
            return refuse(format!(
                "{} symbols are more than one statement can be about ({SYMBOLS_LIMIT}); sign in parts, or give `whole_change`",
                symbols.len()
            ));
        }
        let bytes: usize = symbols.iter().map(|s| s.file.len() + s.symbol.len()).sum();
        if bytes > SCOPE_LIMIT {
            return refuse(format!(
                "the names in the scope have {bytes} bytes, and {SCOPE_LIMIT} are the limit; sign in parts, or give `whole_change`"
            ));
        }
        for (place, symbol) in symbols.iter().enumerate() {
            let within = |failure: Failure| failure.within(&format!("symbols[{place}]"));
            check_name("file", &symbol.file).map_err(within)?;
            check_text("symbol", &symbol.symbol, NAME_LIMIT).map_err(within)?;
        }
        Ok(Self::Symbols(symbols))
    }
}

fn check_name(field: &'static str, name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        let message = format!("{field} is empty; name what the statement is about");
        return Err(Failure::field(Reason::InvalidField, field, message));
    }
    check_text(field, name, NAME_LIMIT)
}

/// Signed strings end in NUL: one within a string would let two statements have the same bytes.
fn check_text(field: &'static str, text: &str, limit: usize) -> Result<(), Failure> {
    let refuse = |message| Err(Failure::field(Reason::InvalidField, field, message));
    if text.len() > limit {
        return refuse(format!(
            "{field} has {} bytes, and {limit} are the limit; shorten it",
            text.len()
        ));
    }
    match text.find('\0') {
        Some(at) => refuse(format!(
            "{field} has a NUL byte (at {at}), which what is signed cannot hold; leave it out"
        )),
        None => Ok(()),
    }
}
