//! Who calls what, as the modules ask it.

use std::collections::BTreeSet;

use super::facts::Facts;
use crate::{
    git::{Entry, Error},
    symbol::{Caller, Language, is_test_path, language_of},
};

/// Places that call a name.
#[derive(Default)]
pub(super) struct Callers {
    pub callers: Vec<Caller>,
    /// Whether there may be more.
    pub truncated: bool,
}

impl Facts<'_> {
    pub fn callers(&self, name: &str, limit: usize) -> Result<Callers, Error> {
        let found = self.newer.using(name, limit)?;
        let mut callers = BTreeSet::new();
        for file in &found.files {
            let is_test = is_test_path(&file.path);
            let calls = file.outline.references.iter();
            for call in calls.filter(|it| it.name == name) {
                let from = call
                    .from
                    .and_then(|at| file.outline.definitions.get(at as usize));
                callers.insert(Caller {
                    path: file.path.clone(),
                    symbol: from.map(|it| it.name.clone()),
                    line: call.line,
                    is_test: is_test || from.is_some_and(|it| it.is_test),
                });
            }
        }
        Ok(Callers {
            truncated: found.truncated || callers.len() > limit,
            callers: callers.into_iter().collect(),
        })
    }

    /// Whether the repository has a test in this language.
    pub fn has_tests(&self, language: &Language) -> Result<bool, Error> {
        for change in self.git.diff(self.git.empty_tree(), self.tree, &[])? {
            let is_file = change.after.as_ref().is_some_and(Entry::is_file);
            let same = language_of(&change.path).is_some_and(|it| it.name == language.name);
            if !(is_file && same) {
                continue;
            }
            if is_test_path(&change.path) {
                return Ok(true);
            }
            let outline = self.newer.outline(&change.path)?;
            if outline.is_some_and(|it| it.definitions.iter().any(|it| it.is_test)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
