//! A worktree's content as a state: first prepared, with durable objects (G4), then committed.

use gix::ObjectId;
use jiff::{Timestamp, tz::TimeZone};

use super::{Captured, Captures, scanners::Held};
use crate::{
    failure::{Failure, Reason},
    git::{
        Change, CommitText, GitDir, Identity, LeftOut, ObjectBatch, RefMove, ScanOptions, StateId,
        diff_trees, new_change_id,
    },
    mutation::{Trace, Verb, now_secs},
    store::{StateRecord, WriteTx},
    thread::{Place, Thread, ThreadName},
};

/// What is said of a state.
#[derive(Debug, Clone)]
pub(super) struct Says {
    /// Who captures.
    pub(super) actor: Identity,
    /// The agent that acts for them: `provider/model`.
    pub(super) agent: Option<String>,
    /// What the change is meant to do.
    pub(super) intent: String,
    /// How sure its author is of it, from 0 to 1.
    pub(super) confidence: Option<f32>,
}

/// A worktree's content, prepared.
pub(super) struct Snapshot {
    place: Place,
    head: Option<StateId>,
    /// The thread as it was when the content was taken.
    seen: Option<Thread>,
    pub(super) parent: Option<(StateId, ObjectId)>,
    pub(super) state: StateId,
    pub(super) tree: ObjectId,
    /// The new state's change id; `None` when nothing had changed.
    fresh: Option<String>,
    pub(super) changes: Vec<Change>,
    pub(super) left_out: Vec<LeftOut>,
    unmerged: bool,
    summary: String,
    confidence: Option<f32>,
}

impl Snapshot {
    /// Takes the content of the worktree that `held` is for. Blocks; nothing refers to it yet.
    pub(super) fn take(
        captures: &Captures,
        place: Place,
        held: &mut Held,
        says: &Says,
    ) -> Result<Self, Failure> {
        let git = captures.places.git_of(&place.worktree)?;
        let head = git.head()?.commit;
        let seen = captures.places.store().read(|tx| tx.thread(place.thread.as_str()))?;
        let parent = parent_of(seen.clone(), head);
        let parent = match parent {
            Some(state) => Some((state, git.tree_of(state)?)),
            None => None,
        };
        let scanner = held.scanner()?;
        let objects = ObjectBatch::new(scanner.git());
        let options = ScanOptions {
            size_guard: captures.size_guard(),
            looked_at: None,
        };
        let mut scanned = scanner.scan(&objects, options)?;
        let left_out = std::mem::take(&mut scanned.left_out);
        let (tree, unmerged) = (scanned.tree, scanned.unmerged);
        let same = parent.filter(|(_, before)| *before == tree);
        let (state, fresh) = match same {
            Some((state, _)) => (state, None),
            None => {
                let parent = parent.map(|(state, _)| state);
                let (state, change_id) = commit(&git, &objects, tree, parent, &place, says)?;
                objects.finish().map_err(|e| Failure::from(&e))?;
                (state, Some(change_id))
            }
        };
        scanner.settle(scanned);
        let before = parent.map_or_else(|| ObjectId::empty_tree(tree.kind()), |(_, tree)| tree);
        let changes = diff_trees(&git.local(), before, tree, &[])?;
        Ok(Self {
            summary: summary_of(&says.intent, changes.len(), parent.is_some()),
            confidence: says.confidence,
            place,
            head,
            seen,
            parent,
            state,
            tree,
            fresh,
            changes,
            left_out,
            unmerged,
        })
    }

    /// Whether there is a new state, or the one from before still holds.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.is_some()
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn head(&self) -> Option<StateId> {
        self.head
    }

    /// Commits it: the state, its chain, the thread's new tip, the worktree's step.
    pub(super) fn apply(&self, tx: &WriteTx<'_>) -> Result<(Captured, Trace), Failure> {
        let name = &self.place.thread;
        let key = self.place.worktree.key();
        let known = tx.reads().thread(name.as_str())?;
        if tip(known.as_ref()) != tip(self.seen.as_ref()) {
            return Err(moved(name));
        }
        if tx.reads().thread_of_worktree(key)?.as_deref() != Some(name.as_str()) {
            tx.put_thread_of_worktree(key, name.as_str())?;
        }
        let mut thread = known.unwrap_or_else(|| Thread::new(name, now_secs()));
        let mut trace = Trace::default();
        if let Some(change_id) = &self.fresh {
            self.advance(tx, &mut thread, change_id, &mut trace)?;
        }
        self.step(tx)?;
        let captured = Captured {
            thread: thread.name.clone(),
            coordination_status: thread.coordination_status(),
            state: self.state,
            parent: self.parent.map(|(state, _)| state),
            unchanged: self.fresh.is_none(),
            changed_paths: u32::try_from(self.changes.len()).unwrap_or(u32::MAX),
            left_out: self.left_out.clone(),
        };
        Ok((captured, trace))
    }

    fn advance(
        &self,
        tx: &WriteTx<'_>,
        thread: &mut Thread,
        change_id: &str,
        trace: &mut Trace,
    ) -> Result<(), Failure> {
        let name = &self.place.thread;
        let head = self.head.map(StateId::to_vec);
        let parent = self.parent.map(|(state, _)| state.to_vec());
        if thread.current_state != parent || thread.chain_head != head {
            end_chain(tx, name, thread, trace)?;
        }
        let chain = match thread.chain {
            Some(chain) => chain,
            None => tx.begin_chain(name.as_str())?,
        };
        let now = now_secs();
        add_state(tx, chain, self, parent.clone(), change_id, now)?;
        thread.chain = Some(chain);
        thread.chain_head = head;
        thread.base_state = thread.base_state.take().or(parent);
        thread.current_state = Some(self.state.to_vec());
        thread.conflicted = self.unmerged;
        thread.confidence = self.confidence.map(f64::from);
        thread.captured_secs = Some(now);
        thread.active_secs = now;
        tx.put_thread(thread)?;
        trace.refs.push(RefMove::to(name.reference(), self.state));
        trace.entry = Some(crate::mutation::Entry {
            thread: Some(thread.name.clone()),
            state_id: Some(self.state.to_vec()),
            ..crate::mutation::Entry::new(Verb::Snapshot, self.summary.clone())
        });
        Ok(())
    }

