//! Signals: places in a change that a reviewer does well to look at first, found in the code of two
//! states and never by running it.

mod captures;
mod compute;
mod extra;
mod facts;
mod follow;
mod invariant_adjacency;
mod novelty;
mod pattern_deviation;
mod record;
mod self_flagged_uncertainty;
mod settings;
mod test_reachability;

use serde::{Deserialize, Serialize};

pub use compute::{Computed, Signals};
pub use facts::MODULE_LIMIT;
pub use follow::{FollowSignals, Health, Rate, SignalUpdate, WINDOW, WINDOW_LIMIT, health, window};
pub use settings::Settings;

/// Signals of a state that are shown unasked: one for each anchor.
pub const BUDGET: u32 = 3;

/// A reason to look at a place in the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// What sort of risk: one of [`Module`]'s, or what a hook called it.
    pub kind: String,
    /// Where.
    pub anchor: Anchor,
    /// Why it was raised, and what to do, for people.
    pub reason: String,
    /// Who raised it: a module, or `hook:` and the name of the hook.
    pub producer: String,
    /// The version of the producer's rule.
    pub version: u32,
    /// Whether it is within the budget.
    pub is_visible: bool,
}

/// A place in the code.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Anchor {
    /// Path from the repository's root; empty for the whole change.
    pub file: String,
    /// Its name, with those of what it lies in; empty for the whole file.
    pub symbol: String,
    /// The first and the last line, from 1, in the newer state; zeros where there are none.
    pub lines: (u32, u32),
}

/// The modules that raise signals, in order of priority. Each raises one kind, of its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    /// What changed is near something that an annotation says must hold.
    InvariantAdjacency,
    /// Its author was not sure.
    SelfFlaggedUncertainty,
    /// It is built otherwise than its siblings, or than it was.
    PatternDeviation,
    /// It is built like nothing else here.
    Novelty,
    /// No test reaches it.
    TestReachability,
}

impl Module {
    /// All of them, in order of priority.
    pub const ALL: [Self; 5] = [
        Self::InvariantAdjacency,
        Self::SelfFlaggedUncertainty,
        Self::PatternDeviation,
        Self::Novelty,
        Self::TestReachability,
    ];

    /// Its name on the wire, and that of the kind that it raises.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvariantAdjacency => "invariant_adjacency",
            Self::SelfFlaggedUncertainty => "self_flagged_uncertainty",
            Self::PatternDeviation => "pattern_deviation",
            Self::Novelty => "novelty",
            Self::TestReachability => "test_reachability",
        }
    }
}
