//! What discussions came to say about the code, and where that code is at a state.

use super::{
    anchor::Looking,
    queries::{opened_at, seen},
};
use crate::{
    deadline::Deadline,
    failure::Failure,
    git::{GitDir, LinesTo, StateId},
    store::AnnotationRecord,
    symbol::{Index, SymbolRef},
    thread::Places,
};

/// Annotations that are followed for one answer: the newest (G8).
pub const FOLLOWED: u32 = 500;

/// An annotation, and where what it is about is at a state.
#[derive(Debug, Clone)]
pub struct Annotation {
    /// It.
    pub record: AnnotationRecord,
    /// Where that is, or was last.
    pub anchor: SymbolRef,
    /// Whether it was there in the state before.
    pub was: bool,
    /// Whether it is there.
    pub is: bool,
}

/// The annotations of a repository as they look at a state, oldest first, and whether these are all:
/// those that could not be looked at by the deadline are missing. What was nowhere, neither there nor at
/// `prior`, is left out. Blocks.
///
/// # Errors
/// When Git or the store cannot be read.
pub fn annotations(
    places: &Places,
    index: &Index,
    git: &GitDir,
    at: StateId,
    prior: Option<StateId>,
    deadline: &Deadline,
) -> Result<(Vec<Annotation>, bool), Failure> {
    let mut records = places.store().read(|tx| tx.annotations(FOLLOWED + 1))?;
    let are_all = records.len() <= FOLLOWED as usize;
    if !are_all {
        records.remove(0);
    }
    let looking = Looking {
        git,
        outlines: index.outlines(),
        deadline: deadline.clone(),
    };
    let mut before = prior.map(|prior| LinesTo::new(git, prior));
    let mut now = LinesTo::new(git, at);
    let mut found = Vec::new();
    for record in records {
        let anchor = SymbolRef {
            file: record.file.clone(),
            symbol: record.symbol.clone(),
        };
        let made = opened_at(&record.state_id, record.id)?;
        let is = seen(&looking, anchor.clone(), made, &mut now)?;
        let was = match &mut before {
            Some(lines) => !seen(&looking, anchor, made, lines)?.orphaned,
            None => false,
        };
        // What was cut short says nothing.
        if deadline.is_over() {
            return Ok((found, false));
        }
        if was || !is.orphaned {
            found.push(Annotation {
                record,
                anchor: is.anchor,
                was,
                is: !is.orphaned,
            });
        }
    }
    Ok((found, are_all))
}
