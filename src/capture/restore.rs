//! Restoring: the worktree, or some paths of it, become what a state holds. What is there is captured
//! first, so that nothing is lost. The rescue and the intent are committed, then the worktree is
//! changed, then the outcome is committed; a start finds an open intent and undoes it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::{
    Captures,
    chain::{add_to_chain, end_chain, end_chain_of_commit},
    look::{Look, moved},
    scanners::Held,
    snapshot::{Says, Snapshot, commit, paths},
    target::{Goal, Move, Target},
};
use crate::{
    failure::{Failure, Reason},
    git::{
        Change, CheckedOut, Checkout, CheckoutError, GitDir, IndexUpdate, ObjectBatch, ObjectId,
        Plan, RefMove, RepoPath, SavedIndex, StateId, check_out, shown_path,
    },
    mutation::{
        Caller, Entry, Gates, Intent, Mutation, Trace, Unfinished, Verb, blocking, now_secs,
        unprepared,
    },
    store::{StateRecord, WriteTx},
    thread::{Place, Thread},
};

/// The kind of intent that stands for a restore under way.
pub(super) const RESTORE: &str = "restore";

/// A restore under way, as it is written down before.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RestoreIntent {
    /// The worktree's root, in bytes.
    pub(super) root: Vec<u8>,
    /// The tree that the worktree had, in hex.
    pub(super) from: String,
    /// The tree that it is to have, in hex.
    pub(super) to: String,
    /// Paths that are as they are to be, in bytes: ignored files with the state's content.
    #[serde(default)]
    pub(super) there: Vec<Vec<u8>>,
    /// The index before and after, where it follows.
    pub(super) index: Option<SavedIndex>,
}

/// What is to be restored.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// A path in the worktree that is meant; empty for the main one.
    pub repo_path: String,
    /// Where to go.
    pub target: Target,
    /// Files and folders to restore, from the worktree's root; none means everything.
    pub paths: Vec<String>,
    /// Whether the index follows.
    pub update_index: bool,
}

/// What was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The state that the worktree has now.
    pub state: StateId,
    /// The state that holds what was there before.
    pub rescue: StateId,
    /// The worktree's thread.
    pub thread: String,
    /// What was written and removed.
    pub checked_out: CheckedOut,
    /// What changed, in order.
    pub changes: Arc<[Change]>,
    /// What was not the restore's to touch.
    pub left_alone: Vec<String>,
    /// Steps that can be undone and redone now.
    pub steps_left: (u32, u32),
}

/// Takes a worktree to a state.
pub struct RestoreState {
    captures: Arc<Captures>,
    asked: RestoreRequest,
    caller: Caller,
    gates: Gates,
    prepared: Option<Prepared>,
    done: Trace,
}

/// All that is known before anything is changed, and what keeps others away until it is published.
struct Prepared {
    rescue: Snapshot,
    goal: Goal,
    /// The change id of a state of its own, where only some paths are restored.
    grafted: Option<String>,
    plan: Plan,
    /// The tree that the worktree has then: the goal's, but for what is left alone.
    reached: ObjectId,
    changes: Arc<[Change]>,
    index: Option<IndexUpdate>,
    /// What was done; it can be taken back until the outcome is committed.
    checkout: Option<Checkout>,
    checked_out: CheckedOut,
    /// Earlier restores of the worktree that had stayed half done, and were undone now.
    ended: Vec<i64>,
    held: Held,
    _thread: OwnedMutexGuard<()>,
}

impl RestoreState {
    /// The change that restores what is asked for. No gate is asked: hooks must not keep what is
    /// there from being rescued, nor anybody from going back.
    pub fn new(
        captures: Arc<Captures>,
        asked: RestoreRequest,
        caller: Caller,
        gates: Gates,
    ) -> Self {
        Self {
            captures,
            asked,
            caller,
            gates,
            prepared: None,
            done: Trace::default(),
        }
    }

    fn prepared(&self) -> Result<&Prepared, Failure> {
        self.prepared.as_ref().ok_or_else(unprepared)
    }

    /// What the summary calls the way that is gone.
    fn way(&self, goal: &Goal) -> String {
        let state = goal.state.short();
        let steps = |n: u32| {
            if n == 1 {
                "1 step".to_owned()
            } else {
                format!("{n} steps")
            }
        };
        match goal.step {
            Some(Move::Back(n)) => format!("undid {}, to {state}", steps(n)),
            Some(Move::Forth(n)) => format!("redid {}, to {state}", steps(n)),
            None if self.asked.paths.is_empty() => format!("restored {state}"),
            None => format!("restored {} of {state}", paths(self.asked.paths.len())),
        }
    }
}

