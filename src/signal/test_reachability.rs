//! What no test reaches: a function that is new or changed, and that no chain of calls, as they stand
//! in the source, leads to from a test. Nothing is run, and nothing is known of what runs. Where a
//! repository has no tests in a language, that no test reaches something says nothing.

use super::{
    Module, Signal,
    facts::{Facts, MODULE_LIMIT, Touched, shown},
};
use crate::{
    git::Error,
    symbol::{Definition, Kind, Reach, SIZE_LIMIT, SymbolRef, What, language_of, last_name},
};

const MODULE: Module = Module::TestReachability;
const VERSION: u32 = 1;

/// Definitions that name a function that are followed.
const MENTIONS: usize = 10;
/// Folders and files of what is run by people and by builds, and by no test.
const UNTESTED: &[&str] = &[
    "bench",
    "benches",
    "benchmarks",
    "build.rs",
    "example",
    "examples",
    "scripts",
    "setup.py",
];
/// Functions of one change that are looked at.
const FUNCTIONS: usize = 500;
/// Functions whose callers are looked for, for one; beyond that it is not known whether a test reaches it.
const LOOKED_AT: usize = 30;

pub(super) fn signals(facts: &Facts<'_>) -> Result<Vec<Signal>, Error> {
    let settings = &facts.settings.test_reachability;
    let mut signals = Vec::new();
    if !facts.is_whole {
        return Ok(signals);
    }
    for (number, touched) in facts.touched().filter(is_testable).enumerate() {
        if signals.len() == MODULE_LIMIT || facts.is_late() {
            break;
        }
        if number == FUNCTIONS {
            facts.is_cut.set(true);
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
        let steps = settings.max_steps;
        let Some(callers) = leading_to(facts, &touched, symbol, steps)? else {
            continue;
        };
        match facts.newer.has_tests(language)? {
            Some(true) => {
                signals.push(MODULE.signal(VERSION, touched.anchor(), reason(&touched, callers)));
            }
            Some(false) => {}
            None => facts.is_cut.set(true),
        }
    }
    Ok(signals)
}

/// How many functions lead to one that no test reaches; `None` where one does, or it is not known. Where
/// a function is handed on by its name, that leads to it as well.
fn leading_to(
    facts: &Facts<'_>,
    touched: &Touched<'_>,
    symbol: SymbolRef,
    steps: usize,
) -> Result<Option<usize>, Error> {
    let mut all = 0;
    let Some(mentioned) = mentions(facts, touched)? else {
        return Ok(None);
    };
    for symbol in [symbol].into_iter().chain(mentioned) {
        match facts.newer.reached_from_tests(&symbol, steps, LOOKED_AT)? {
            Reach::NotReached { callers, .. } => all += callers,
            Reach::Reached(_) | Reach::Unknown { .. } => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// Other functions of its file that name a function, which is no method; `None` where it is named in
/// what is no function, as a table or an attribute: nobody knows who calls it then.
fn mentions(facts: &Facts<'_>, touched: &Touched<'_>) -> Result<Option<Vec<SymbolRef>>, Error> {
    let is_function = |it: &&Definition| it.kind == Kind::Function;
    let (Some(definition), Some(side)) = (
        touched.definition().filter(is_function),
        &touched.file.after,
    ) else {
        return Ok(Some(Vec::new()));
    };
    let Some(source) = facts.git.blob(side.entry.id, SIZE_LIMIT)? else {
        return Ok(None);
    };
    let name = last_name(&definition.name);
    let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let text = String::from_utf8_lossy(&source);
    let named = (1_u32..).zip(text.lines()).filter(|(_, line)| {
        let start = line.trim_start();
        let is_comment = ["//", "* ", "# "].iter().any(|it| start.starts_with(it));
        let mut words = line.split(|letter| !is_of_name(letter));
        !is_comment && words.any(|word| word == name)
    });
    let mut others = Vec::new();
    for (line, _) in named {
        let mut all = touched.outline.definitions.iter();
        // The innermost one begins last.
        match all.rfind(|it| it.lines.0 <= line && line <= it.lines.1) {
            Some(around) if around.name == definition.name => {}
            Some(around) if is_function(&around) || around.kind == Kind::Method => {
                others.push(around.name.as_str());
            }
            _ => return Ok(None),
        }
    }
    others.dedup();
    others.truncate(MENTIONS);
    let others = others.into_iter().map(|symbol| SymbolRef {
        file: shown(&touched.file.path),
        symbol: symbol.to_owned(),
    });
    Ok(Some(others.collect()))
}

fn reason(touched: &Touched<'_>, callers: usize) -> String {
    let what = match touched.symbol.what {
        What::Added => "it is new",
        What::Shape => "its signature changed",
        _ => "its body changed",
    };
    let callers = match callers {
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
    let path = shown(&touched.file.path);
    let is_untested = path.split('/').any(|part| UNTESTED.contains(&part));
    !(is_untested || definition.is_implied) && (does_something || !(is_declared || is_line))
}
