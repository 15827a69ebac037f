//! Which modules are on, and from where on they raise a signal: `[review.signals]` of `config.toml`.

use serde::{Deserialize, Deserializer, de::Error as _};

/// The settings of every module.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `[review.signals.invariant_adjacency]`
    pub invariant_adjacency: InvariantAdjacency,
    /// `[review.signals.self_flagged_uncertainty]`
    pub self_flagged_uncertainty: SelfFlaggedUncertainty,
    /// `[review.signals.pattern_deviation]`
    pub pattern_deviation: PatternDeviation,
    /// `[review.signals.novelty]`
    pub novelty: Novelty,
    /// `[review.signals.test_reachability]`
    pub test_reachability: TestReachability,
}

/// What changed near an annotation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InvariantAdjacency {
    /// Whether it is on.
    pub enabled: bool,
    /// Whether annotations fire as well that only say why the code is as it is.
    pub rationale: bool,
}

/// What its author was not sure of.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelfFlaggedUncertainty {
    /// Whether it is on.
    pub enabled: bool,
    /// A confidence below this is a flag, from 0 to 1.
    #[serde(deserialize_with = "share")]
    pub confidence: f64,
}

/// What is built otherwise than its siblings, or than it was.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatternDeviation {
    /// Whether it is on.
    pub enabled: bool,
    /// Siblings that make a pattern.
    pub min_siblings: usize,
    /// The share of them that uses a name, from 0 to 1.
    #[serde(deserialize_with = "share")]
    pub share: f64,
    /// Names that a body used, for a rewrite of it to be told.
    pub min_names: usize,
    /// It was rewritten where a smaller share of the names is in both versions, from 0 to 1.
    #[serde(deserialize_with = "share")]
    pub similarity: f64,
}

/// What is built like nothing else here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Novelty {
    /// Whether it is on.
    pub enabled: bool,
    /// Lines that it has.
    pub min_lines: u32,
    /// Names that nothing else here uses or defines.
    pub min_names: usize,
    /// Their share of all names that it uses, from 0 to 1.
    #[serde(deserialize_with = "share")]
    pub share: f64,
}

/// What no test reaches.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestReachability {
    /// Whether it is on.
    pub enabled: bool,
    /// Calls from a test to it, at most.
    pub max_steps: usize,
}

impl Default for InvariantAdjacency {
    fn default() -> Self {
        Self {
            enabled: true,
            rationale: false,
        }
    }
}

impl Default for SelfFlaggedUncertainty {
    fn default() -> Self {
        Self {
            enabled: true,
            confidence: 0.5,
        }
    }
}

impl Default for PatternDeviation {
    fn default() -> Self {
        Self {
            enabled: true,
            min_siblings: 4,
            share: 0.75,
            min_names: 10,
            similarity: 0.2,
        }
    }
}

impl Default for Novelty {
    fn default() -> Self {
        Self {
            enabled: true,
            min_lines: 8,
            min_names: 5,
            share: 0.6,
        }
    }
}

impl Default for TestReachability {
    fn default() -> Self {
        Self {
            enabled: true,
            max_steps: 8,
        }
    }
}

fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let given = f64::deserialize(from)?;
    if (0.0..=1.0).contains(&given) {
        return Ok(given);
    }
    Err(D::Error::custom(format!(
        "a share is from 0 to 1, not {given}"
    )))
}