/// Prepares a restore: the rescue's objects, the plan, the index that is to be. Blocks.
fn prepare(
    captures: &Captures,
    place: Place,
    mut held: Held,
    thread: OwnedMutexGuard<()>,
    asked: &RestoreRequest,
    caller: &Caller,
) -> Result<Prepared, Failure> {
    let says = Says {
        actor: caller.actor.clone(),
        agent: caller.agent.clone(),
        intent: "Before a restore".to_owned(),
        confidence: None,
    };
    let root = place.worktree.root.clone();
    let wanted = asked
        .paths
        .iter()
        .map(|path| RepoPath::parse(&root, path))
        .collect::<Result<Vec<_>, _>>()?;
    let git = captures.places.git_of(&place.worktree)?;
    let ended = captures.undo_unfinished(&place.worktree)?;
    let rescue = Snapshot::take(captures, place.clone(), &mut held, None, &says)?;
    let mut goal = asked.target.resolve(captures, &git, &rescue.look)?;
    let grafted = if wanted.is_empty() {
        None
    } else {
        check_paths(&git, [rescue.look.tree, goal.tree], &wanted)?;
        graft(&git, &rescue, &mut goal, &wanted, says)?
    };
    let scanner = held.scanner()?;
    let mut plan = Plan::new(&git, scanner, rescue.look.tree, goal.tree)?;
    let reached = if plan.left_alone.is_empty() {
        goal.tree
    } else {
        ObjectBatch::new(&git).graft(rescue.look.tree, &plan.changes)?
    };
    plan.pass_over_what_is_there(scanner)?;
    let index = if asked.update_index {
        let update = IndexUpdate::prepare(
            captures.places.repository(),
            &place.worktree,
            goal.tree,
            &wanted,
        )?;
        Some(update)
    } else {
        None
    };
    Ok(Prepared {
        changes: plan.changes.clone().into(),
        rescue,
        goal,
        grafted,
        plan,
        reached,
        index,
        checkout: None,
        checked_out: CheckedOut::default(),
        ended,
        held,
        _thread: thread,
    })
}

/// Refuses a path that is nowhere.
pub(super) fn check_paths(
    git: &GitDir,
    trees: [ObjectId; 2],
    wanted: &[RepoPath],
) -> Result<(), Failure> {
    match git.unknown_path(trees, wanted)? {
        None => Ok(()),
        Some(path) => Err(Failure::field(
            Reason::PathUnknown,
            "paths",
            format!(
                "there is no {:?} on either side; name a file or folder that one of them has",
                shown_path(path.as_bstr())
            ),
        )),
    }
}

/// Only some paths are restored: the goal becomes a state of its own, which comes after the rescue;
/// answers its change id, unless nothing changes.
fn graft(
    git: &GitDir,
    rescue: &Snapshot,
    goal: &mut Goal,
    wanted: &[RepoPath],
    says: Says,
) -> Result<Option<String>, Failure> {
    let objects = ObjectBatch::new(git);
    let changes = git.diff(rescue.look.tree, goal.tree, wanted)?;
    goal.tree = objects.graft(rescue.look.tree, &changes)?;
    if goal.tree == rescue.look.tree {
        goal.state = rescue.state;
        return Ok(None);
    }
    let says = Says {
        intent: format!("Restore {} of {}", paths(wanted.len()), goal.state),
        ..says
    };
    let thread = &rescue.look.place.thread;
    let (state, change_id) = commit(&objects, goal.tree, Some(rescue.state), thread, &says)?;
    objects.finish().map_err(|e| Failure::from(&e))?;
    goal.state = state;
    Ok(Some(change_id))
}

impl Prepared {
    /// Changes the worktree, and the index where it follows. Blocks.
    fn act(&mut self) -> Result<(), Unfinished> {
        let scanner = self.held.scanner()?;
        let checkout = check_out(scanner, &self.plan);
        let checkout = checkout.map_err(|error| Unfinished {
            undone: !matches!(error, CheckoutError::NotUndone { .. }),
            failure: error.into(),
        })?;
        self.checked_out = checkout.counts().clone();
        self.checkout = Some(checkout);
        let Some(index) = &mut self.index else {
            return Ok(());
        };
        let Err(error) = index.install() else {
            return Ok(());
        };
        let failure = Failure::from(error);
        match self.take_back() {
            Ok(()) => Err(failure.into()),
            Err(left) => {
                tracing::error!("a restore could not be undone: {left}");
                let undone = false;
                Err(Unfinished { failure, undone })
            }
        }
    }

    /// Puts back what was changed. Blocks.
    fn take_back(&mut self) -> Result<(), Failure> {
        if let Some(checkout) = self.checkout.take() {
            checkout
                .take_back()
                .map_err(|left| Failure::new(Reason::WorktreeChanged, left))?;
        }
        if let Some(index) = self.index.take() {
            index.saved().take_back()?;
            index.discard();
        }
        Ok(())
    }

    fn intent(&self) -> RestoreIntent {
        let worktree = self.held.worktree();
        RestoreIntent {
            root: worktree.key().to_vec(),
            from: self.plan.from.to_string(),
            to: self.plan.to.to_string(),
            there: self.plan.there.iter().map(|path| path.to_vec()).collect(),
            index: self.index.as_ref().map(|index| index.saved().clone()),
        }
    }

