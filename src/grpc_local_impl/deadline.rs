//! How long a caller waits, as its call says (gRPC over HTTP/2, `grpc-timeout`): what takes its time
//! answers before that what it has by then.

use std::time::Duration;

use tokio_util::sync::DropGuard;
use tonic::Request;

use crate::deadline::Deadline;

/// How long an answer may take where the caller waits for longer, or does not say how long.
const PATIENCE: Duration = Duration::from_secs(60);

/// By when a call is to be answered: a little before the caller gives up; and for whom, until the guard
/// is dropped. It belongs to the call's future, which is dropped when the caller cancels the call or its
/// connection ends.
pub(super) fn answer_by<T>(request: &Request<T>) -> (Deadline, DropGuard) {
    let deadline = Deadline::within(patience(request));
    let waits = deadline.guard();
    (deadline, waits)
}

/// How long a caller waits, but for a little time to spare.
fn patience<T>(request: &Request<T>) -> Duration {
    let given = request.metadata().get("grpc-timeout");
    let timeout = given.and_then(|given| parse(given.to_str().ok()?));
    let patience = timeout.map_or(PATIENCE, |timeout| {
        // What is there has to be put together and sent as well.
        let spare = (timeout / 10).max(Duration::from_millis(50));
        timeout.saturating_sub(spare)
    });
    patience.min(PATIENCE)
}

/// Up to eight digits and a unit.
fn parse(timeout: &str) -> Option<Duration> {
    let (digits, unit) = timeout.split_at_checked(timeout.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(parse("1H"), Some(Duration::from_secs(3_600)));
        for text in ["", "S", "2", "2s", "123456789m", "-1m", "é"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_call_is_answered_before_its_caller_gives_up() {
        let mut request = Request::new(());
        assert_eq!(patience(&request), PATIENCE);
        request.set_timeout(Duration::from_secs(2));
        assert_eq!(patience(&request), Duration::from_millis(1_800));
        request.set_timeout(Duration::from_millis(20));
        assert_eq!(patience(&request), Duration::ZERO);
    }
}
