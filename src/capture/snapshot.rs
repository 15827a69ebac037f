//! A worktree's content as a state: first prepared, with durable objects (G4), then committed.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{Captured, Captures, scanners::Held};
use crate::{
    failure::{Failure, Reason},
    git::{
        Change, CommitText, Identity, LeftOut, ObjectBatch, ObjectId, RefMove, ScanOptions,
        StateId, Worktree, new_change_id, shown_path,
    },
    mutation::{Entry, PreCapture, Trace, Verb, now_secs},
    store::{self, ReadTx, StateRecord, WriteTx},
    thread::{Place, Thread, ThreadName, newest_of},
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

/// A worktree's content as it is now; its trees and files are among Git's objects.
pub(super) struct Look {
    pub(super) place: Place,
    pub(super) head: Option<StateId>,
    /// The thread as it was when the content was taken.
    seen: Option<Thread>,
    /// The newest state, and its tree.
    pub(super) newest: Option<(StateId, ObjectId)>,
    pub(super) tree: ObjectId,
    left_out: Vec<LeftOut>,
    unmerged: bool,
}

/// Steps of a worktree's history that are yet to be written down.
pub(super) struct Pending {
    /// The newest state: it was not a step yet.
    pub(super) newest: bool,
    /// The present content.
    pub(super) present: bool,
}

impl Look {
    /// Looks at the worktree that `held` is for. New objects are durable then. Blocks.
    pub(super) fn take(
        captures: &Captures,
        place: Place,
        held: &mut Held,
    ) -> Result<Self, Failure> {
        Self::with(captures, place, held, None, |_, _| Ok(())).map(|(look, ())| look)
    }

    /// The same; `view` is the thread as a transaction leaves it. `also` may add objects that are then made durable with the others.
    fn with<T>(
        captures: &Captures,
        place: Place,
        held: &mut Held,
        view: Option<Thread>,
        also: impl FnOnce(&Self, &ObjectBatch) -> Result<T, Failure>,
    ) -> Result<(Self, T), Failure> {
        let git = captures.places.git_of(&place.worktree)?;
        let stands = git.head()?;
        let head = stands.commit;
        let store = captures.places.store();
        let seen = match view {
            Some(view) => Some(view),
            None => store.read(|tx| tx.thread(place.thread.as_str()))?,
        };
        let newest = match newest_of(seen.clone(), head) {
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
        // A checkout or commit meanwhile: what was seen may be of both.
        if git.head()? != stands {
            return Err(moved(&place.thread));
        }
        let look = Self {
            place,
            head,
            seen,
            newest,
            tree: scanned.tree,
            left_out: std::mem::take(&mut scanned.left_out),
            unmerged: scanned.unmerged,
        };
        let added = also(&look, &objects)?;
        // Also when nothing changed: what is settled is not looked at again, and Git may have written
        // it without a sync.
        objects.finish().map_err(|e| Failure::from(&e))?;
        scanner.settle(scanned);
        Ok((look, added))
    }

    /// Whether nothing changed since the newest state.
    pub(super) fn is_newest(&self) -> bool {
        self.newest.is_some_and(|(_, tree)| tree == self.tree)
    }

    /// The steps that are yet to be written down.
    pub(super) fn pending(&self, tx: &ReadTx<'_>) -> Result<Pending, store::Error> {
        let at = tx.current_step(self.place.line())?;
        // What a restore left alone is no change of the user's: a step has the tree that it led to.
        let stands_at = |(state, tree): &(StateId, ObjectId)| {
            at.as_ref()
                .is_some_and(|at| at.state_id == state.as_bytes() || at.tree == tree.as_bytes())
        };
        let newest = self.newest.filter(|newest| !stands_at(newest));
        let last = match &newest {
            Some((_, tree)) => Some(tree.as_bytes()),
            None => at.as_ref().map(|at| at.tree.as_slice()),
        };
        Ok(Pending {
            newest: newest.is_some(),
            present: last != Some(self.tree.as_bytes()),
        })
    }
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

pub(crate) fn moved(name: &ThreadName) -> Failure {
    Failure::new(
        Reason::ThreadMoved,
        format!(
            "the thread `{name}` was moved by another call meanwhile; nothing was changed: try again"
        ),
    )
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
        "" => "Capture",
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

/// Ends the chain under way where a commit of the user's came since: HEAD is another.
pub(super) fn end_chain_of_commit(
    tx: &WriteTx<'_>,
    name: &ThreadName,
    thread: &mut Thread,
    head: Option<StateId>,
    trace: &mut Trace,
) -> Result<(), Failure> {
    let head_bytes = head.map(StateId::to_vec);
    if head.is_some() && thread.chain_head != head_bytes {
        end_chain(tx, name, thread, trace)?;
        thread.follow(head);
    }
    thread.chain_head = head_bytes;
    Ok(())
}

/// Git keeps refs as files, and one cannot be a folder of another. A thread that was a branch, and
/// which Git could not have beside this one, is no branch any more: its captures are kept, and it makes
/// room.
///
/// # Errors
/// `THREAD_EXISTS` for one that was started: that is its user's to end.
pub(super) fn make_room(
    tx: &WriteTx<'_>,
    name: &ThreadName,
    trace: &mut Trace,
) -> Result<(), Failure> {
    for mut other in tx.reads().threads_beside(name.as_str())? {
        let theirs = ThreadName::known(other.name.clone());
        if other.declared {
            return Err(Failure::new(
                Reason::ThreadExists,
                format!(
                    "the branch `{name}` cannot be a thread beside the thread `{theirs}`: Git keeps refs as files, and one would be a folder of the other; rename the branch"
                ),
            ));
        }
        end_chain(tx, &theirs, &mut other, trace)?;
        tx.delete_thread(theirs.as_str())?;
        trace.refs.push(RefMove::delete(theirs.reference()));
    }
    Ok(())
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
    let Some(tip) = thread
        .current_state
        .as_deref()
        .and_then(StateId::from_bytes)
    else {
        return Ok(());
    };
    let number = tx.chain_number(chain)?;
    // The chains of a thread `a/1` would lie where the first chain of `a` does.
    let mut reference = String::new();
    for candidate in name.kept_references(number) {
        reference = candidate;
        if !tx.kept_ref_collides(&reference)? {
            break;
        }
    }
    tx.end_chain(chain, &reference, tip.as_bytes(), now_secs())?;
    trace.refs.push(RefMove::to(reference, tip));
    Ok(())
}

/// Adds a state to the chain under way, or to a new one, and makes it the thread's newest.
pub(super) fn add_to_chain(
    tx: &WriteTx<'_>,
    thread: &mut Thread,
    state: StateRecord,
) -> Result<(), Failure> {
    let chain = match thread.chain {
        Some(chain) => chain,
        None => tx.begin_chain(&thread.name)?,
    };
    let state = StateRecord { chain, ..state };
    tx.add_state(&state)?;
    thread.chain = Some(chain);
    thread.current_state = Some(state.state_id);
    Ok(())
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
