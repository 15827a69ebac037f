//! What is built like nothing else in the repository: a new definition most of whose names nothing
//! else uses or defines. In each file the most novel one is told.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Module, Signal,
    facts::{Facts, MODULE_LIMIT, Names, Touched, listed},
};
use crate::{
    git::Error,
    symbol::{ChangedFile, Found, View, What, language_of, last_name},
};

const MODULE: Module = Module::Novelty;
const VERSION: u32 = 1;
/// Names of one change that are looked up.
const LOOKED_UP: usize = 2_000;
/// Names that a reason lists.
const LISTED: usize = 6;

/// A new definition, and those of its names that are new.
struct Novel<'a> {
    touched: Touched<'a>,
    names: Vec<&'a str>,
    of: usize,
}

pub(super) fn signals(facts: &Facts<'_>) -> Result<Vec<Signal>, Error> {
    let settings = &facts.settings.novelty;
    if !facts.is_whole {
        return Ok(Vec::new());
    }
    let added = facts.touched().filter(|it| it.symbol.what == What::Added);
    let mut by_file: BTreeMap<&[u8], Vec<Touched<'_>>> = BTreeMap::new();
    for touched in added {
        by_file.entry(&touched.file.path).or_default().push(touched);
    }
    let own = defined_here(&facts.changes.files);
    let mut known = Known {
        prior: &facts.prior,
        names: BTreeMap::new(),
    };
    let mut signals = Vec::new();
    for added in by_file.values() {
        if signals.len() == MODULE_LIMIT || facts.is_late() {
            break;
        }
        let [first, ..] = added[..] else { continue };
        if !known.has_language_of(first, &own)? {
            continue;
        }
        let names = Names::of(first.outline);
        let mut novel = Vec::new();
        for touched in added {
            let lines = touched.definition().map(|it| it.lines.1 - it.lines.0 + 1);
            if lines.is_none_or(|lines| lines < settings.min_lines) {
                continue;
            }
            let used = names.get(touched.at).iter().copied();
            let used: Vec<&str> = used.filter(|name| !own.contains(name)).collect();
            let mut new = Vec::new();
            for name in &used {
                if !known.is_known(name)? {
                    new.push(*name);
                }
            }
            let is_novel = new.len() >= settings.min_names
                && new.len() as f64 >= settings.share * used.len() as f64;
            if is_novel {
                let of = used.len();
                let (touched, names) = (*touched, new);
                novel.push(Novel { touched, names, of });
            }
        }
        let others = novel.len().saturating_sub(1);
        // Of equals the first, which also is the one around the others.
        let most = novel.into_iter().rev().max_by_key(|it| it.names.len());
        signals.extend(most.map(|most| signal(&most, others)));
    }
    Ok(signals)
}

fn signal(novel: &Novel<'_>, others: usize) -> Signal {
    let mut reason = format!(
        "{} of the {} names that it uses occur nowhere else in the repository: {}; see whether what is already here would do, and read it as code that nothing here has proved",
        novel.names.len(),
        novel.of,
        listed(novel.names.iter().copied(), LISTED),
    );
    if others > 0 {
        reason.push_str(&format!(" ({others} more in this file are as new)"));
    }
    MODULE.signal(VERSION, novel.touched.anchor(), reason)
}

/// Names that the change itself defines.
fn defined_here(files: &[ChangedFile]) -> BTreeSet<&str> {
    let after = files.iter().filter_map(|file| file.after.as_ref());
    let outlines = after.filter_map(|side| side.outline.as_deref());
    let definitions = outlines.flat_map(|outline| &outline.definitions);
    definitions.map(|it| last_name(&it.name)).collect()
}

/// Whether some were found, or may be there.
fn is_any(found: &Found) -> bool {
    found.truncated || !found.files.is_empty()
}

/// Which names the repository had before the change.
struct Known<'a, 'f> {
    prior: &'a View<'a>,
    names: BTreeMap<&'f str, bool>,
}

impl<'f> Known<'_, 'f> {
    fn is_known(&mut self, name: &'f str) -> Result<bool, Error> {
        if let Some(known) = self.names.get(name) {
            return Ok(*known);
        }
        // What was not looked up is taken for known: rather no signal than a wrong one.
        let known = self.names.len() >= LOOKED_UP
            || is_any(&self.prior.using(name, 1)?)
            || is_any(&self.prior.defining(name, 1)?);
        self.names.insert(name, known);
        Ok(known)
    }

    /// Whether the repository had code in the file's language that it can be compared with: some name
    /// of the file was used in one.
    fn has_language_of(&mut self, file: Touched<'f>, own: &BTreeSet<&str>) -> Result<bool, Error> {
        let language = |path: &[u8]| language_of(path).map(|it| it.name);
        if file.file.before.is_some() {
            return Ok(true);
        }
        let names = file.outline.references.iter().map(|it| it.name.as_str());
        let names: BTreeSet<&str> = names.filter(|name| !own.contains(name)).collect();
        for name in names.into_iter().take(LOOKED_UP / 10) {
            if self.is_known(name)? {
                let found = self.prior.using(name, 20)?.files;
                let same = |path: &[u8]| language(path) == language(&file.file.path);
                if found.iter().any(|it| same(&it.path)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
