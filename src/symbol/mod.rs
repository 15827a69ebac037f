//! Symbols of source files, by tree-sitter: what a file defines, and what it refers to. An
//! [`Outline`] depends on nothing but the file's bytes and its language, so it is made once per blob.

mod changes;
mod digest;
mod encode;
mod extract;
mod found;
mod index;
mod language;
mod left_out;
mod outlines;
mod parse;
mod path_kind;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use changes::{ChangedFile, ChangedSymbol, Changes, FILES_LIMIT, Side, What};
pub use digest::Digest;
pub use extract::{NESTING_LIMIT, SIZE_LIMIT, outline};
pub use index::{
    Caller, Callers, Counts, Found, Index, IndexProgress, IndexedFile, Reach, View, defined_names,
};
pub use language::{LANGUAGES, Language, language_of};
pub use left_out::LeftOut;
pub use outlines::{Looked, Outlines};
pub use path_kind::{PathKind, is_test_path, path_kind};

/// A symbol of a file, by name; where `symbol` is empty, the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SymbolRef {
    /// Path from the repository's root.
    pub file: String,
    /// Its name, with those of what it lies in.
    pub symbol: String,
}

/// As people write it: `src/cache.rs:Cache::get`.
impl fmt::Display for SymbolRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.symbol.as_str() {
            "" => f.write_str(&self.file),
            symbol => write!(f, "{}:{symbol}", self.file),
        }
    }
}

/// What a definition defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Kind {
    Function,
    Method,
    Class,
    Struct,
    Enum,
    Union,
    Trait,
    Interface,
    Type,
    Constant,
    Variable,
    Macro,
    Module,
}

impl Kind {
    /// As it is called in queries and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Method => "method",
            Self::Class => "class",
            Self::Struct => "struct",
            Self::Enum => "enum",
            Self::Union => "union",
            Self::Trait => "trait",
            Self::Interface => "interface",
            Self::Type => "type",
            Self::Constant => "constant",
            Self::Variable => "variable",
            Self::Macro => "macro",
            Self::Module => "module",
        }
    }

    fn of(name: &str) -> Option<Self> {
        const ALL: [Kind; 13] = [
            Kind::Function,
            Kind::Method,
            Kind::Class,
            Kind::Struct,
            Kind::Enum,
            Kind::Union,
            Kind::Trait,
            Kind::Interface,
            Kind::Type,
            Kind::Constant,
            Kind::Variable,
            Kind::Macro,
            Kind::Module,
        ];
        ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What a file defines and refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// In the order of the source.
    pub definitions: Vec<Definition>,
    /// In the order of the source.
    pub references: Vec<Reference>,
    /// Whether the file has what its grammar cannot read. The rest of it is there all the same.
    pub broken: bool,
}

impl Outline {
    /// All definitions of this name: a name may be defined more than once in a file, by `cfg` or in
    /// several `impl`s, and is one symbol then.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Definition> {
        let found = self.definitions.iter().filter(move |it| it.name == name);
        found.into_iter()
    }
}

/// One definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The names of the enclosing definitions and its own, joined with `::`.
    pub name: String,
    /// What it defines.
    pub kind: Kind,
    /// The first and the last line, from 1, with the attributes and decorators before it.
    pub lines: (u32, u32),
    /// The definition that it lies in, as an index of [`Outline::definitions`].
    pub parent: Option<u32>,
    /// Whether the source marks it as a test, or it lies in such a definition.
    pub is_test: bool,
    /// Whether it is called without being named: by an operator, a library or the system, as `main` and
    /// the methods of a trait are.
    pub is_implied: bool,
    /// Whether it is a method that is called on a value, and not by its type's name alone.
    pub has_receiver: bool,
    /// All of it, as normalised text: without comments and without regard to white space.
    pub text: Digest,
    /// The same without the definitions in it.
    pub own: Digest,
    /// What a user of it sees: its own text without the body.
    pub shape: Digest,
    /// All of it but its name: equal where it was only renamed.
    pub unnamed: Digest,
}

/// A name without those of what it lies in.
pub fn last_name(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

/// One place where something is called or used by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The name that is used, its last part.
    pub name: String,
    /// The name right before it, of a type, a module or a value: `None` where nothing stands there,
    /// empty where it is no name.
    pub qualifier: Option<String>,
    /// The line, from 1.
    pub line: u32,
    /// The innermost definition that it lies in, as an index of [`Outline::definitions`].
    pub from: Option<u32>,
}
