//! What the modules judge: a change, symbol by symbol, and the repository around it.

use std::{cell::Cell, collections::BTreeSet};

use super::{Anchor, Module, Settings, Signal};
use crate::{
    deadline::Deadline,
    discussion::Annotation,
    git::{BString, GitDir},
    shorten::shortened,
    symbol::{
        ChangedFile, ChangedSymbol, Changes, Definition, Kind, Outline, PathKind, Reference, View,
        What, path_kind,
    },
};

/// Signals that one module raises about one state at most (G8).
pub const MODULE_LIMIT: usize = 20;
/// Bytes of what people wrote that a reason repeats.
const QUOTED: usize = 200;

/// Everything that the modules look at. The same facts give the same signals.
pub(super) struct Facts<'a> {
    pub changes: &'a Changes,
    pub git: &'a GitDir,
    pub prior: View<'a>,
    pub newer: View<'a>,
    /// Whether all of both trees was taken in: otherwise nothing can be said of what is not there.
    pub is_whole: bool,
    /// What the state's commit says.
    pub message: &'a str,
    /// How sure its author was, from 0 to 1.
    pub confidence: Option<f64>,
    pub annotations: Vec<Annotation>,
    /// By when to be done.
    pub deadline: &'a Deadline,
    /// Whether not everything was looked at.
    pub is_cut: Cell<bool>,
    pub settings: &'a Settings,
}

/// A definition that changed, as it is now.
#[derive(Clone, Copy)]
pub(super) struct Touched<'a> {
    pub file: &'a ChangedFile,
    pub symbol: &'a ChangedSymbol,
    pub outline: &'a Outline,
    /// Which definition of the outline.
    pub at: usize,
}

impl<'a> Facts<'a> {
    /// Whether there is no time to look at more; then not everything was looked at.
    pub fn is_late(&self) -> bool {
        let is_late = self.deadline.is_over();
        self.is_cut.set(self.is_cut.get() || is_late);
        is_late
    }

    /// Definitions that are new or changed, but for those of tests and documentation.
    pub fn touched(&self) -> impl Iterator<Item = Touched<'a>> {
        let files = self
            .changes
            .files
            .iter()
            .filter(|file| path_kind(&file.path) == PathKind::Source);
        files.flat_map(|file| {
            let symbols = file.symbols.iter();
            symbols.filter_map(move |symbol| {
                let outline = file.after.as_ref()?.outline.as_deref()?;
                let at = *symbol.after.first()?;
                let touched = Touched {
                    file,
                    symbol,
                    outline,
                    at,
                };
                let is_same = symbol.what == What::Moved || touched.definition()?.is_test;
                (!is_same).then_some(touched)
            })
        })
    }
}

impl<'a> Touched<'a> {
    /// The definition; `None` for none of the outline's.
    pub fn definition(&self) -> Option<&'a Definition> {
        self.outline.definitions.get(self.at)
    }

    pub fn is_function(&self) -> bool {
        self.definition().is_some_and(is_function)
    }

    /// Where it is.
    pub fn anchor(&self) -> Anchor {
        Anchor {
            file: shown(&self.file.path),
            symbol: self.symbol.name.clone(),
            lines: self.definition().map(|it| it.lines).unwrap_or_default(),
        }
    }

    /// What it was before, and which of its definitions.
    pub fn before(&self, changes: &'a Changes) -> Option<(&'a Outline, usize)> {
        let file = match &self.symbol.came_from {
            Some((file, _)) => changes.files.get(*file)?,
            None => self.file,
        };
        let outline = file.before.as_ref()?.outline.as_deref()?;
        Some((outline, *self.symbol.before.first()?))
    }
}

pub(super) fn is_function(definition: &Definition) -> bool {
    matches!(definition.kind, Kind::Function | Kind::Method)
}

/// What a definition lies in, by name; empty for nothing.
pub(super) fn container(name: &str) -> &str {
    name.rsplit_once("::").map_or("", |(around, _)| around)
}

/// The names that each definition of a file calls and uses, with those of what lies in it.
pub(super) struct Names<'a>(Vec<BTreeSet<&'a str>>);

impl<'a> Names<'a> {
    pub fn of(outline: &'a Outline) -> Self {
        Self::some_of(outline, |_| true)
    }

    /// Only those of references that count.
    pub fn some_of(outline: &'a Outline, counts: impl Fn(&Reference) -> bool) -> Self {
        let mut names = vec![BTreeSet::new(); outline.definitions.len()];
        for reference in outline.references.iter().filter(|it| counts(it)) {
            let mut around = reference.from;
            while let Some(at) = around.map(|at| at as usize) {
                let Some(set) = names.get_mut(at) else { break };
                set.insert(reference.name.as_str());
                // What a definition lies in comes before it.
                let parent = outline.definitions[at].parent;
                around = parent.filter(|parent| (*parent as usize) < at);
            }
        }
        Self(names)
    }

    pub fn get(&self, at: usize) -> &BTreeSet<&'a str> {
        const NONE: &BTreeSet<&str> = &BTreeSet::new();
        self.0.get(at).unwrap_or(NONE)
    }
}

/// A path as text; what is no UTF-8 in it is replaced.
pub(super) fn shown(path: &BString) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// What people wrote, in one line that is not too long.
pub(super) fn quoted(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    shortened(&words.join(" "), QUOTED).into_owned()
}

/// Names in a reason, each in backticks: `limit` at most, and how many more there are.
pub(super) fn listed<'n>(names: impl IntoIterator<Item = &'n str>, limit: usize) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let listed = names.iter().take(limit).map(|name| format!("`{name}`"));
    let mut text = listed.collect::<Vec<_>>().join(", ");
    if names.len() > limit {
        text.push_str(&format!(" and {} more", names.len() - limit));
    }
    text
}

impl Module {
    /// A signal of this module.
    pub(super) fn signal(self, version: u32, anchor: Anchor, reason: String) -> Signal {
        Signal {
            kind: self.name().to_owned(),
            anchor,
            reason,
            producer: self.name().to_owned(),
            version,
            is_visible: false,
        }
    }
}
