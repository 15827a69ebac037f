//! Checkpoints: commits and branch moves that were made with plain Git, as entries of the operation
//! log. Git's reflogs are what is told, each move once, with its author and in order, also those
//! made while no daemon ran. Where Git keeps no reflogs, branches are compared with where they led.
//!
//! Nothing of Git's is ever written (G9), and a file that cannot be read stops nothing: it is tried
//! again when something else moves (G10).

mod begin;
mod branches;
mod follow;
mod look;
mod order;
mod place;
mod record;
mod stray;
mod tell;
mod words;

pub use follow::{Checkpoints, Following};

use crate::git::{Identity, StateId};

/// A commit or branch move, as the log is to have it.
#[derive(Debug, Clone)]
struct Checkpoint {
    /// When it was made, in seconds since the Unix epoch.
    secs: i64,
    /// The branch, where it is one that moved.
    thread: Option<String>,
    /// Where it led; for a branch that was deleted, where it was.
    state: Option<StateId>,
    /// Who made it.
    who: Identity,
    /// One line for people.
    summary: String,
}
