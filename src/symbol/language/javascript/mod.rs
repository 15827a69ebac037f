//! JavaScript, with JSX.

use std::sync::OnceLock;

use super::Language;

/// JavaScript.
pub static LANGUAGE: Language = Language {
    name: "JavaScript",
    endings: &["js", "mjs", "cjs", "jsx"],
    leading: &[],
    nests: true,
    grammar: || tree_sitter_javascript::LANGUAGE.into(),
    query: concat!(
        include_str!("ecmascript.scm"),
        include_str!("fields.scm"),
        include_str!("jsx.scm")
    ),
    compiled: OnceLock::new(),
};
