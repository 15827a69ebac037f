//! Where a restore goes: a state that is named, or a step of the worktree's own history.

use super::{Captures, look::Look};
use crate::{
    failure::{Failure, Reason},
    git::{GitDir, ObjectId, StateId},
    store::Step,
    thread::{Place, state_named},
};

/// Where a caller wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The newest state.
    Newest,
    /// What this names.
    State(String),
    /// So many steps back.
    Undo(u32),
    /// So many undone steps forth.
    Redo(u32),
}

/// Where a restore goes.
#[derive(Debug, Clone)]
pub(super) struct Goal {
    pub(super) state: StateId,
    pub(super) tree: ObjectId,
    /// The step of the worktree's history that it is, if it goes to one.
    pub(super) step: Option<Move>,
}

/// A move in a worktree's history, from the newest step on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    Back(u32),
    Forth(u32),
}

impl Target {
    /// What it means in a worktree with this content. Blocks.
    pub(super) fn resolve(
        &self,
        captures: &Captures,
        git: &GitDir,
        now: &Look,
    ) -> Result<Goal, Failure> {
        match self {
            Self::Newest => {
                let (state, tree) = now.newest.ok_or_else(|| {
                    Failure::new(
                        Reason::StateUnknown,
                        "there is no state to go to yet; `heddle capture` makes the first",
                    )
                })?;
                Ok(Goal {
                    state,
                    tree,
                    step: None,
                })
            }
            Self::State(name) => state(captures, git, name),
            Self::Undo(steps) => undo(captures, git, now, *steps),
            Self::Redo(steps) => redo(captures, git, now, *steps),
        }
    }

    /// What it means whatever the worktree has: only a state that is named means something then.
    pub(super) fn resolve_apart(&self, captures: &Captures, git: &GitDir) -> Result<Goal, Failure> {
        match self {
            Self::State(name) => state(captures, git, name),
            _ => Err(Failure::field(
                Reason::InvalidField,
                "target",
                "with from_tree, the target must be a state: give that of the answer before",
            )),
        }
    }
}

fn state(captures: &Captures, git: &GitDir, name: &str) -> Result<Goal, Failure> {
    let state = state_named(&captures.places, git, name, "target.state")?;
    Ok(Goal {
        state,
        tree: git.tree_of(state)?,
        step: None,
    })
}

fn undo(captures: &Captures, git: &GitDir, now: &Look, steps: u32) -> Result<Goal, Failure> {
    if steps == 0 {
        return Err(no_step_asked("undo"));
    }
    let place = &now.place;
    let (newest, earlier) = captures.places.store().read(|tx| {
        let pending = now.pending(tx)?;
        let ahead = u32::from(pending.newest) + u32::from(pending.present);
        // The present content is the last step, whether it is written down yet or not.
        Ok(match steps.checked_sub(ahead) {
            Some(back) => (None, tx.step_back(place.line(), back)?),
            None => (now.newest, None),
        })
    })?;
    let goal = match newest {
        Some(newest) => Some(newest),
        None => earlier.map(|step| place_of(&step, git)).transpose()?,
    };
    let (state, tree) = goal.ok_or_else(|| nothing("undo", steps, place))?;
    Ok(Goal {
        state,
        tree,
        step: Some(Move::Back(steps)),
    })
}

fn redo(captures: &Captures, git: &GitDir, now: &Look, steps: u32) -> Result<Goal, Failure> {
    if steps == 0 {
        return Err(no_step_asked("redo"));
    }
    let place = &now.place;
    let (changed, later) = captures.places.store().read(|tx| {
        let pending = now.pending(tx)?;
        let later = tx.step_forth(place.line(), steps)?;
        Ok((pending.newest || pending.present, later))
    })?;
    if later.is_some() && changed {
        return Err(Failure::new(
            Reason::NothingToUndo,
            "the worktree was changed since the last undo, so there is nothing to redo; `heddle log` shows the states, and `heddle restore` goes to any of them",
        ));
    }
    let later = later.ok_or_else(|| nothing("redo", steps, place))?;
    let (state, tree) = place_of(&later, git)?;
    Ok(Goal {
        state,
        tree,
        step: Some(Move::Forth(steps)),
    })
}

fn place_of(step: &Step, git: &GitDir) -> Result<(StateId, ObjectId), Failure> {
    let damaged = || {
        Failure::new(
            Reason::StoreCorrupt,
            "a step of the worktree's history is damaged; run `heddle doctor`",
        )
    };
    let state = StateId::from_bytes(&step.state_id).ok_or_else(damaged)?;
    Ok((state, git.tree_of(state)?))
}

fn no_step_asked(what: &str) -> Failure {
    Failure::field(
        Reason::InvalidField,
        "target",
        format!("to {what} 0 steps would do nothing; give 1 or more"),
    )
}

fn nothing(what: &str, steps: u32, place: &Place) -> Failure {
    let steps = if steps == 1 {
        "is nothing".to_owned()
    } else {
        format!("are no {steps} steps")
    };
    Failure::new(
        Reason::NothingToUndo,
        format!(
            "there {steps} to {what} on thread `{}` in {}; `heddle log` shows the states, and `heddle restore` goes to any of them",
            place.thread,
            place.worktree.root.display()
        ),
    )
}
