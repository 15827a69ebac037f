//! What is signed about states, from the wire and to it.

use prost_types::Timestamp;

use super::super::{
    proto::v1::{self, review_scope::Scope as Given},
    time::at_secs,
};
use crate::{
    failure::{Failure, Reason},
    review::{CheckKind, CheckRecord, Proof, ReviewKind, Scope, SignatureRecord, Verdict},
};

pub(super) fn unspecified(field: &'static str, given: i32) -> Failure {
    Failure::field(
        Reason::InvalidField,
        field,
        format!(
            "{field} is {given}, which is none that can be signed; give one of those that proto/heddle/v1/review.proto has"
        ),
    )
}

pub(super) fn scope(given: Option<v1::ReviewScope>) -> Result<Scope, Failure> {
    match given.and_then(|given| given.scope) {
        Some(Given::WholeChange(_)) => Ok(Scope::WholeChange),
        Some(Given::Symbols(list)) => {
            let symbols = list.symbols.into_iter().map(Into::into);
            let scope = Scope::symbols(symbols.collect());
            scope.map_err(|failure| failure.within("scope.symbols"))
        }
        None => Err(Failure::field(
            Reason::InvalidField,
            "scope",
            "scope is empty; say how much of the state is meant: `whole_change`, or some `symbols`",
        )),
    }
}

/// The whole seconds of a time: no more of it is signed.
pub(super) fn seconds(given: Option<&Timestamp>, field: &'static str) -> Result<i64, Failure> {
    let message = match given {
        Some(time) if (0..1_000_000_000).contains(&time.nanos) => return Ok(time.seconds),
        Some(time) => format!("{field} is no time: its nanos are {}", time.nanos),
        None => format!("{field} is missing, and is part of what is signed; give it"),
    };
    Err(Failure::field(Reason::InvalidField, field, message))
}

pub(super) fn proof(
    algorithm: &str,
    public_key: &[u8],
    signature: &[u8],
) -> Result<Proof, Failure> {
    Proof::new(algorithm, public_key.to_vec(), signature.to_vec())
}

pub(super) fn signature_to_proto(record: &SignatureRecord) -> v1::ReviewSignature {
    let verdict = record.verdict.as_deref().and_then(Verdict::named);
    let (justification, reason) = match verdict {
        None => (record.said.clone(), String::new()),
        Some(_) => (String::new(), record.said.clone()),
    };
    let kind = record.kind.as_deref().and_then(ReviewKind::named);
    let kind = kind.map_or(v1::ReviewKind::Unspecified, kind_to_proto);
    let verdict = match verdict {
        None => v1::Verdict::Unspecified,
        Some(Verdict::Sign) => v1::Verdict::Sign,
        Some(Verdict::Hold) => v1::Verdict::Hold,
        Some(Verdict::Reject) => v1::Verdict::Reject,
    };
    v1::ReviewSignature {
        signature_id: record.signature_id.to_string(),
        actor_name: record.actor_name.clone(),
        actor_email: record.actor_email.clone(),
        kind: kind.into(),
        scope: Some(scope_to_proto(record.scope.as_deref())),
        justification,
        signed_at: Some(at_secs(record.signed_secs)),
        algorithm: record.algorithm.clone(),
        public_key: record.public_key.clone(),
        signature: record.signature.clone(),
        verdict: verdict.into(),
        reason,
    }
}

pub(super) fn kind_to_proto(kind: ReviewKind) -> v1::ReviewKind {
    match kind {
        ReviewKind::Read => v1::ReviewKind::Read,
        ReviewKind::AgentPreview => v1::ReviewKind::AgentPreview,
        ReviewKind::AgentCoReview => v1::ReviewKind::AgentCoReview,
    }
}

fn scope_to_proto(pairs: Option<&[(String, String)]>) -> v1::ReviewScope {
    let scope = match pairs {
        None => Given::WholeChange(v1::review_scope::WholeChange {}),
        Some(pairs) => {
            let symbols = pairs.iter().map(|(file, symbol)| v1::PathSymbolRef {
                file: file.clone(),
                symbol: symbol.clone(),
            });
            Given::Symbols(v1::review_scope::SymbolList {
                symbols: symbols.collect(),
            })
        }
    };
    v1::ReviewScope { scope: Some(scope) }
}

pub(super) fn check_to_proto(record: &CheckRecord) -> v1::ReviewCheckAck {
    let kind = match CheckKind::named(&record.kind) {
        None => v1::CheckKind::Unspecified,
        Some(CheckKind::FileReviewed) => v1::CheckKind::FileReviewed,
        Some(CheckKind::RiskSignalAck) => v1::CheckKind::RiskSignalAck,
    };
    v1::ReviewCheckAck {
        actor_name: record.actor_name.clone(),
        actor_email: record.actor_email.clone(),
        check_kind: kind.into(),
        check_ref: record.reference.clone(),
        acked: record.acked,
        acked_at: Some(at_secs(record.acked_secs)),
        algorithm: record.algorithm.clone(),
        public_key: record.public_key.clone(),
        signature: record.signature.clone(),
    }
}
