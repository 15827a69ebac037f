//! What is built otherwise than its siblings, or than it was: a name that most of them use and it does
//! not, above all one that it used before; and a body that was rewritten.
//!
//! Only names that look like a rule of the place count: a guard by its name (`lock`, `check_…`), or what
//! is called as a function or a method of its own, and this repository defines in few places. `len` and
//! `clone` of whatever are nobody's rule.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Module, Signal,
    facts::{Facts, MODULE_LIMIT, Names, Touched, container, is_function, listed},
};
use crate::{
    git::Error,
    symbol::{Definition, Outline, Reference, What, last_name},
};

const MODULE: Module = Module::PatternDeviation;
const VERSION: u32 = 1;
/// Siblings that a name that was dropped needs, where it is on to be told.
const KEEPERS: usize = 2;
/// A name that more files define is nobody's rule.
const FEW: usize = 3;
/// Siblings that one is held against: the first ones.
const COMPARED: usize = 200;
/// Names that a reason lists.
const LISTED: usize = 3;

/// Words that names of guards are made of.
const GUARDS: &[&str] = &[
    "acquire",
    "assert",
    "auth",
    "authorize",
    "begin",
    "check",
    "close",
    "commit",
    "defer",
    "drain",
    "ensure",
    "enter",
    "escape",
    "flush",
    "free",
    "guard",
    "lock",
    "permit",
    "release",
    "require",
    "rollback",
    "sanitize",
    "sync",
    "unlock",
    "validate",
    "verify",
];

/// What makes or shows a value, and is built otherwise than what works on it.
const MAKERS: &[&str] = &[
    "new",
    "default",
    "from",
    "init",
    "fmt",
    "drop",
    "constructor",
    "clone",
    "eq",
    "hash",
];

pub(super) fn signals(facts: &Facts<'_>) -> Result<Vec<Signal>, Error> {
    let mut signals = Vec::new();
    let mut rules = Rules::new(facts);
    let functions: Vec<_> = facts.touched().filter(Touched::is_function).collect();
    for of_file in functions.chunk_by(|one, other| one.file.path == other.file.path) {
        let Some(outline) = of_file.first().map(|it| it.outline) else {
            continue;
        };
        let [now, all_now] = rules_and_all(outline);
        let families = Families::of(outline);
        let before = of_file[0].file.before.as_ref();
        let before = before.and_then(|side| side.outline.as_deref());
        let before = before.map(|outline| (outline, rules_and_all(outline)));
        for touched in of_file {
            if signals.len() == MODULE_LIMIT || facts.is_late() {
                return Ok(signals);
            }
            let old = touched.before(facts.changes);
            // What came from another file has no names here.
            let old = match (&before, old) {
                (Some((outline, [rules, all])), Some((of, at))) if std::ptr::eq(*outline, of) => {
                    Some((rules.get(at), all.get(at)))
                }
                _ => None,
            };
            let family = families.without(*touched);
            let one = One {
                touched: *touched,
                names: now.get(touched.at),
                all_names: all_now.get(touched.at),
                old,
                siblings: family.iter().map(|at| now.get(*at)).collect(),
            };
            if let Some(reason) = one.deviates(facts, &mut rules)? {
                signals.push(MODULE.signal(VERSION, touched.anchor(), reason));
            }
        }
    }
    Ok(signals)
}

/// A changed function beside its siblings.
struct One<'a, 'n> {
    touched: Touched<'a>,
    /// Those that may be rules, and all.
    names: &'n BTreeSet<&'a str>,
    all_names: &'n BTreeSet<&'a str>,
    /// The same of the version before.
    old: Option<(&'n BTreeSet<&'a str>, &'n BTreeSet<&'a str>)>,
    siblings: Vec<&'n BTreeSet<&'a str>>,
}

