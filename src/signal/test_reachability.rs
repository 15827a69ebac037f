//! What no test reaches: a function that is new or changed, and that no chain of calls, as they stand
//! in the source, leads to from a test. Nothing is run, and nothing is known of what runs.

use std::collections::BTreeSet;

use super::{
    Module, Signal,
    facts::{Facts, MODULE_LIMIT, Touched},
};
use crate::{
    git::Error,
    symbol::{Kind, What, language_of, last_name},
};

const MODULE: Module = Module::TestReachability;
const VERSION: u32 = 1;

/// Calls that are looked at for one function; beyond that it is not known whether a test reaches it.
const LOOKED_AT: usize = 400;

pub(super) fn signals(facts: &Facts<'_>) -> Result<Vec<Signal>, Error> {
    let settings = &facts.settings.test_reachability;
    let mut signals = Vec::new();
    let mut tested: Vec<(&str, bool)> = Vec::new();
    for touched in facts.touched().filter(is_testable) {
        if signals.len() == MODULE_LIMIT {
            break;
        }
        let Some(language) = language_of(&touched.file.path) else {
            continue;
        };
        let known = tested.iter().find(|(name, _)| *name == language.name);
        let has_tests = match known {
            Some((_, has_tests)) => *has_tests,
            None => {
                let has_tests = facts.has_tests(language)?;
                tested.push((language.name, has_tests));
                has_tests
            }
        };
        if !has_tests {
            continue;
        }
        if let Reach::None(looked_at) = reach(facts, &touched, settings.max_steps)? {
            signals.push(MODULE.signal(VERSION, touched.anchor(), reason(&touched, looked_at)));
        }
    }
    Ok(signals)
}

fn reason(touched: &Touched<'_>, looked_at: usize) -> String {
    let what = match touched.symbol.what {
        What::Added => "it is new",
        What::Shape => "its signature changed",
        _ => "its body changed",
    };
    let callers = match looked_at {
        0 => "nothing calls it by name".to_owned(),
        1 => "the one function that leads to it is called from no test".to_owned(),
        count => format!("none of the {count} functions that lead to it is called from a test"),
    };
    format!(
        "{what}, and no test reaches it: {callers} (static: calls as the source has them, no runtime coverage); add a test, or name the one that runs it"
    )
}

/// Whether it is a function of which a test is expected.
fn is_testable(touched: &Touched<'_>) -> bool {
    let Some(definition) = touched.definition().filter(|_| touched.is_function()) else {
        return false;
    };
    let parent = definition
        .parent
        .and_then(|at| touched.outline.definitions.get(at as usize));
    let is_declared = parent.is_some_and(|it| matches!(it.kind, Kind::Trait | Kind::Interface));
    let calls = |at: Option<u32>| at == Some(touched.at as u32);
    let does_something = touched.outline.references.iter().any(|it| calls(it.from));
    let is_line = definition.lines.0 == definition.lines.1;
    last_name(&definition.name) != "main" && (does_something || !(is_declared || is_line))
}

/// Whether a test leads to a function.
enum Reach {
    /// One does, or it is not known.
    Perhaps,
    /// None does; so many functions lead to it.
    None(usize),
}

/// Walks from callee to caller until a test is met.
fn reach(facts: &Facts<'_>, touched: &Touched<'_>, steps: usize) -> Result<Reach, Error> {
    let mut seen = BTreeSet::from([last_name(&touched.symbol.name).to_owned()]);
    let mut next: Vec<String> = seen.iter().cloned().collect();
    for _ in 0..steps {
        let mut callers = BTreeSet::new();
        for name in next {
            let found = facts.callers(&name, LOOKED_AT)?;
            if found.truncated || found.callers.iter().any(|it| it.is_test) {
                return Ok(Reach::Perhaps);
            }
            let symbols = found.callers.into_iter().filter_map(|it| it.symbol);
            callers.extend(symbols.map(|it| last_name(&it).to_owned()));
        }
        next = callers
            .into_iter()
            .filter(|it| !seen.contains(it))
            .collect();
        seen.extend(next.iter().cloned());
        if seen.len() > LOOKED_AT {
            return Ok(Reach::Perhaps);
        }
        if next.is_empty() {
            return Ok(Reach::None(seen.len() - 1));
        }
    }
    Ok(Reach::Perhaps)
}
