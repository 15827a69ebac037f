//! What no test reaches: a function that is new or changed, and that no chain of calls, as they stand
//! in the source, leads to from a test. Nothing is run, and nothing is known of what runs.

use super::{
    Module, Signal,
    facts::{Facts, MODULE_LIMIT, Touched},
};
use crate::{
    git::Error,
    symbol::{Kind, Reach, SymbolRef, What, language_of, last_name},
};

const MODULE: Module = Module::TestReachability;
const VERSION: u32 = 1;

/// Functions whose callers are looked for, for one; beyond that it is not known whether a test reaches it.
const LOOKED_AT: usize = 100;

pub(super) fn signals(facts: &Facts<'_>) -> Result<Vec<Signal>, Error> {
    let settings = &facts.settings.test_reachability;
    let mut signals = Vec::new();
    if !facts.is_whole {
        return Ok(signals);
    }
    for touched in facts.touched().filter(is_testable) {
        if signals.len() == MODULE_LIMIT {
            break;
        }
        let path = &touched.file.path;
        let (Some(language), Ok(file)) = (language_of(path), str::from_utf8(path)) else {
            continue;
        };
        let symbol = SymbolRef {
            file: file.to_owned(),
            symbol: touched.symbol.name.clone(),
        };
        let view = &facts.newer;
        let reach = view.reached_from_tests(&symbol, settings.max_steps, LOOKED_AT)?;
        if let Reach::NotReached { callers, .. } = reach
            && facts.tested.has(language, facts.git, (facts.tree, view))?
        {
            signals.push(MODULE.signal(VERSION, touched.anchor(), reason(&touched, callers)));
        }
    }
    Ok(signals)
}

fn reason(touched: &Touched<'_>, callers: usize) -> String {
    let what = match touched.symbol.what {
        What::Added => "it is new",
        What::Shape => "its signature changed",
        _ => "its body changed",
    };
    let callers = match callers {
        0 => "nothing calls it".to_owned(),
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
