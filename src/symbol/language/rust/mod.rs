//! Rust: methods are named under the type of their `impl`.

use std::sync::OnceLock;

use super::Language;

/// Rust.
pub static LANGUAGE: Language = Language {
    name: "Rust",
    endings: &["rs"],
    leading: &["attribute_item"],
    nests: true,
    grammar: || tree_sitter_rust::LANGUAGE.into(),
    query: include_str!("query.scm"),
    compiled: OnceLock::new(),
};