    /// Commits that the worktree has another state now.
    fn apply(&self, tx: &WriteTx<'_>, trace: &mut Trace) -> Result<Thread, Failure> {
        let (rescue, goal) = (&self.rescue, &self.goal);
        let Look { place, head, .. } = &rescue.look;
        let name = &place.thread;
        let known = tx.reads().thread(name.as_str())?;
        let mut thread = known.unwrap_or_else(|| Thread::new(name, now_secs()));
        end_chain_of_commit(tx, name, &mut thread, *head, trace)?;
        let current = thread.current_state.as_deref();
        if current.is_some_and(|current| current != rescue.state.as_bytes()) {
            return Err(moved(name));
        }
        let now = now_secs();
        if let Some(change_id) = &self.grafted {
            let grafted = StateRecord {
                state_id: goal.state.to_vec(),
                chain: 0,
                parent: Some(rescue.state.to_vec()),
                tree: goal.tree.as_bytes().to_vec(),
                thread: thread.name.clone(),
                change_id: change_id.clone(),
                captured_secs: now,
            };
            add_to_chain(tx, &mut thread, grafted)?;
        } else if goal.state != rescue.state {
            end_chain(tx, name, &mut thread, trace)?;
            thread.current_state = Some(goal.state.to_vec());
        }
        let base = rescue.look.newest.map(|(state, _)| state.to_vec());
        thread.base_state = thread.base_state.take().or(base);
        thread.conflicted = false;
        thread.active_secs = now;
        tx.put_thread(&thread)?;
        trace.refs.push(RefMove::to(name.reference(), goal.state));
        self.step(tx)?;
        Ok(thread)
    }

    fn step(&self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        let (goal, line) = (&self.goal, self.rescue.look.place.line());
        let reads = tx.reads();
        let step = match goal.step {
            Some(Move::Back(n)) => reads.step_back(line, n)?,
            Some(Move::Forth(n)) => reads.step_forth(line, n)?,
            None => None,
        };
        match step.filter(|step| step.state_id == goal.state.as_bytes() && self.grafted.is_none()) {
            Some(step) => tx.return_to(line, step.id, self.reached.as_bytes())?,
            // Nothing to go back from.
            None if goal.tree == self.rescue.look.tree => {}
            None => tx.take_step(line, goal.state.as_bytes(), self.reached.as_bytes())?,
        }
        Ok(())
    }
}

impl Mutation for RestoreState {
    type Output = Restored;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let here = &self.asked.repo_path;
        let (place, thread, held) = self.captures.enter(here, "", &self.gates).await?;
        let captures = Arc::clone(&self.captures);
        let (asked, caller) = (self.asked.clone(), self.caller.clone());
        let prepared =
            blocking(move || prepare(&captures, place, held, thread, &asked, &caller)).await?;
        self.prepared = Some(prepared);
        Ok(())
    }

    fn intent(&self) -> Option<Intent> {
        let prepared = self.prepared.as_ref()?;
        Some(Intent::new(RESTORE, &prepared.intent()))
    }

    fn before(&mut self, tx: &WriteTx<'_>) -> Result<Trace, Failure> {
        let prepared = self.prepared()?;
        let (_, trace) = prepared.rescue.apply(tx)?;
        for id in &prepared.ended {
            tx.end_intent(*id)?;
        }
        Ok(trace)
    }

    async fn act(&mut self) -> Result<(), Unfinished> {
        let mut prepared = self.prepared.take().ok_or_else(unprepared)?;
        let (prepared, acted) = blocking(move || {
            let acted = prepared.act();
            Ok((prepared, acted))
        })
        .await
        .map_err(|failure| Unfinished {
            failure,
            undone: false,
        })?;
        self.prepared = Some(prepared);
        acted
    }

    async fn undo(&mut self) -> Result<(), Failure> {
        let mut prepared = self.prepared.take().ok_or_else(unprepared)?;
        blocking(move || prepared.take_back()).await
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Restored, Failure> {
        let prepared = self.prepared()?;
        let mut trace = Trace::default();
        let thread = prepared.apply(tx, &mut trace)?;
        let goal = &prepared.goal;
        trace.entry = Some(Entry {
            thread: Some(thread.name.clone()),
            state_id: Some(goal.state.to_vec()),
            ..Entry::new(Verb::Goto, self.way(goal))
        });
        let restored = Restored {
            state: goal.state,
            rescue: prepared.rescue.state,
            thread: thread.name,
            checked_out: prepared.checked_out.clone(),
            changes: Arc::clone(&prepared.changes),
            left_alone: prepared.plan.left_alone.clone(),
            steps_left: tx.reads().steps_left(prepared.rescue.look.place.line())?,
        };
        self.done = trace;
        Ok(restored)
    }

    fn describe(&self, _: &Restored) -> Option<Entry> {
        self.done.entry.clone()
    }

    fn refs(&self, _: &Restored) -> Vec<RefMove> {
        self.done.refs.clone()
    }

    fn publish(&mut self, _: &Restored) {
        let Some(prepared) = &mut self.prepared else {
            return;
        };
        if let Some(checkout) = prepared.checkout.take() {
            checkout.keep();
        }
        if let Some(index) = prepared.index.take() {
            index.discard();
        }
    }
}