impl<'a> One<'a, '_> {
    /// Why it deviates, if it does.
    fn deviates(
        &self,
        facts: &Facts<'a>,
        rules: &mut Rules<'a, '_>,
    ) -> Result<Option<String>, Error> {
        let settings = &facts.settings.pattern_deviation;
        let own = last_name(&self.touched.symbol.name);
        let is_maker = MAKERS.contains(&own.trim_matches('_'));
        let users = |name: &str| self.siblings.iter().filter(|it| it.contains(name)).count();
        let all = self.siblings.len();
        let most = |count: usize| count as f64 >= settings.share * all as f64;
        let around = match container(&self.touched.symbol.name) {
            "" => "this file".to_owned(),
            around => format!("`{around}`"),
        };
        if let Some((old, _)) = self.old {
            let dropped = old.difference(self.names).copied();
            let dropped = dropped.filter(|name| all >= KEEPERS && most(users(name)));
            // `check_this` in place of `check_that` guards it still.
            let gained: Vec<_> = self.names.difference(old).map(|it| guard(it)).collect();
            let dropped = dropped.filter(|name| {
                let word = guard(name);
                word.is_none() || !gained.contains(&word)
            });
            let dropped = rules.of(dropped, own)?;
            if let Some(first) = dropped.first() {
                return Ok(Some(format!(
                    "it no longer uses {}, which it used before and {} of its {all} siblings in {around} still do; put it back, or say why it is not needed",
                    listed(dropped.iter().copied(), LISTED),
                    users(first),
                )));
            }
            return Ok(self.rewritten(settings.min_names, settings.similarity));
        }
        if self.touched.symbol.what != What::Added
            || is_maker
            || self.all_names.is_empty()
            || all < settings.min_siblings
        {
            return Ok(None);
        }
        let mut usual: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.siblings.iter().flat_map(|it| it.iter()) {
            *usual.entry(name).or_default() += 1;
        }
        // What is no guard by its name is a rule where nobody leaves it out.
        let is_usual = |name: &str, count: usize| most(count) && (count == all || is_guard(name));
        let missing = usual
            .into_iter()
            .filter(|(name, count)| is_usual(name, *count));
        let missing = missing.map(|(name, _)| name);
        let missing = missing.filter(|name| !self.names.contains(name));
        let missing = rules.of(missing, own)?;
        Ok(missing.first().map(|first| {
            format!(
                "{} of its {all} siblings in {around} use {}, and it does not; do as they do, or say why it need not",
                users(first),
                listed(missing.iter().copied(), LISTED),
            )
        }))
    }

    /// Whether hardly anything is left of what a large body used.
    fn rewritten(&self, min_names: usize, similarity: f64) -> Option<String> {
        let (_, old) = self.old.filter(|(_, old)| old.len() >= min_names)?;
        let now = self.all_names;
        let both = old.intersection(now).count();
        let any = old.union(now).count();
        let is_rewritten = now.len() >= min_names && (both as f64) < similarity * any as f64;
        is_rewritten.then(|| {
            format!(
                "it was rewritten: of the {} names that it used, {both} are left among {}; read it as new code, and see that it keeps what the old one did",
                old.len(),
                now.len(),
            )
        })
    }
}

/// The names of each definition that may be rules, and all of them.
fn rules_and_all(outline: &Outline) -> [Names<'_>; 2] {
    let may_be_rule = |it: &Reference| {
        let before = it.qualifier.as_deref();
        matches!(before, None | Some("self" | "Self" | "this" | "cls")) || is_guard(&it.name)
    };
    [Names::some_of(outline, may_be_rule), Names::of(outline)]
}

/// Functions of a file, by what they lie in and what they are.
struct Families<'a> {
    outline: &'a Outline,
    members: BTreeMap<(&'a str, u8), Vec<usize>>,
}

impl<'a> Families<'a> {
    fn of(outline: &'a Outline) -> Self {
        let mut members: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (at, definition) in outline.definitions.iter().enumerate() {
            if is_function(definition) && !definition.is_test {
                members.entry(family(definition)).or_default().push(at);
            }
        }
        Self { outline, members }
    }

    /// The siblings of a function that do something.
    fn without(&self, touched: Touched<'_>) -> Vec<usize> {
        let Some(definition) = touched.definition() else {
            return Vec::new();
        };
        let members = self.members.get(&family(definition)).into_iter().flatten();
        let others = members.filter(|at| {
            let other = &self.outline.definitions[**at];
            other.name != definition.name
                && !MAKERS.contains(&last_name(&other.name).trim_matches('_'))
        });
        others.take(COMPARED).copied().collect()
    }
}

fn family(definition: &Definition) -> (&str, u8) {
    (container(&definition.name), definition.kind as u8)
}

/// Which names are rules of this repository.
struct Rules<'a, 'f> {
    facts: &'f Facts<'a>,
    known: BTreeMap<&'a str, bool>,
}

impl<'a, 'f> Rules<'a, 'f> {
    fn new(facts: &'f Facts<'a>) -> Self {
        let known = BTreeMap::new();
        Self { facts, known }
    }

    /// Those of the names that are, but for the function's own.
    fn of(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        own: &str,
    ) -> Result<Vec<&'a str>, Error> {
        let mut rules = Vec::new();
        for name in names.filter(|name| *name != own) {
            if self.is_rule(name)? {
                rules.push(name);
            }
        }
        Ok(rules)
    }

    fn is_rule(&mut self, name: &'a str) -> Result<bool, Error> {
        if let Some(known) = self.known.get(name) {
            return Ok(*known);
        }
        let is_rule = is_guard(name) || self.is_defined_in_few(name)?;
        self.known.insert(name, is_rule);
        Ok(is_rule)
    }

    fn is_defined_in_few(&self, name: &str) -> Result<bool, Error> {
        if !self.facts.is_whole {
            return Ok(false);
        }
        let found = self.facts.newer.defining(name, FEW)?;
        let is_it = |it: &Definition| is_function(it) && last_name(&it.name) == name;
        let is_few = !found.truncated && !found.files.is_empty();
        let mut outlines = found.files.iter().map(|file| &file.outline);
        Ok(is_few && outlines.all(|it| it.definitions.iter().any(is_it)))
    }
}

fn is_guard(name: &str) -> bool {
    guard(name).is_some()
}

/// The word of a name that is a guard's: `check_repository`, `tryLock`.
fn guard(name: &str) -> Option<&'static str> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if (letter == '_' || letter.is_uppercase()) && words.last().is_some_and(|it| !it.is_empty())
        {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter != '_') {
            word.extend(letter.to_lowercase());
        }
    }
    let mut guards = GUARDS.iter().copied();
    guards.find(|guard| words.iter().any(|word| word == guard))
}
