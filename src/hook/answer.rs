//! What hooks answer: reading it, and never taking what is broken for a pass.

use serde::Deserialize;
use serde_json::Value;

use super::HookEvent;
use crate::{mutation::ExtraSignal, shorten};

/// Bytes of a hook's reason that callers are told: it has to fit into an error's trailers.
const REASON_LIMIT: usize = 1_024;

/// What one hook says to a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Go on, and keep these signals with the state.
    Pass(Vec<ExtraSignal>),
    /// Do not, for this reason.
    Veto(String),
}

/// A response in JSON. What is not named here is not for us.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response {
    abort: Option<String>,
    extra_signals: Option<Value>,
}

impl Answer {
    /// Reads what a command wrote to its standard output. Only what begins like a JSON object is a
    /// response: many commands say something while all is well.
    ///
    /// # Errors
    /// Why it is a response and cannot be understood.
    pub(super) fn of_output(
        hook: &str,
        event: HookEvent,
        output: &[u8],
        is_cut: bool,
    ) -> Result<Self, String> {
        let text = output.trim_ascii();
        if !text.starts_with(b"{") {
            return Ok(Self::Pass(Vec::new()));
        }
        if is_cut {
            return Err("its response is longer than 64 KiB".to_owned());
        }
        let response: Response = serde_json::from_slice(text)
            .map_err(|error| format!("its response is not the JSON that was asked for: {error}"))?;
        if let Some(reason) = response.abort.filter(|reason| !reason.trim().is_empty()) {
            return Ok(Self::Veto(shortened(&reason)));
        }
        let signals = match (event, &response.extra_signals) {
            (HookEvent::PreCapture, Some(signals)) => extra_signals(hook, signals)
                .map_err(|error| format!("its extra_signals cannot be kept: {error}"))?,
            _ => Vec::new(),
        };
        Ok(Self::Pass(signals))
    }
}

#[derive(Deserialize)]
struct Signal {
    kind: String,
    reason: String,
    #[serde(rename = "anchor")]
    _anchor: Option<Anchor>,
}

#[derive(Deserialize)]
#[allow(dead_code)] // Only its shape is checked; it is kept as it came.
struct Anchor {
    file: Option<String>,
    symbol: Option<String>,
    start_line: Option<u32>,
    end_line: Option<u32>,
}

/// Reads signals that a hook raised: a JSON array as the schema of `pre_capture` has it.
///
/// # Errors
/// What is wrong with them.
pub(super) fn extra_signals(hook: &str, signals: &Value) -> Result<Vec<ExtraSignal>, String> {
    let Value::Array(signals) = signals else {
        return Err("they are not a JSON array".to_owned());
    };
    let read = |(at, signal): (usize, &Value)| {
        let Signal { kind, reason, .. } =
            Signal::deserialize(signal).map_err(|error| format!("number {}: {error}", at + 1))?;
        if kind.is_empty() || reason.is_empty() {
            return Err(format!("number {} has no kind or no reason", at + 1));
        }
        if kind.contains(char::is_control) {
            return Err(format!(
                "number {} has a kind with a control character",
                at + 1
            ));
        }
        Ok(ExtraSignal {
            hook: hook.to_owned(),
            kind,
            body: signal.to_string(),
        })
    };
    signals.iter().enumerate().map(read).collect()
}

/// A reason in the length that errors have room for, without what says nothing around it.
pub(super) fn shortened(reason: &str) -> String {
    let reason = reason.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    shorten::shortened(reason, REASON_LIMIT).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(output: &str) -> Result<Answer, String> {
        Answer::of_output("lint", HookEvent::PreCapture, output.as_bytes(), false)
    }

    #[test]
    fn what_is_no_response_passes_and_what_is_a_broken_one_does_not() {
        let pass = Ok(Answer::Pass(Vec::new()));
        for output in [
            "",
            "  \n",
            "all is well\n",
            "[1, 2]",
            "{}",
            r#"{"abort": ""}"#,
        ] {
            assert_eq!(said(output), pass, "{output:?}");
        }
        let vetoed = said(r#" {"abort": "no", "more": 1} "#);
        assert_eq!(vetoed, Ok(Answer::Veto("no".to_owned())));
        for output in [
            "{",
            r#"{"abort": 1}"#,
            r#"{"extra_signals": {}}"#,
            r#"{"extra_signals": [{"kind": "k"}]}"#,
            r#"{"extra_signals": [{"kind": "a\nb", "reason": "r"}]}"#,
            r#"{"extra_signals": [{"kind": "k", "reason": "r", "anchor": {"start_line": "1"}}]}"#,
        ] {
            assert!(said(output).is_err(), "{output:?}");
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let long = "é".repeat(REASON_LIMIT);
        let cut = shortened(&long);
        assert!(cut.len() <= REASON_LIMIT + '…'.len_utf8());
        assert!(cut.ends_with("é…"));
        assert_eq!(shortened(" \0\0why\n\0"), "why");
    }
}
