//! The one place that makes statuses: a failure becomes a gRPC status with `google.rpc.ErrorInfo`
//! (domain `heddle`, the stable reason) and field violations.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::failure::{Failure, Reason};

/// The domain of our reasons.
pub const DOMAIN: &str = "heddle";

/// The gRPC code of a reason.
pub const fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidField
        | Reason::MalformedMessage
        | Reason::OperationIdInvalid
        | Reason::RepositoryMismatch
        | Reason::HookEventUnknown
        | Reason::ThreadNameInvalid
        | Reason::StateAmbiguous
        | Reason::NotAState
        | Reason::AlgorithmUnknown
        | Reason::KeyInvalid
        | Reason::SignatureInvalid
        | Reason::SignedAtOutOfRange
        | Reason::PathInvalid => Code::InvalidArgument,
        Reason::TransactionUnknown
        | Reason::ThreadUnknown
        | Reason::StateUnknown
        | Reason::PathUnknown
        | Reason::AnchorUnknown
        | Reason::DiscussionUnknown
        | Reason::HookUnknown => Code::NotFound,
        Reason::ThreadExists => Code::AlreadyExists,
        Reason::ThreadMoved
        | Reason::TransactionConflict
        | Reason::WorktreeChanged
        | Reason::IndexLocked => Code::Aborted,
        Reason::OperationIdReused
        | Reason::TransactionActive
        | Reason::TransactionNotActive
        | Reason::TransactionAborted
        | Reason::TransactionThread
        | Reason::NotBufferable
        | Reason::StoreReadOnly
        | Reason::StoreNewer
        | Reason::HookVetoed
        | Reason::HookReentrant
        | Reason::HookTooDeep
        | Reason::NothingToUndo
        | Reason::DiscussionResolved
        | Reason::NoWorktree
        | Reason::SignersUnreadable
        | Reason::VerifierUnavailable
        | Reason::WorktreeGone
        | Reason::PathInTheWay
        | Reason::TreeTooDeep
        | Reason::WorktreeUnreadable
        | Reason::RepositoryRefused => Code::FailedPrecondition,
        Reason::MessageTooLarge
        | Reason::AnswerTooLarge
        | Reason::TooManyHooks
        | Reason::TransactionFull
        | Reason::DiscussionFull
        | Reason::TooManyTransactions
        | Reason::TooManyStreams
        | Reason::TooManyPages
        | Reason::HookEventsMissed
        | Reason::WriteQueueFull
        | Reason::StoreFull => Code::ResourceExhausted,
        Reason::MethodUnknown | Reason::NotImplemented | Reason::ProtocolViolation => {
            Code::Unimplemented
        }
        Reason::Draining
        | Reason::ServedElsewhere
        | Reason::StoreLost
        | Reason::StoreStopped
        | Reason::StoreBusy => Code::Unavailable,
        Reason::HookFromSandbox | Reason::SignerNotAllowed => Code::PermissionDenied,
        Reason::StoreCorrupt => Code::DataLoss,
        Reason::StoreIo | Reason::Internal => Code::Internal,
    }
}

/// Bytes of a text in a status: its whole must fit into what clients take as metadata, 8 KiB.
const TEXT_LIMIT: usize = 1_500;

/// A text as a status can hold it: of a longer one, the middle is left out. The end says what to do.
fn bounded(text: String) -> String {
    if text.len() <= TEXT_LIMIT {
        return text;
    }
    let head = text.floor_char_boundary(TEXT_LIMIT * 2 / 3);
    let tail = text.ceil_char_boundary(text.len() - TEXT_LIMIT / 4);
    format!("{}[…]{}", &text[..head], &text[tail..])
}

/// A failure as a status.
pub fn to_status(failure: Failure) -> Status {
    let metadata: HashMap<String, String> = failure
        .metadata
        .into_iter()
        .map(|(name, value)| (name.to_owned(), bounded(value)))
        .collect();
    let mut details = ErrorDetails::with_error_info(failure.reason.name(), DOMAIN, metadata);
    if !failure.fields.is_empty() {
        let violations = failure
            .fields
            .into_iter()
            .map(|violation| FieldViolation::new(violation.field, bounded(violation.description)));
        details.set_bad_request(violations.collect::<Vec<_>>());
    }
    Status::with_error_details(code(failure.reason), bounded(failure.message), details)
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        to_status(failure)
    }
}

impl From<crate::store::Error> for Status {
    fn from(error: crate::store::Error) -> Self {
        to_status(error.into())
    }
}

/// A code's name, as gRPC's documentation has it (doc/statuscodes.md).
pub(super) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// What tonic itself refused, in our words; a status that has details is one of ours.
pub(super) fn of_tonic(status: &Status, method: &str) -> Option<Status> {
    if !status.details().is_empty() {
        return None;
    }
    let failure = match status.code() {
        Code::Ok => return None,
        Code::OutOfRange | Code::ResourceExhausted => Failure::new(
            Reason::MessageTooLarge,
            format!(
                "the request to {method} is larger than {} bytes, the limit of one message; send less at once",
                super::REQUEST_LIMIT
            ),
        ),
        Code::Internal | Code::InvalidArgument => Failure::new(
            Reason::MalformedMessage,
            format!(
                "the bytes sent to {method} are not the message that it takes ({}); encode the request as proto/ has it",
                status.message()
            ),
        ),
        Code::Unimplemented if status.message().is_empty() => Failure::new(
            Reason::MethodUnknown,
            format!(
                "this daemon (heddle {}) has no method {method}; ask reflection or `proto/` for those that it has",
                env!("CARGO_PKG_VERSION")
            ),
        ),
        Code::Unimplemented => Failure::new(
            Reason::ProtocolViolation,
            format!("{method} cannot be called like this: {}", status.message()),
        ),
        // Health and reflection answer in their own, standard words.
        _ => return None,
    };
    Some(to_status(failure))
}

/// How streams end when the daemon stops.
pub(super) fn draining() -> Status {
    to_status(Failure::new(
        Reason::Draining,
        "the daemon is stopping, and the stream ends here; open it again, where it left off, to reach the next one",
    ))
}