    /// The worktree stands at this state; before it, at the one that it came after.
    fn step(&self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        let key = self.place.worktree.key();
        for (state, tree) in self.pending_steps(&tx.reads())? {
            tx.take_step(key, state.as_bytes(), tree.as_bytes())?;
        }
        Ok(())
    }

    /// The steps that are yet to be taken, in their order.
    pub(super) fn pending_steps(
        &self,
        tx: &crate::store::ReadTx<'_>,
    ) -> Result<Vec<(StateId, ObjectId)>, Failure> {
        let current = tx.current_step(self.place.worktree.key())?;
        let mut at = current.map(|step| step.tree);
        let mut pending = Vec::new();
        for (state, tree) in self.parent.into_iter().chain([(self.state, self.tree)]) {
            if at.as_deref() != Some(tree.as_bytes()) {
                pending.push((state, tree));
                at = Some(tree.as_bytes().to_vec());
            }
        }
        Ok(pending)
    }
}

/// What a capture depends on: it is refused when that was changed meanwhile.
fn tip(thread: Option<&Thread>) -> Option<(&Option<Vec<u8>>, Option<i64>, &Option<Vec<u8>>)> {
    thread.map(|thread| (&thread.current_state, thread.chain, &thread.chain_head))
}

/// The state that a capture comes after: the tip of the chain under way, else HEAD.
fn parent_of(thread: Option<Thread>, head: Option<StateId>) -> Option<StateId> {
    let current = thread.and_then(|mut thread| {
        thread.follow(head);
        thread.current_state
    });
    current.as_deref().and_then(StateId::from_bytes).or(head)
}

pub(super) fn moved(name: &ThreadName) -> Failure {
    Failure::new(
        Reason::ThreadMoved,
        format!("the thread `{name}` was moved by another call meanwhile; nothing was changed: try again"),
    )
}

/// Writes a state's commit; answers it and its change id.
pub(super) fn commit(
    git: &GitDir,
    objects: &ObjectBatch,
    tree: ObjectId,
    parent: Option<StateId>,
    place: &Place,
    says: &Says,
) -> Result<(StateId, String), Failure> {
    let change_id = new_change_id();
    let now = Timestamp::now();
    let offset = TimeZone::system().to_offset(now).seconds();
    let intent = match says.intent.trim() {
        "" => "Capture",
        intent => intent,
    };
    let mut trailers = vec![("Heddle-Thread", place.thread.as_str().to_owned())];
    if let Some(agent) = &says.agent {
        trailers.push(("Heddle-Agent", agent.clone()));
    }
    if let Some(confidence) = says.confidence {
        trailers.push(("Heddle-Confidence", confidence.to_string()));
    }
    let text = CommitText {
        tree,
        parent,
        actor: &says.actor,
        intent,
        trailers,
        change_id: &change_id,
        time: (now.as_second(), offset),
    };
    let id = objects
        .write(&git.local(), gix::objs::Kind::Commit, &text.encode())
        .map_err(|e| Failure::from(&e))?;
    Ok((id.into(), change_id))
}

/// Ends the chain under way, and keeps its last state.
pub(super) fn end_chain(
    tx: &WriteTx<'_>,
    name: &ThreadName,
    thread: &mut Thread,
    trace: &mut Trace,
) -> Result<(), Failure> {
    let Some(chain) = thread.chain.take() else {
        return Ok(());
    };
    let Some(tip) = thread.current_state.as_deref().and_then(StateId::from_bytes) else {
        return Ok(());
    };
    let number = tx.chain_number(chain)?;
    let mut reference = name.kept_reference(number);
    // The chains of a thread `a/1` lie where the first chain of `a` would.
    let mut again = 0;
    while tx.kept_ref_collides(&reference)? {
        again += 1;
        reference = format!("{}-{again}", name.kept_reference(number));
    }
    tx.end_chain(chain, &reference, tip.as_bytes(), now_secs())?;
    trace.refs.push(RefMove::to(reference, tip));
    Ok(())
}

fn add_state(
    tx: &WriteTx<'_>,
    chain: i64,
    of: &Snapshot,
    parent: Option<Vec<u8>>,
    change_id: &str,
    now: i64,
) -> Result<(), Failure> {
    Ok(tx.add_state(&StateRecord {
        state_id: of.state.to_vec(),
        chain,
        parent,
        tree: of.tree.as_bytes().to_vec(),
        thread: of.place.thread.as_str().to_owned(),
        change_id: change_id.to_owned(),
        captured_secs: now,
    })?)
}

/// One line for people: what it was meant to do, or else how much changed.
fn summary_of(intent: &str, changed: usize, has_parent: bool) -> String {
    let first = intent.trim().lines().next().unwrap_or_default();
    match (first, changed) {
        ("", _) if !has_parent => format!("captured {}", paths(changed)),
        ("", _) => format!("captured {} changed", paths(changed)),
        (first, _) => first.chars().take(200).collect(),
    }
}

/// So many paths, in words.
pub(super) fn paths(count: usize) -> String {
    if count == 1 {
        "1 path".to_owned()
    } else {
        format!("{count} paths")
    }
}
