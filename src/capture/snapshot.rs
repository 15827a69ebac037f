//! A worktree's content as a state: first prepared, with durable objects (G4), then committed.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    Captured, Captures,
    chain::{add_to_chain, end_chain_of_commit, make_room},
    look::{Look, moved},
    scanners::Held,
};
use crate::{
    failure::Failure,
    git::{
        Change, CommitText, Identity, ObjectBatch, ObjectId, RefMove, StateId, Worktree,
        new_change_id, shown_path,
    },
    mutation::{Entry, PreCapture, Trace, Verb, now_secs},
    store::{StateRecord, WriteTx},
    thread::{Place, Thread, ThreadName},
};

/// What the commit of a capture says that was given no intent.
pub const UNSAID: &str = "Capture";

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

/// A worktree's content as a state, prepared.
pub(super) struct Snapshot {
    pub(super) look: Look,
    pub(super) state: StateId,
    /// The new state's change id; `None` when nothing had changed.
    change_id: Option<String>,
    changes: Vec<Change>,
    changed_paths: u32,
    summary: String,
    confidence: Option<f32>,
}

impl Snapshot {
    /// Takes the content of the worktree that `held` is for; `view` is its thread as a transaction
    /// leaves it. Blocks; nothing refers to it yet.
    pub(super) fn take(
        captures: &Captures,
        place: Place,
        held: &mut Held,
        view: Option<Thread>,
        says: &Says,
    ) -> Result<Self, Failure> {
        let (look, (state, change_id)) =
            Look::with(captures, place, held, view, |look, objects| {
                let newest = look.newest.map(|(state, _)| state);
                match newest.filter(|_| look.is_newest()) {
                    Some(state) => Ok((state, None)),
                    None => {
                        if look.head.is_some() && look.head == newest {
                            objects.refer_to_state(newest);
                        }
                        let thread = &look.place.thread;
                        let (state, change_id) = commit(objects, look.tree, newest, thread, says)?;
                        Ok((state, Some(change_id)))
                    }
                }
            })?;
        let git = captures.places.git_of(&look.place.worktree)?;
        let before = look
            .newest
            .map_or_else(|| git.empty_tree(), |(_, tree)| tree);
        let changes = git.diff(before, look.tree, &[])?;
        Ok(Self {
            summary: summary_of(&says.intent, changes.len(), look.newest.is_some()),
            confidence: says.confidence,
            look,
            state,
            change_id,
            changed_paths: u32::try_from(changes.len()).unwrap_or(u32::MAX),
            changes,
        })
    }

    /// Commits it: the state, its chain, the thread's new tip, the worktree's step.
    pub(super) fn apply(&self, tx: &WriteTx<'_>) -> Result<(Captured, Trace), Failure> {
        let Place { worktree, thread } = &self.look.place;
        let known = tx.reads().thread(thread.as_str())?;
        if tip(known.as_ref()) != tip(self.look.seen.as_ref()) {
            return Err(moved(thread));
        }
        let id = worktree.id();
        if tx.reads().thread_of_worktree(id)?.as_deref() != Some(thread.as_str()) {
            tx.put_thread_of_worktree(id, thread.as_str())?;
        }
        let mut trace = Trace::default();
        let mut record = match known {
            Some(known) => known,
            None => {
                make_room(tx, thread, &mut trace)?;
                Thread::new(thread, now_secs())
            }
        };
        if let Some(change_id) = &self.change_id {
            self.advance(tx, &mut record, change_id, &mut trace)?;
        }
        self.step(tx)?;
        let captured = Captured {
            coordination_status: record.coordination_status(),
            thread: record.name,
            state: self.state,
            parent: self.parent(),
            unchanged: self.change_id.is_none(),
            changed_paths: self.changed_paths,
            left_out: self.look.left_out.clone(),
        };
        Ok((captured, trace))
    }

    /// Whether nothing had changed since the newest state, which it then is.
    pub(super) fn is_unchanged(&self) -> bool {
        self.change_id.is_none()
    }

    /// What hooks are asked about it.
    pub(super) fn question(&self, intent: &str) -> PreCapture {
        let paths = self.changes.iter();
        PreCapture {
            thread: self.look.place.thread.to_string(),
            intent: intent.to_owned(),
            base_state: self.parent(),
            tree: self.look.tree.to_string(),
            worktree: self.look.place.worktree.root.to_string_lossy().into_owned(),
            changed_paths: paths
                .map(|change| shown_path(change.path.as_ref()))
                .collect(),
        }
    }

    /// The state that it comes after; that of a state that was there before is its own matter.
    fn parent(&self) -> Option<StateId> {
        let newest = self.look.newest.map(|(state, _)| state);
        newest.filter(|_| self.change_id.is_some())
    }

