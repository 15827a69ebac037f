//! The signals of a state: facts are gathered, the modules judge them, and what they say is put in
//! order.

use std::{
    cell::Cell,
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::watch;

use super::{
    BUDGET, Module, Settings, Signal, extra,
    facts::{Facts, shown},
    invariant_adjacency, novelty, pattern_deviation, self_flagged_uncertainty, test_reachability,
};
use crate::{
    deadline::Deadline,
    discussion,
    failure::Failure,
    git::{Error, GitDir, StateId},
    symbol::{ChangedFile, Changes, Index},
    thread::Places,
};

/// Symbols that are told of one change.
const SYMBOLS_LIMIT: usize = 20_000;

/// Computes signals.
pub struct Signals {
    pub(super) places: Arc<Places>,
    pub(super) index: Arc<Index>,
    settings: RwLock<Arc<Settings>>,
    /// The place of what was written down last.
    pub(super) newest: watch::Sender<i64>,
}

/// The signals of a state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Computed {
    /// In order of priority; those within the budget are marked.
    pub signals: Vec<Signal>,
    /// Whether something is missing, as not all of the repository was looked at in time.
    pub partial: bool,
}

impl Signals {
    /// Those of the repository of these places.
    pub fn new(places: Arc<Places>, index: Arc<Index>) -> Self {
        Self {
            places,
            index,
            settings: RwLock::default(),
            newest: watch::Sender::new(0),
        }
    }

    /// Changes when signals of captures became known, or are known never to.
    pub fn newest(&self) -> watch::Receiver<i64> {
        self.newest.subscribe()
    }

    /// From now on the modules judge as these settings say.
    pub fn configure(&self, settings: Settings) {
        let mut now = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(settings);
    }

    fn settings(&self) -> Arc<Settings> {
        let now = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&now)
    }

    /// The signals of a state, compared with `prior`, else with its first parent, else with nothing.
    /// What is not found by the deadline is left out. Blocks.
    ///
    /// # Errors
    /// When an object or the store cannot be read.
    pub fn of(
        &self,
        state: StateId,
        prior: Option<StateId>,
        deadline: &Deadline,
    ) -> Result<Computed, Failure> {
        let git = self.places.git()?;
        let prior = match prior {
            Some(prior) => Some(prior),
            None => git.first_parent(state)?,
        };
        Ok(self.between(&git, state, prior, deadline)?.0)
    }

    /// The signals of a state, compared with `prior`, else with nothing, and what changed, as far as it
    /// is found by the deadline. Blocks.
    ///
    /// # Errors
    /// When an object or the store cannot be read.
    pub fn between(
        &self,
        git: &GitDir,
        state: StateId,
        prior: Option<StateId>,
        deadline: &Deadline,
    ) -> Result<(Computed, Changes), Failure> {
        let to = git.tree_of(state)?;
        let from = match prior {
            Some(prior) => git.tree_of(prior)?,
            None => git.empty_tree(),
        };
        // What changed comes first: it needs no more than the files that did.
        let changes = Changes::between(git, self.index.outlines(), from, to, deadline)?;
        let is_whole =
            self.index.cover(git, to, deadline)? && self.index.cover(git, from, deadline)?;
        let settings = self.settings();
        let (annotations, all_annotations) = match settings.invariant_adjacency.enabled {
            true => {
                discussion::annotations(&self.places, &self.index, git, state, prior, deadline)?
            }
            false => (Vec::new(), true),
        };
        let said = git.said_of(state)?;
        let facts = Facts {
            changes: &changes,
            git,
            is_whole,
            prior: self.index.at(git, from),
            newer: self.index.at(git, to),
            message: &said.message,
            confidence: said.confidence,
            annotations,
            deadline,
            is_cut: Cell::new(false),
            settings: &settings,
        };
        let mut signals = judge(&facts)?;
        let extra = self
            .places
            .store()
            .read(|tx| tx.extra_signals(state.as_bytes()))?;
        signals.extend(extra.into_iter().map(extra::signal));
        put_in_order(&mut signals);
        let computed = Computed {
            signals,
            partial: changes.truncated || !is_whole || !all_annotations || facts.is_cut.get(),
        };
        drop(facts);
        Ok((computed, changes))
    }
}

/// What changed, as `file:symbol`; of what moved, where it was as well.
pub(super) fn symbols(changes: &Changes) -> Vec<String> {
    // The log has one on a line.
    let place = |file: &ChangedFile, name: &str| {
        format!("{}:{name}", shown(&file.path)).replace('\n', "\u{fffd}")
    };
    let mut all = Vec::new();
    for file in &changes.files {
        for symbol in &file.symbols {
            if all.len() >= SYMBOLS_LIMIT {
                return all;
            }
            all.push(place(file, &symbol.name));
            if let Some((from, name)) = &symbol.came_from {
                all.extend(changes.files.get(*from).map(|from| place(from, name)));
            }
        }
    }
    all
}

type Judge = fn(&Facts<'_>) -> Result<Vec<Signal>, Error>;

/// What the modules that are on say.
fn judge(facts: &Facts<'_>) -> Result<Vec<Signal>, Error> {
    let on = facts.settings;
    let modules: [(bool, Judge); Module::ALL.len()] = [
        (on.invariant_adjacency.enabled, invariant_adjacency::signals),
        (
            on.self_flagged_uncertainty.enabled,
            self_flagged_uncertainty::signals,
        ),
        (on.pattern_deviation.enabled, pattern_deviation::signals),
        (on.novelty.enabled, novelty::signals),
        (on.test_reachability.enabled, test_reachability::signals),
    ];
    let mut signals = Vec::new();
    for (_, judge) in modules.iter().filter(|(is_on, _)| *is_on) {
        signals.extend(judge(facts)?);
    }
    Ok(signals)
}

/// Orders signals by the priority of their kinds, those that only hooks know last, then by place; and
/// marks the first of the budget, one for each anchor.
fn put_in_order(signals: &mut [Signal]) {
    let priority = |kind: &str| {
        let place = Module::ALL.iter().position(|module| module.name() == kind);
        place.unwrap_or(Module::ALL.len())
    };
    // What is equal in all of this keeps its order, which is always the same.
    signals.sort_by_cached_key(|it| (priority(&it.kind), it.anchor.file.clone(), it.anchor.lines));
    let mut anchors = HashSet::new();
    let mut left = BUDGET;
    for signal in signals {
        signal.is_visible = left > 0 && anchors.insert(signal.anchor.clone());
        left -= u32::from(signal.is_visible);
    }
}
