//! Signals that hooks raised when they were asked about a capture.

use serde::Deserialize;

use super::{Anchor, Signal};
use crate::shorten::shortened;

/// Bytes of a hook's reason that are told.
const REASON: usize = 2_000;

/// As a hook wrote it, which was checked when it came.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    reason: String,
    anchor: Option<Place>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Place {
    file: Option<String>,
    symbol: Option<String>,
    start_line: Option<u32>,
    end_line: Option<u32>,
}

/// What a hook said, as a signal: who, what sort, and the body.
pub(super) fn signal((hook, kind, body): (String, String, String)) -> Signal {
    let body: Body = serde_json::from_str(&body).unwrap_or_default();
    let place = body.anchor.unwrap_or_default();
    let start = place.start_line.unwrap_or_default();
    Signal {
        kind,
        anchor: Anchor {
            file: place.file.unwrap_or_default(),
            symbol: place.symbol.unwrap_or_default(),
            lines: (start, place.end_line.unwrap_or(start).max(start)),
        },
        reason: shortened(&body.reason, REASON).into_owned(),
        producer: format!("hook:{hook}"),
        version: 1,
        is_visible: false,
    }
}