    fn advance(
        &self,
        tx: &WriteTx<'_>,
        thread: &mut Thread,
        change_id: &str,
        trace: &mut Trace,
    ) -> Result<(), Failure> {
        let name = &self.look.place.thread;
        end_chain_of_commit(tx, name, thread, self.look.head, trace)?;
        let now = now_secs();
        let parent = self.parent().map(StateId::to_vec);
        add_to_chain(
            tx,
            thread,
            StateRecord {
                state_id: self.state.to_vec(),
                chain: 0,
                parent: parent.clone(),
                tree: self.look.tree.as_bytes().to_vec(),
                thread: name.as_str().to_owned(),
                change_id: change_id.to_owned(),
                captured_secs: now,
            },
        )?;
        thread.base_state = thread.base_state.take().or(parent);
        thread.conflicted = self.look.unmerged;
        thread.confidence = self.confidence.map(f64::from);
        thread.captured_secs = Some(now);
        thread.active_secs = now;
        tx.put_thread(thread)?;
        trace.refs.push(RefMove::to(name.reference(), self.state));
        trace.entry = Some(Entry {
            thread: Some(thread.name.clone()),
            state_id: Some(self.state.to_vec()),
            ..Entry::new(Verb::Snapshot, self.summary.clone())
        });
        Ok(())
    }

    /// The worktree stands at this state; before it, at the one that it came after.
    fn step(&self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        let line = self.look.place.line();
        let pending = self.look.pending(&tx.reads())?;
        if let Some((state, tree)) = self.look.newest.filter(|_| pending.newest) {
            tx.take_step(line, state.as_bytes(), tree.as_bytes())?;
        }
        if pending.present {
            tx.take_step(line, self.state.as_bytes(), self.look.tree.as_bytes())?;
        }
        Ok(())
    }
}

/// A snapshot as it is kept in a transaction: what its commit needs.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotRecord {
    root: Vec<u8>,
    git_dir: Vec<u8>,
    thread: String,
    head: Option<StateId>,
    seen: Option<Thread>,
    newest: Option<(StateId, String)>,
    tree: String,
    unmerged: bool,
    state: StateId,
    change_id: Option<String>,
    changed_paths: u32,
    summary: String,
    confidence: Option<f32>,
}

impl Snapshot {
    /// What its commit needs.
    pub(super) fn record(&self) -> SnapshotRecord {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let Look { place, newest, .. } = &self.look;
        SnapshotRecord {
            root: bytes(&place.worktree.root),
            git_dir: bytes(&place.worktree.git_dir),
            thread: place.thread.as_str().to_owned(),
            head: self.look.head,
            seen: self.look.seen.clone(),
            newest: newest.map(|(state, tree)| (state, tree.to_string())),
            tree: self.look.tree.to_string(),
            unmerged: self.look.unmerged,
            state: self.state,
            change_id: self.change_id.clone(),
            changed_paths: self.changed_paths,
            summary: self.summary.clone(),
            confidence: self.confidence,
        }
    }

    /// The snapshot of a record; `None` where it is damaged.
    pub(super) fn of(record: SnapshotRecord) -> Option<Self> {
        let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        let tree = |hex: &str| ObjectId::from_hex(hex.as_bytes()).ok();
        let newest = match record.newest {
            Some((state, hex)) => Some((state, tree(&hex)?)),
            None => None,
        };
        Some(Self {
            look: Look {
                place: Place {
                    worktree: Worktree {
                        root: path(record.root),
                        git_dir: path(record.git_dir),
                    },
                    thread: ThreadName::known(record.thread),
                },
                head: record.head,
                seen: record.seen,
                newest,
                tree: tree(&record.tree)?,
                left_out: Vec::new(),
                unmerged: record.unmerged,
            },
            state: record.state,
            change_id: record.change_id,
            changes: Vec::new(),
            changed_paths: record.changed_paths,
            summary: record.summary,
            confidence: record.confidence,
        })
    }
}

/// What a capture depends on: it is refused when that was changed meanwhile. Which chain is under way
/// is known when it is committed: a buffered call was tried out on one that was taken back.
fn tip(thread: Option<&Thread>) -> Option<impl PartialEq> {
    thread.map(|thread| {
        let in_chain = thread.chain.is_some();
        (&thread.current_state, in_chain, &thread.chain_head)
    })
}

/// Writes a state's commit; answers it and its change id.
pub(super) fn commit(
    objects: &ObjectBatch,
    tree: ObjectId,
    parent: Option<StateId>,
    thread: &ThreadName,
    says: &Says,
) -> Result<(StateId, String), Failure> {
    let change_id = new_change_id();
    let now = Timestamp::now();
    let offset = TimeZone::system().to_offset(now).seconds();
    let intent = match says.intent.trim() {
        "" => UNSAID,
        intent => intent,
    };
    let mut trailers = vec![("Heddle-Thread", thread.as_str().to_owned())];
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
    let state = objects.write_commit(&text).map_err(|e| Failure::from(&e))?;
    Ok((state, change_id))
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
