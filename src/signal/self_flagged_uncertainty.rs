//! What its author flagged: `self-flag:` lines of the intent, and a low confidence.

use super::{
    Anchor, Module, Signal,
    facts::{Facts, MODULE_LIMIT, quoted, shown},
};
use crate::{
    git::Error,
    symbol::{Outline, last_name},
};

const MODULE: Module = Module::SelfFlaggedUncertainty;
const VERSION: u32 = 1;
const FLAG: &str = "self-flag:";

pub(super) fn signals(facts: &Facts<'_>) -> Result<Vec<Signal>, Error> {
    let mut signals = Vec::new();
    for text in facts
        .message
        .lines()
        .filter_map(flag)
        .take(MODULE_LIMIT - 1)
    {
        let anchor = anchor(facts, text)?;
        let reason = format!(
            "its author flagged it: “{}”; settle that before anything else",
            quoted(text)
        );
        signals.push(MODULE.signal(VERSION, anchor, reason));
    }
    let least = facts.settings.self_flagged_uncertainty.confidence;
    if let Some(confidence) = facts.confidence.filter(|confidence| *confidence < least) {
        let reason = format!(
            "its author's confidence in the change is {confidence:.2}, below {least:.2}; ask what is uncertain, and read all of it"
        );
        signals.push(MODULE.signal(VERSION, Anchor::default(), reason));
    }
    Ok(signals)
}

/// What a line flags, if it flags something; it may be an entry of a list.
fn flag(line: &str) -> Option<&str> {
    let line = line.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '*'));
    let head = line.get(..FLAG.len())?;
    let text = line[FLAG.len()..].trim();
    (head.eq_ignore_ascii_case(FLAG) && !text.is_empty()).then_some(text)
}

/// The place that a flag names, where it begins with one or has one in backticks; else the whole change.
fn anchor(facts: &Facts<'_>, text: &str) -> Result<Anchor, Error> {
    let first = text.split_whitespace().next().unwrap_or_default();
    let first = first.trim_end_matches([',', ':', ';', '.']);
    let ticked = text.split('`').skip(1).step_by(2);
    for name in [first].into_iter().chain(ticked) {
        if let Some(anchor) = named(facts, name.trim_end_matches("()"))? {
            return Ok(anchor);
        }
    }
    Ok(Anchor::default())
}

/// The place of this name: `path:symbol`, a path, or a symbol that changed.
fn named(facts: &Facts<'_>, name: &str) -> Result<Option<Anchor>, Error> {
    let (file, symbol) = match name.split_once(':') {
        Some((file, symbol)) if !symbol.starts_with(':') => (file, symbol),
        _ => (name, ""),
    };
    let changed = facts.changes.files.iter();
    let mut same = changed.filter(|it| *it.path == *file.as_bytes());
    if let Some(file) = same.next() {
        let outline = file.after.as_ref().and_then(|side| side.outline.as_deref());
        return Ok(Some(place(shown(&file.path), symbol, outline)));
    }
    if let Some(outline) = facts.newer.outline(file.as_bytes())? {
        return Ok(Some(place(file.to_owned(), symbol, Some(&outline))));
    }
    let is_it = |it: &str| it == name || last_name(it) == name;
    for file in &facts.changes.files {
        if let Some(symbol) = file.symbols.iter().find(|symbol| is_it(&symbol.name)) {
            let lines = file.now(symbol).next().map(|it| it.lines);
            return Ok(Some(Anchor {
                file: shown(&file.path),
                symbol: symbol.name.clone(),
                lines: lines.unwrap_or_default(),
            }));
        }
    }
    Ok(None)
}

/// A symbol of a file, and the file where it has no such symbol.
fn place(file: String, symbol: &str, outline: Option<&Outline>) -> Anchor {
    let found = outline.and_then(|outline| outline.named(symbol).next());
    Anchor {
        file,
        symbol: found.map(|it| it.name.clone()).unwrap_or_default(),
        lines: found.map(|it| it.lines).unwrap_or_default(),
    }
}
