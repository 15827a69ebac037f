//! C. A header of C++ is read as far as C goes.

use std::sync::OnceLock;

use super::Language;

/// C.
pub static LANGUAGE: Language = Language {
    name: "C",
    endings: &["c", "h"],
    leading: &[],
    nests: false,
    grammar: || tree_sitter_c::LANGUAGE.into(),
    query: include_str!("query.scm"),
    compiled: OnceLock::new(),
};
