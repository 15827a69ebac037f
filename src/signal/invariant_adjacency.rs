//! What changed near something that an annotation says must hold: the annotated code itself, what calls
//! it or is called by it, or what lies beside it.

use super::{
    Anchor, Module, Signal,
    facts::{Facts, MODULE_LIMIT, Touched, container, listed, quoted, shown},
};
use crate::{
    discussion::Annotation,
    git::Error,
    symbol::{ChangedFile, ChangedSymbol, Outline, Reference, What, last_name},
};

const MODULE: Module = Module::InvariantAdjacency;
const VERSION: u32 = 1;
/// Signals of one annotation that name a call.
const CALLS: usize = 3;
/// Names that a reason lists.
const LISTED: usize = 3;

pub(super) fn signals(facts: &Facts<'_>) -> Result<Vec<Signal>, Error> {
    let touched: Vec<Touched<'_>> = facts.touched().collect();
    let mut signals = Vec::new();
    for annotation in &facts.annotations {
        let about = match annotation.record.kind.as_str() {
            "rationale" if !facts.settings.invariant_adjacency.rationale => continue,
            kind => kind,
        };
        let near = Near {
            facts,
            annotation,
            touched: &touched,
        };
        for (anchor, how) in near.found()?.into_iter().take(CALLS) {
            let what = match annotation.anchor.symbol.as_str() {
                "" => &annotation.anchor.file,
                symbol => symbol,
            };
            let reason = format!(
                "{how}, and of `{what}` it was laid down ({about}): “{}”; see that it still holds, or have it said anew",
                quoted(&annotation.record.content)
            );
            signals.push(MODULE.signal(VERSION, anchor, reason));
        }
        if signals.len() >= MODULE_LIMIT {
            break;
        }
    }
    signals.truncate(MODULE_LIMIT);
    Ok(signals)
}

/// An annotation, and what changed.
struct Near<'a, 'f> {
    facts: &'f Facts<'a>,
    annotation: &'f Annotation,
    touched: &'f [Touched<'a>],
}

impl Near<'_, '_> {
    /// What changed nearest to it, and how near that is.
    fn found(&self) -> Result<Vec<(Anchor, String)>, Error> {
        if !(self.annotation.was || self.annotation.is) {
            return Ok(Vec::new());
        }
        if let Some(itself) = self.itself() {
            return Ok(vec![itself]);
        }
        if self.annotation.anchor.symbol.is_empty() {
            return Ok(Vec::new());
        }
        let calls = self.calls()?;
        if !calls.is_empty() {
            return Ok(calls);
        }
        Ok(self.beside().into_iter().collect())
    }

    /// The annotated code itself.
    fn itself(&self) -> Option<(Anchor, String)> {
        let at = &self.annotation.anchor;
        if !self.annotation.is {
            let anchor = Anchor {
                file: at.file.clone(),
                symbol: at.symbol.clone(),
                lines: (0, 0),
            };
            return Some((anchor, "it was removed".to_owned()));
        }
        let mut files = self.facts.changes.files.iter();
        let file = files.find(|file| *file.path == *at.file.as_bytes())?;
        let anchor = |lines| Anchor {
            file: shown(&file.path),
            symbol: at.symbol.clone(),
            lines,
        };
        if at.symbol.is_empty() {
            return Some((anchor((0, 0)), "the file changed".to_owned()));
        }
        let Some(symbol) = file.symbols.iter().find(|it| it.name == at.symbol) else {
            return self.in_it(file);
        };
        let lines = file.now(symbol).next().map(|it| it.lines);
        let how = match symbol.what {
            What::Shape => "its signature changed",
            What::Body => "its body changed",
            What::Added | What::Removed => "it was written anew",
            What::Moved => return None,
        };
        Some((anchor(lines.unwrap_or_default()), how.to_owned()))
    }

