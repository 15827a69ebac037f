//! The signals of a state.

use std::{sync::Arc, time::Instant};

use super::Signal;
use crate::{failure::Failure, git::StateId, symbol::Index, thread::Places};

/// Computes signals.
pub struct Signals {
    _places: Arc<Places>,
    _index: Arc<Index>,
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
            _places: places,
            _index: index,
        }
    }

    /// The signals of a state, compared with `prior`, else with its first parent, else with nothing.
    /// Waits for the index until then at most. Blocks.
    ///
    /// # Errors
    /// When an object or the store cannot be read.
    pub fn of(
        &self,
        _state: StateId,
        _prior: Option<StateId>,
        _until: Option<Instant>,
    ) -> Result<Computed, Failure> {
        Ok(Computed::default())
    }
}
