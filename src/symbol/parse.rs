//! From bytes to a tree, whatever the bytes are, in time that grows with them and with nothing else.

use std::ops::ControlFlow;

use tree_sitter::{ParseOptions, Parser, Tree};

use super::language::Compiled;

/// So many brackets and the like stand beside one another in no code that is meant to be read.
const RUN_LIMIT: u32 = 200;
/// How often the parser may report progress, for each 16 bytes and beyond that: code needs a tenth to
/// a half of it. Above it the parser is lost in what it cannot read.
const PARSE_STEPS: usize = 10_000;

/// The tree of a file, if a query can be run over it. Bounded by steps and not by time, so that the same
/// bytes give the same answer.
pub(super) fn parse(compiled: &Compiled, source: &[u8]) -> Option<Tree> {
    let mut parser = Parser::new();
    parser.set_language(&compiled.grammar).ok()?;
    let mut left = PARSE_STEPS + source.len() / 16;
    let mut progress = |_: &_| match left.checked_sub(1) {
        Some(fewer) => {
            left = fewer;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    };
    let tree = parser.parse_with_options(
        &mut |at, _| source.get(at..).unwrap_or_default(),
        None,
        Some(ParseOptions::new().progress_callback(&mut progress)),
    );
    tree.filter(is_readable)
}

/// Whether a query can be run over the tree in a time that grows with it: for each node it looks for
/// a later named one beside it, and would look through all of a long run of brackets again and again.
fn is_readable(tree: &Tree) -> bool {
    let mut cursor = tree.walk();
    let mut runs = vec![0_u32];
    loop {
        if let Some(run) = runs.last_mut() {
            *run = if cursor.node().is_named() {
                0
            } else {
                *run + 1
            };
            if *run > RUN_LIMIT {
                return false;
            }
        }
        // In what has fewer nodes there is no such run.
        if cursor.node().descendant_count() > RUN_LIMIT as usize && cursor.goto_first_child() {
            runs.push(0);
            continue;
        }
        while !cursor.goto_next_sibling() {
            runs.pop();
            if !cursor.goto_parent() {
                return true;
            }
        }
    }
}