    /// What changed in the annotated type or module.
    fn in_it(&self, file: &ChangedFile) -> Option<(Anchor, String)> {
        let within = |it: &&ChangedSymbol| {
            let rest = it.name.strip_prefix(&self.annotation.anchor.symbol);
            rest.is_some_and(|rest| rest.starts_with("::")) && it.what != What::Moved
        };
        let changed: Vec<_> = file.symbols.iter().filter(within).collect();
        let first = changed.first()?;
        let lines = file.now(first).next().map(|it| it.lines);
        let anchor = Anchor {
            file: shown(&file.path),
            symbol: first.name.clone(),
            lines: lines.unwrap_or_default(),
        };
        let names = listed(changed.iter().map(|it| it.name.as_str()), LISTED);
        Some((anchor, format!("{names} changed in it")))
    }

    /// What changed and calls it, or is called by it.
    fn calls(&self) -> Result<Vec<(Anchor, String)>, Error> {
        let at = &self.annotation.anchor;
        let outline = self.facts.newer.outline(at.file.as_bytes())?;
        let mut found = Vec::new();
        for touched in self.touched {
            let other = &touched.symbol.name;
            let is_called = || match &outline {
                Some(outline) => self.is_call(outline, &at.symbol, other),
                None => Ok(false),
            };
            if self.is_call(touched.outline, other, &at.symbol)? {
                let how = format!("`{other}` changed, which calls it");
                found.push((touched.anchor(), how));
            } else if is_called()? {
                let how = format!("`{other}` changed, which it calls");
                found.push((touched.anchor(), how));
            }
            if found.len() == CALLS {
                break;
            }
        }
        Ok(found)
    }

    /// Whether a definition of the outline calls one of this name, as far as the source tells.
    fn is_call(&self, outline: &Outline, from: &str, to: &str) -> Result<bool, Error> {
        let name = last_name(to);
        let calls = outline.references.iter().filter(|it| it.name == name);
        let mut calls = calls.filter(|it| lies_in(outline, it, from)).peekable();
        if from == to || calls.peek().is_none() {
            return Ok(false);
        }
        let defining = self.facts.newer.defining(name, 1)?;
        let is_only = !defining.truncated && defining.files.len() == 1;
        Ok(calls.any(|it| may_mean(it, from, to, is_only)))
    }

    /// What changed and lies in the same definition.
    fn beside(&self) -> Option<(Anchor, String)> {
        let at = &self.annotation.anchor;
        let around = container(&at.symbol);
        let beside: Vec<_> = self
            .touched
            .iter()
            .filter(|it| {
                let is_here = *it.file.path == *at.file.as_bytes();
                let name = &it.symbol.name;
                is_here && !around.is_empty() && (container(name) == around || name == around)
            })
            .collect();
        let first = beside.first()?;
        let names = listed(beside.iter().map(|it| it.symbol.name.as_str()), LISTED);
        Some((
            first.anchor(),
            format!("{names} changed beside it in `{around}`"),
        ))
    }
}

/// Whether a reference is in a definition of this name.
fn lies_in(outline: &Outline, reference: &Reference, name: &str) -> bool {
    let mut around = reference.from;
    while let Some(definition) = around.and_then(|at| outline.definitions.get(at as usize)) {
        if definition.name == name {
            return true;
        }
        around = definition.parent.filter(|parent| Some(*parent) < around);
    }
    false
}

/// Whether what is called in `from` may be `to`, by what stands before the name: nothing before a
/// function, its type or a value that is called like it before a method.
fn may_mean(reference: &Reference, from: &str, to: &str, is_only: bool) -> bool {
    let (here, there) = (container(from), container(to));
    let owner = last_name(there).to_lowercase();
    match reference.qualifier.as_deref() {
        None => there.is_empty() || there == here,
        Some("self" | "Self" | "this" | "cls") => there == here,
        Some(_) if there.is_empty() => is_only,
        Some("") => is_only && reference.name.contains('_'),
        Some(before) => {
            let before = before.trim_matches('_').to_lowercase();
            before.len() > 1 && owner.contains(&before) || before.contains(&owner)
        }
    }
}
