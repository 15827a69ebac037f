//! What is told of the lines that a look has found: each move once, with its words, in order.

use std::{
    cell::OnceCell,
    collections::{HashMap, VecDeque},
    mem,
};

use super::{
    Checkpoint,
    look::{Lines, Look, Looking, Told},
    order::{Last, Moves},
    place::Place,
};
use crate::{
    git::{LineId, LogName, ReflogLine, StateId, Worktree},
    thread::Places as Threads,
};

impl Looking<'_> {
    /// What there is to tell; `unpaired` are the branches' lines that were told before, and that no
    /// HEAD's log had then.
    pub(super) fn put_in_order(mut self, unpaired: &[Vec<u8>]) -> Look {
        let mut moves = Moves::new();
        let shared = self.add_heads(&mut moves, unpaired);
        self.add_branches(&mut moves, &shared);
        self.add_unlogged(&mut moves);
        self.look.told = moves.in_order();
        self.look
    }

    /// The lines of HEADs' logs; answers which of the branches' lines are the same moves.
    fn add_heads(&mut self, moves: &mut Moves<Told>, unpaired: &[Vec<u8>]) -> Shared {
        let told = unpaired.iter().filter_map(|line| LineId::from_bytes(line));
        let mut told: Vec<LineId> = told.collect();
        let unread = !self.look.again.is_empty();
        let mut of_branches = self.lines_of_branches();
        let mut shared = Shared::new();
        for Lines { name, lines } in mem::take(&mut self.heads) {
            let mut last = Last::default();
            let (threads, thread) = (self.threads, OnceCell::new());
            let thread = || {
                thread
                    .get_or_init(|| thread_off_branch(threads, &name))
                    .as_deref()
            };
            for (at, line) in lines.iter().enumerate() {
                let same = of_branches.get_mut(&line.id).and_then(VecDeque::pop_front);
                if same.is_none() {
                    if let Some(known) = told.iter().position(|told| *told == line.id) {
                        self.look.paired.push(told.remove(known));
                        continue;
                    }
                    // It may be the move of a branch whose log was not written yet, or not read.
                    let may_be_shared = at + 1 == lines.len() && self.held.contains(&name);
                    if may_be_shared || unread {
                        self.hold_back(&name, at.checked_sub(1).map(|at| &lines[at]));
                        break;
                    }
                    if !is_told_of_head(line) {
                        continue;
                    }
                }
                let checkpoint = same
                    .is_none()
                    .then(|| Checkpoint::of(&name, line, thread()));
                let node = moves.add(line.secs, Told::new(&name, line, checkpoint));
                moves.follows(&mut last, node);
                shared.extend(same.map(|same| (same, node)));
            }
        }
        shared
    }

    fn lines_of_branches(&self) -> HashMap<LineId, VecDeque<(usize, usize)>> {
        let mut found: HashMap<LineId, VecDeque<_>> = HashMap::new();
        for (branch, Lines { lines, .. }) in self.branches.iter().enumerate() {
            for (at, line) in lines.iter().enumerate() {
                found.entry(line.id).or_default().push_back((branch, at));
            }
        }
        found
    }

    fn add_branches(&self, moves: &mut Moves<Told>, shared: &Shared) {
        for (branch, Lines { name, lines }) in self.branches.iter().enumerate() {
            let mut last = Last::default();
            let names = names_then(name, lines);
            for (at, (line, then)) in lines.iter().zip(&names).enumerate() {
                let checkpoint = is_told(line).then(|| Checkpoint::of(then, line, None));
                let mut told = Told::new(name, line, checkpoint);
                let node = match shared.get(&(branch, at)) {
                    Some(node) => {
                        let head = moves.get(*node);
                        head.checkpoint = told.checkpoint;
                        head.reached.append(&mut told.reached);
                        *node
                    }
                    None => {
                        told.unpaired = Some(line.id);
                        moves.add(line.secs, told)
                    }
                };
                moves.follows(&mut last, node);
            }
        }
    }

    /// A HEAD's log ends before a line of which it is not known yet whose move it is, for now.
    fn hold_back(&mut self, name: &LogName, before: Option<&ReflogLine>) {
        self.look.ends.retain(|end| end.name != name.as_bytes());
        if let Some(before) = before {
            self.end(name, Place::at(before.new, Some(before.mark)));
        }
        self.look_again(name);
    }

    fn add_unlogged(&self, moves: &mut Moves<Told>) {
        if self.unlogged.is_empty() {
            return;
        }
        let ids = self.unlogged.iter().flat_map(|one| [one.old(), one.new]);
        let ids: Vec<StateId> = ids.flatten().collect();
        let commits = self.logs.commits(&ids);
        let commits: HashMap<StateId, _> = ids.into_iter().zip(commits).collect();
        let commit = |id: Option<StateId>| commits.get(&id?).cloned().flatten();
        for one in &self.unlogged {
            let (name, old) = (&one.name, one.old());
            let (checkpoint, place) = match (one.new, one.before, old) {
                (Some(new), ..) => {
                    let (before, after) = (commit(old), commit(Some(new)));
                    let checkpoint = Checkpoint::moved(name, (old, before), (new, after));
                    (checkpoint, Place::at(Some(new), None))
                }
                (None, Some(place), Some(old)) => (Checkpoint::deleted(name, old), place.gone()),
                (None, ..) => continue,
            };
            let told = Told {
                reached: vec![place.record(name)],
                unpaired: None,
                checkpoint: Some(checkpoint),
            };
            let secs = told.checkpoint.as_ref().map_or(0, |told| told.secs);
            moves.add(secs, told);
        }
    }
}

