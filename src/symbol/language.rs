//! The closed list of languages. Each is one folder: its grammar and its file names (`mod.rs`), its
//! query, a sample and the outline that the sample is to have (`sample.*.golden`). DESIGN says why the
//! queries are our own.
//!
//! A query's captures: `@definition.KIND` with its `@name`, and where it has them `@body` (what a
//! user of it does not see) and `@owner` (what it belongs to without lying in it); `@container` with
//! its `@name` (gives names to what lies in it, and is no definition itself); `@reference` with its
//! `@qualifier`; `@handed` (a reference, if a function of the file is called so, or what is
//! `@imported`); `@test` (what lies beside it, or the definition that it is part of, is a test);
//! `@implied` (the definition that it is part of is called without being named); `@receiver` (that is
//! called on a value; in a language without one, all methods are). Where more than one pattern finds a
//! name, the first pattern tells its kind, and the outermost node is the definition.

mod c;
mod go;
mod javascript;
mod python;
mod rust;
mod typescript;

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt, path::Path, sync::OnceLock};

use tree_sitter::Query;

use super::Kind;

/// A language that symbols are known of.
pub struct Language {
    /// As people call it.
    pub name: &'static str,
    /// The endings of its files' names, without the dot.
    pub endings: &'static [&'static str],
    /// Nodes that stand before a definition and belong to it.
    leading: &'static [&'static str],
    /// Whether names of definitions are within those of the definitions around them.
    nests: bool,
    grammar: fn() -> tree_sitter::Language,
    query: &'static str,
    compiled: OnceLock<Compiled>,
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All of them.
pub static LANGUAGES: [&Language; 7] = [
    &c::LANGUAGE,
    &go::LANGUAGE,
    &javascript::LANGUAGE,
    &python::LANGUAGE,
    &rust::LANGUAGE,
    &typescript::LANGUAGE,
    &typescript::TSX,
];

/// The language of the file at this path, by the ending of its name.
pub fn language_of(path: &[u8]) -> Option<&'static Language> {
    let ending = Path::new(OsStr::from_bytes(path)).extension()?;
    let of_ending = |it: &&&Language| it.endings.iter().any(|its| *its == ending);
    LANGUAGES.iter().find(of_ending).copied()
}

/// A number that is another one whenever files would give other outlines, or these be kept otherwise:
/// it stands for the text of the rules, the queries and the grammars' versions.
pub(super) fn edition() -> u32 {
    env!("HEDDLE_OUTLINE_RULES").parse().unwrap_or_default()
}

/// What a capture of a query means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capture {
    Definition(Kind),
    Container,
    Name,
    Body,
    Owner,
    Reference,
    Handed,
    Qualifier,
    Test,
    Implied,
    Receiver,
    Imported,
    /// Named for a predicate only: it begins with `_`.
    Ignored,
}

impl Capture {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "container" => Self::Container,
            "name" => Self::Name,
            "body" => Self::Body,
            "owner" => Self::Owner,
            "reference" => Self::Reference,
            "handed" => Self::Handed,
            "qualifier" => Self::Qualifier,
            "test" => Self::Test,
            "implied" => Self::Implied,
            "receiver" => Self::Receiver,
            "imported" => Self::Imported,
            _ if name.starts_with('_') => Self::Ignored,
            _ => Self::Definition(Kind::of(name.strip_prefix("definition.")?)?),
        })
    }
}

/// A grammar and its query, ready for use.
pub(super) struct Compiled {
    pub grammar: tree_sitter::Language,
    pub query: Query,
    /// What each of the query's captures means, by its index.
    pub captures: Vec<Capture>,
    classes: Vec<Class>,
}

/// How the text of a node is taken in, by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Plain,
    /// Not at all.
    Comment,
    /// With the definition that comes next.
    Leading,
    /// Whole, and not token by token: white space counts in it.
    Literal,
}

impl Class {
    fn of(kind: &str, leading: &[&str]) -> Self {
        if kind.ends_with("comment") {
            Self::Comment
        } else if leading.contains(&kind) {
            Self::Leading
        } else if kind.contains("string") && !kind.ends_with("_type") {
            Self::Literal
        } else {
            Self::Plain
        }
    }
}

impl Compiled {
    /// Whether the query says which methods have a receiver. Otherwise all have.
    pub fn marks_receivers(&self) -> bool {
        self.captures.contains(&Capture::Receiver)
    }

    /// How nodes of this kind are taken in.
    pub fn class_of(&self, kind: u16) -> Class {
        let class = self.classes.get(usize::from(kind));
        class.copied().unwrap_or(Class::Plain)
    }
}

impl Language {
    /// The grammar and the query. They are compiled when they are first asked for, in milliseconds.
    ///
    /// # Panics
    /// Where the query does not fit the grammar. Both are part of the program, and tests compile
    /// each.
    pub(super) fn compiled(&self) -> &Compiled {
        self.compiled.get_or_init(|| {
            let grammar = (self.grammar)();
            let name = self.name;
            let query = Query::new(&grammar, self.query)
                .unwrap_or_else(|e| panic!("the query for {name} does not fit its grammar: {e}"));
            let captures = query.capture_names().iter().map(|capture| {
                Capture::of(capture)
                    .unwrap_or_else(|| panic!("the query for {name} has an unknown @{capture}"))
            });
            let kinds = 0..u16::try_from(grammar.node_kind_count()).unwrap_or(u16::MAX);
            let class =
                |kind| Class::of(grammar.node_kind_for_id(kind).unwrap_or(""), self.leading);
            Compiled {
                captures: captures.collect(),
                classes: kinds.map(class).collect(),
                grammar,
                query,
            }
        })
    }

    /// Whether definitions give names to those in them.
    pub(super) fn nests(&self) -> bool {
        self.nests
    }
}
