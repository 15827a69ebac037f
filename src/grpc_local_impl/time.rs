//! Times on the wire.

use prost_types::Timestamp;

/// Seconds since the Unix epoch.
pub(super) fn at_secs(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

/// Milliseconds since the Unix epoch.
pub(super) fn at_millis(millis: i64) -> Timestamp {
    Timestamp {
        seconds: millis.div_euclid(1_000),
        nanos: (millis.rem_euclid(1_000) * 1_000_000) as i32,
    }
}