/// Lines of branches, by branch and place, and the moves of HEADs that they are.
type Shared = HashMap<(usize, usize), usize>;

impl Told {
    fn new(name: &LogName, line: &ReflogLine, checkpoint: Option<Checkpoint>) -> Self {
        let place = Place::at(line.new, Some(line.mark));
        Self {
            checkpoint,
            reached: vec![place.record(name)],
            unpaired: None,
        }
    }
}

/// The thread of commits that are on no branch. They are told without one where it is not known.
fn thread_off_branch(threads: &Threads, head: &LogName) -> Option<String> {
    let worktrees = threads.repository().worktrees();
    let worktrees = worktrees.inspect_err(|e| tracing::warn!("worktrees cannot be read: {e}"));
    let of_head = |worktree: &Worktree| head.is_head_of(worktree);
    let worktree = worktrees.ok()?.into_iter().find(of_head)?;
    let thread = threads.thread_off_branch(&worktree);
    let thread = thread.inspect_err(|e| tracing::warn!("the thread of {head} is unknown: {e}"));
    Some(thread.ok()??.to_string())
}

/// What a branch was called at each line of its log.
fn names_then(name: &LogName, lines: &[ReflogLine]) -> Vec<LogName> {
    let mut then = name.clone();
    let mut names: Vec<LogName> = lines
        .iter()
        .rev()
        .map(|line| match line.taken() {
            Some((from, to)) => {
                then = from;
                to
            }
            None => then.clone(),
        })
        .collect();
    names.reverse();
    names
}

/// Whether a line of a branch's log is a move.
fn is_told(line: &ReflogLine) -> bool {
    line.old != line.new || line.taken().is_some()
}

/// Whether a line of HEAD's log that no branch has is more than a checkout. (A worktree that begins,
/// and a branch that is renamed under it, have no commit before or after.)
fn is_told_of_head(line: &ReflogLine) -> bool {
    let (action, _) = line.action();
    let is_checkout = action == "checkout"
        || ["(start)", "(finish)", "(abort)"]
            .iter()
            .any(|end| action.ends_with(end));
    line.old.is_some() && line.new.is_some() && line.old != line.new && !is_checkout
}
