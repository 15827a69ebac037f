//! The order in which to read a change: what its users see of it before what follows from that, tests
//! and documentation last.
//!
//! - `tests_and_docs` takes what lies in files that are tests or documentation by their path, and
//!   definitions that their source marks as tests.
//! - `structural` takes definitions that are new, gone or of another shape, and those with another name;
//!   files of another name; and files without known symbols that are new, gone or of another type.
//! - `consequence` takes definitions of which only the body changed, those that only lie elsewhere, and
//!   other files of which no changed symbol is known.
//!
//! In each part, files stand in the order of their paths, definitions in that of their lines, and what
//! is gone behind what is there.

use std::collections::{HashMap, HashSet};

use crate::{
    git::{BString, FileChange, FileChangeKind, shown_path},
    symbol::{
        ChangedFile, ChangedSymbol, Changes, Definition, Kind, LeftOut, PathKind, SymbolRef, What,
        last_name, path_kind,
    },
};

/// One thing to read: a symbol, or a file without a known symbol that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it is; a path that is not UTF-8 is quoted as Git does. What is gone has the place that it
    /// had.
    pub at: SymbolRef,
    /// What happened to it.
    pub happened: Happened,
    /// What it defines; `None` for a file.
    pub kind: Option<Kind>,
    /// Its first and its last line, from 1: as it is now or, where it is gone, as it was. Zeros for a
    /// file.
    pub lines: (u32, u32),
    /// Where it was before, if elsewhere.
    pub came_from: Option<SymbolRef>,
    /// Why no symbols of a file are known, though its language is.
    pub left_out: Option<LeftOut>,
}

/// What happened to a symbol or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// What its users see of it changed.
    Shape,
    /// Only its body changed, or a file's content or mode.
    Body,
    /// It only has another place or name.
    Moved,
    /// A file is of another type, such as a link.
    Type,
}

/// What to read, in three parts, one after another.
#[derive(Debug, Default)]
pub struct Order {
    /// What users of the code see.
    pub structural: Vec<Step>,
    /// What follows from it.
    pub consequence: Vec<Step>,
    /// Tests and documentation.
    pub tests_and_docs: Vec<Step>,
    /// Whether symbols are missing, as more files changed than are looked into.
    pub truncated: bool,
}

impl Order {
    /// The order of a change: its symbols, and what Git says of its files.
    pub fn of(changes: &Changes, files: &[FileChange]) -> Self {
        let mut order = Self {
            truncated: changes.truncated,
            ..Self::default()
        };
        let mut named = HashSet::new();
        let mut left_out = HashMap::new();
        for file in &changes.files {
            left_out.extend(file.left_out.map(|why| (&file.path, why)));
            if file.symbols.is_empty() {
                continue;
            }
            named.extend(
                [Some(&file.path), file.old_path.as_ref()]
                    .into_iter()
                    .flatten(),
            );
            for symbol in &file.symbols {
                order.add_symbol(changes, file, symbol);
            }
        }
        // Whoever uses a file sees its new name, too.
        let is_step = |file: &&FileChange| {
            file.kind == FileChangeKind::Renamed || !named.contains(&file.path)
        };
        for file in files.iter().filter(is_step) {
            order.add_file(file, left_out.get(&file.path).copied());
        }
        for part in order.parts_mut() {
            let place = |step: &Step| (step.at.file.clone(), !step.at.symbol.is_empty());
            part.sort_by_cached_key(place);
        }
        order
    }

    /// Its parts.
    pub fn parts(&self) -> [&Vec<Step>; 3] {
        [&self.structural, &self.consequence, &self.tests_and_docs]
    }

    fn parts_mut(&mut self) -> [&mut Vec<Step>; 3] {
        [
            &mut self.structural,
            &mut self.consequence,
            &mut self.tests_and_docs,
        ]
    }

    fn add_symbol(&mut self, changes: &Changes, file: &ChangedFile, symbol: &ChangedSymbol) {
        let is_gone = symbol.after.is_empty();
        let definition = definition(file, symbol);
        let path = match &file.old_path {
            Some(old_path) if is_gone => old_path,
            _ => &file.path,
        };
        let came_from = symbol.came_from.as_ref().and_then(|(at, name)| {
            let from = changes.files.get(*at)?;
            let path = from.old_path.as_ref().unwrap_or(&from.path);
            Some(named(path, name))
        });
        let old_name = came_from.as_ref().map_or(&symbol.name, |from| &from.symbol);
        let is_named_anew = last_name(old_name) != last_name(&symbol.name);
        let is_test = definition.is_some_and(|it| it.is_test);
        let part = match symbol.what {
            _ if is_test || path_kind(path) != PathKind::Source => &mut self.tests_and_docs,
            What::Body => &mut self.consequence,
            What::Moved if !is_named_anew => &mut self.consequence,
            _ => &mut self.structural,
        };
        part.push(Step {
            at: named(path, &symbol.name),
            happened: match symbol.what {
                What::Added => Happened::Added,
                What::Removed => Happened::Removed,
                What::Shape => Happened::Shape,
                What::Body => Happened::Body,
                What::Moved => Happened::Moved,
            },
            kind: definition.map(|it| it.kind),
            lines: definition.map_or((0, 0), |it| it.lines),
            came_from,
            left_out: None,
        });
    }

    fn add_file(&mut self, file: &FileChange, left_out: Option<LeftOut>) {
        let part = match file.kind {
            _ if path_kind(&file.path) != PathKind::Source => &mut self.tests_and_docs,
            FileChangeKind::Modified => &mut self.consequence,
            _ => &mut self.structural,
        };
        part.push(Step {
            at: named(&file.path, ""),
            happened: match file.kind {
                FileChangeKind::Added => Happened::Added,
                FileChangeKind::Modified => Happened::Body,
                FileChangeKind::Deleted => Happened::Removed,
                FileChangeKind::Renamed => Happened::Moved,
                FileChangeKind::TypeChanged => Happened::Type,
            },
            kind: None,
            lines: (0, 0),
            came_from: file.old_path.as_ref().map(|path| named(path, "")),
            left_out,
        });
    }

    /// Whether a symbol, something in it, or a file is among what changed.
    pub fn touches(&self, anchor: &SymbolRef) -> bool {
        let is_it = |step: &Step| {
            let below = step.at.symbol.strip_prefix(&anchor.symbol);
            anchor.symbol.is_empty()
                || below.is_some_and(|it| it.is_empty() || it.starts_with("::"))
        };
        self.parts().into_iter().any(|part| {
            let first = part.partition_point(|step| step.at.file < anchor.file);
            let of_file = part[first..].iter();
            let mut of_file = of_file.take_while(|step| step.at.file == anchor.file);
            of_file.any(is_it)
        })
    }
}

/// The first definition of a changed symbol: as it is now or, where it is gone, as it was.
fn definition<'a>(file: &'a ChangedFile, symbol: &ChangedSymbol) -> Option<&'a Definition> {
    let (side, at) = match symbol.after.first() {
        Some(at) => (&file.after, at),
        None => (&file.before, symbol.before.first()?),
    };
    side.as_ref()?.outline.as_ref()?.definitions.get(*at)
}

fn named(path: &BString, symbol: &str) -> SymbolRef {
    SymbolRef {
        file: shown_path(path.as_ref()),
        symbol: symbol.to_owned(),
    }
}
