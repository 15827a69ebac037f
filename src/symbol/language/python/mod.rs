//! Python.

use std::sync::OnceLock;

use super::Language;

/// Python.
pub static LANGUAGE: Language = Language {
    name: "Python",
    endings: &["py", "pyi"],
    leading: &[],
    nests: true,
    grammar: || tree_sitter_python::LANGUAGE.into(),
    query: include_str!("query.scm"),
    compiled: OnceLock::new(),
};
