//! A risk signal, as people and as programs read it.

use std::collections::HashSet;

use anstyle::Style;
use serde_json::{Value, json};

use super::{
    Result,
    code_lines::CodeLines,
    here::Here,
    output::{BOLD, DIM, NOTE, printable},
    paper::Paper,
    words::place,
};
use crate::{
    grpc_local_impl::proto::v1::{RiskSignal, SignalAnchor},
    review::signal_reference,
    symbol::SymbolRef,
};

/// Lines of code that are shown of a visible signal, and of a hidden one.
const CODE: [usize; 2] = [8, 3];

/// Where signals are printed, and what is known besides.
pub(super) struct Signals<'a> {
    pub(super) paper: &'a Paper<'a>,
    pub(super) here: &'a Here,
    /// The code that they are about.
    pub(super) code: CodeLines,
    /// What was taken note of, by its [`reference()`].
    pub(super) noted: HashSet<&'a str>,
}

impl Signals<'_> {
    /// Prints them: what and where, why, and the code.
    pub(super) fn print<'a>(&self, all: impl IntoIterator<Item = &'a RiskSignal>) -> Result<()> {
        for (number, signal) in all.into_iter().enumerate() {
            if number > 0 {
                self.paper.out.line("")?;
            }
            self.one(signal)?;
        }
        Ok(())
    }

    fn one(&self, signal: &RiskSignal) -> Result<()> {
        let anchor = signal.anchor.clone().unwrap_or_default();
        let (mark, style) = match is_visible(signal) {
            true => ('!', NOTE),
            false => ('·', DIM),
        };
        let place = match anchor.file.as_str() {
            "" => "the whole change".to_owned(),
            file => place(self.here, file, &anchor.symbol),
        };
        let by = match signal.producer_module.as_str() {
            module if module == signal.kind => String::new(),
            other => format!("  by {}", printable(other)),
        };
        let is_noted = self.noted.contains(reference(signal).as_str());
        let note = if is_noted { "  taken note of" } else { "" };
        let (kind, place) = (printable(&signal.kind), printable(&place));
        self.paper.out.line(format_args!(
            "{style}{mark} {kind}{style:#}  {BOLD}{place}{BOLD:#}{DIM}{by}{note}{DIM:#}"
        ))?;
        self.paper.paragraph(2, Style::new(), &signal.reason)?;
        let lines = (anchor.start_line, anchor.end_line);
        let most = CODE[usize::from(!is_visible(signal))];
        if lines.0 > 0 {
            self.code.print(self.paper.out, &anchor.file, lines, most)?;
        }
        Ok(())
    }
}

/// Whether a signal is within the budget.
pub(super) fn is_visible(signal: &RiskSignal) -> bool {
    signal.visibility == "visible"
}

/// What a signal is known by when it is taken note of.
pub(super) fn reference(signal: &RiskSignal) -> String {
    let SignalAnchor { file, symbol, .. } = signal.anchor.clone().unwrap_or_default();
    signal_reference(&signal.kind, &SymbolRef { file, symbol })
}

/// A signal in JSON.
pub(super) fn as_json(signal: &RiskSignal) -> Value {
    let anchor = signal.anchor.clone().unwrap_or_default();
    json!({
        "kind": signal.kind,
        "reference": reference(signal),
        "anchor": {
            "file": anchor.file,
            "symbol": anchor.symbol,
            "start_line": anchor.start_line,
            "end_line": anchor.end_line,
        },
        "reason": signal.reason,
        "producer_module": signal.producer_module,
        "producer_version": signal.producer_version,
        "visibility": signal.visibility,
    })
}
