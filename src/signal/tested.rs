//! Whether a repository has tests in a language: where it has none, that no test reaches something says
//! nothing. What was found once is looked at first, and of a tree without tests only what changed since.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    git::{BString, Change, Entry, Error, GitDir, ObjectId},
    symbol::{Language, View, is_test_path, language_of},
};

/// Files that are looked into for a first test; what comes after them in a tree is not.
const LOOKED_INTO: usize = 20_000;

/// What is known of the tests in each language. The answers do not depend on it.
#[derive(Default)]
pub(super) struct Tested(Mutex<HashMap<&'static str, Known>>);

#[derive(Clone)]
enum Known {
    /// This file had a test.
    At(BString),
    /// This tree had none.
    NoneIn(ObjectId),
}

impl Tested {
    /// Whether the tree that is viewed has a test in this language.
    pub fn has(
        &self,
        language: &Language,
        git: &GitDir,
        (tree, view): (ObjectId, &View<'_>),
    ) -> Result<bool, Error> {
        let all = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all().get(language.name).cloned();
        let from = match known {
            Some(Known::At(path)) if is_test(view, &path)? => return Ok(true),
            // Git may have dropped it since.
            Some(Known::NoneIn(before)) if git.has_tree(before) => before,
            _ => git.empty_tree(),
        };
        let changes = git.diff(from, tree, &[])?;
        let (found, is_all) = first(language, view, &changes)?;
        let is_there = found.is_some();
        match found {
            Some(path) => drop(all().insert(language.name, Known::At(path))),
            None if is_all => drop(all().insert(language.name, Known::NoneIn(tree))),
            None => {}
        }
        Ok(is_there)
    }
}

/// The first of these files that has a test, by their paths, then by what is in them; and whether all of
/// them were looked into where none has.
fn first(
    language: &Language,
    view: &View<'_>,
    changes: &[Change],
) -> Result<(Option<BString>, bool), Error> {
    let is_file = |change: &&Change| {
        let same = language_of(&change.path).is_some_and(|it| it.name == language.name);
        same && change.after.as_ref().is_some_and(Entry::is_file)
    };
    let files = || changes.iter().filter(is_file).map(|change| &change.path);
    if let Some(path) = files().find(|path| is_test_path(path)) {
        return Ok((Some(path.clone()), true));
    }
    for path in files().take(LOOKED_INTO) {
        if is_test(view, path)? {
            return Ok((Some(path.clone()), true));
        }
    }
    Ok((None, files().count() <= LOOKED_INTO))
}

/// Whether a file is there and has a test.
fn is_test(view: &View<'_>, path: &BString) -> Result<bool, Error> {
    let outline = view.outline(path)?;
    let marked = |it: &crate::symbol::Outline| it.definitions.iter().any(|it| it.is_test);
    Ok(outline.is_some_and(|it| is_test_path(path) || marked(&it)))
}
