//! Go: methods are named under the type of their receiver.

use std::sync::OnceLock;

use super::Language;

/// Go.
pub static LANGUAGE: Language = Language {
    name: "Go",
    endings: &["go"],
    leading: &[],
    nests: true,
    grammar: || tree_sitter_go::LANGUAGE.into(),
    query: include_str!("query.scm"),
    compiled: OnceLock::new(),
};
