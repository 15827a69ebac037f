//! TypeScript, and TSX, whose grammar is another one. Both have what JavaScript has, and more.

use std::sync::OnceLock;

use super::Language;

/// TypeScript.
pub static LANGUAGE: Language = Language {
    name: "TypeScript",
    endings: &["ts", "mts", "cts"],
    leading: &["decorator"],
    nests: true,
    grammar: || tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
    query: concat!(
        include_str!("../javascript/ecmascript.scm"),
        include_str!("query.scm")
    ),
    compiled: OnceLock::new(),
};

/// TSX.
pub static TSX: Language = Language {
    name: "TSX",
    endings: &["tsx"],
    leading: &["decorator"],
    nests: true,
    grammar: || tree_sitter_typescript::LANGUAGE_TSX.into(),
    query: concat!(
        include_str!("../javascript/ecmascript.scm"),
        include_str!("query.scm"),
        include_str!("../javascript/jsx.scm")
    ),
    compiled: OnceLock::new(),
};
