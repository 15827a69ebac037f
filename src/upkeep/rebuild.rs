//! Threads, chains and captures out of refs and commits, for when the database that knew them is
//! gone. A commit says which thread it is a capture of, and what it came after; the rest of what
//! the database had (the operation log, recorded answers, hooks, steps to undo) it does not say.

use std::collections::HashSet;

use super::{counted, refs::RefFault};
use crate::{
    failure::Failure,
    git::{CaptureText, GitDir, NAMESPACE, RefMove, StateId},
    store::{self, ReadTx, StateRecord, Store, WriteTx},
    thread::{Thread, ThreadName},
};

/// What refs lead to that the store does not know.
#[derive(Debug, Default)]
pub(super) struct Lost {
    threads: Vec<LostThread>,
    /// In the order in which they began.
    chains: Vec<LostChain>,
    /// Refs that lead to nothing that could be taken in.
    pub(super) left: Vec<String>,
}

#[derive(Debug)]
struct LostThread {
    name: ThreadName,
    tip: StateId,
    captured: Option<CaptureText>,
    /// The user's commit that it stands on.
    head: Option<StateId>,
    is_branch: bool,
    tip_secs: i64,
}

#[derive(Debug)]
struct LostChain {
    thread: ThreadName,
    number: i64,
    kept: Kept,
    /// Oldest first; there is at least one.
    states: Vec<CaptureText>,
}

/// How a chain is kept.
#[derive(Debug)]
enum Kept {
    /// It ended, and this ref keeps it.
    By(String),
    /// A ref that the store has elsewhere led to it; it gets one of its own.
    Anew,
    /// It is under way, and its thread's ref leads to it.
    UnderWay,
}

impl LostChain {
    fn began_secs(&self) -> i64 {
        self.states.first().map_or(0, |state| state.captured_secs)
    }
}

/// What was taken in again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TakenIn {
    threads: u64,
    chains: u64,
    states: u64,
    /// Refs that have to be made for it.
    pub(super) refs: Vec<RefMove>,
}

impl TakenIn {
    /// For people.
    pub(super) fn describe(&self) -> String {
        format!(
            "took in {}, {} and {} from refs/heddle/",
            counted(self.threads, "thread"),
            counted(self.chains, "chain"),
            counted(self.states, "capture"),
        )
    }
}

/// Whether a kept ref comes after all ended chains that the store knows of the thread that it is
/// named after.
pub(super) fn is_later(tx: &ReadTx<'_>, name: &str) -> Result<bool, store::Error> {
    match kept(name) {
        Some((thread, number)) => Ok(number > tx.newest_ended(thread.as_str())?),
        None => Ok(false),
    }
}

/// The thread and number that the name of a kept ref says, see `ThreadName::kept_references`.
fn kept(name: &str) -> Option<(ThreadName, i64)> {
    let path = name.strip_prefix(NAMESPACE)?.strip_prefix("kept/")?;
    let (thread, number) = path.rsplit_once('/')?;
    let thread = thread.replace("%2F", "/").replace("%25", "%");
    Some((
        ThreadName::parse(&thread, "name").ok()?,
        number.parse().ok()?,
    ))
}

fn thread(name: &str) -> Option<ThreadName> {
    let name = name.strip_prefix(NAMESPACE)?.strip_prefix("threads/")?;
    ThreadName::parse(name, "name").ok()
}

/// Whether it is the thread of a detached worktree that was never started.
fn is_detached(name: &ThreadName) -> bool {
    name.as_str().starts_with("detached/")
}

/// Reads what refs lead to.
struct Reader<'a> {
    git: &'a GitDir,
    /// States that are in a chain: in the store, or found before.
    claimed: HashSet<StateId>,
}

impl Reader<'_> {
    /// The thread that a state is a capture of; a ref's name may say it in other words.
    fn thread_of(&self, state: StateId) -> Option<ThreadName> {
        let text = self.git.capture_text(state).ok()??;
        ThreadName::parse(&text.thread, "name").ok()
    }

    /// The captures of `thread` that lead to `tip` and are in no other chain, oldest first.
    fn chain(&mut self, thread: &ThreadName, tip: StateId) -> Vec<CaptureText> {
        let mut states = Vec::new();
        let mut at = Some(tip);
        while let Some(state) = at.filter(|state| !self.claimed.contains(state)) {
            match self.git.capture_text(state) {
                Ok(Some(text)) if text.thread == thread.as_str() => {
                    at = text.parent;
                    states.push(text);
                }
                _ => break,
            }
        }
        states.reverse();
        self.claimed.extend(states.iter().map(|text| text.state));
        states
    }

    /// The first commit that is no capture, from `at` on.
    fn standing_on(&self, mut at: Option<StateId>) -> Option<StateId> {
        while let Some(state) = at {
            match self.git.capture_text(state) {
                Ok(Some(text)) => at = text.parent,
                Ok(None) => return Some(state),
                Err(_) => return None,
            }
        }
        None
    }

    fn thread(&self, name: ThreadName, tip: StateId) -> Option<LostThread> {
        let tip_secs = self.git.committed_secs(tip)?;
        let captured = self.git.capture_text(tip).ok()?;
        Some(LostThread {
            is_branch: self.git.has_branch(name.as_str()) || is_detached(&name),
            head: self.standing_on(Some(tip)),
            name,
            tip,
            captured,
            tip_secs,
        })
    }
}

impl Lost {
    /// Reads what these refs lead to, as far as the store does not know it. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn read(git: &GitDir, store: &Store, refs: &[RefFault]) -> Result<Self, Failure> {
        let known = store.read(|tx| tx.state_trees())?.into_iter();
        let claimed = known.filter_map(|(state, _)| StateId::from_bytes(&state));
        let mut reader = Reader {
            git,
            claimed: claimed.collect(),
        };
        let mut lost = Self::default();
        let (mut keeping, mut threads, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        for fault in refs {
            let (name, found) = (&fault.name, fault.found.flatten());
            let unknown = fault.is_unknown();
            match (kept(name), thread(name), found) {
                (_, Some(thread), Some(tip)) if unknown => threads.push((thread, name, tip)),
                (Some((_, number)), _, Some(tip)) if unknown => match reader.thread_of(tip) {
                    Some(thread) => keeping.push((thread, number, name, tip)),
                    None => lost.left.push(name.clone()),
                },
                (_, _, Some(tip)) if !unknown => {
                    moved.extend(reader.thread_of(tip).map(|thread| (thread, tip)));
                }
                _ if unknown => lost.left.push(name.clone()),
                _ => {}
            }
        }
        // By number, so that a chain that another one stands on has its states first.
        keeping.sort_by(|a, b| (&a.0, a.1, a.2).cmp(&(&b.0, b.1, b.2)));
        for (thread, number, name, tip) in keeping {
            let states = reader.chain(&thread, tip);
            if states.is_empty() {
                lost.left.push(name.clone());
            } else {
                lost.add(thread, number, Kept::By(name.clone()), states);
            }
        }
        for (name, reference, tip) in threads {
            let Some(thread) = reader.thread(name.clone(), tip) else {
                lost.left.push(reference.clone());
                continue;
            };
            lost.threads.push(thread);
            let states = reader.chain(&name, tip);
            let number = lost.next_number(&name);
            lost.add(name, number, Kept::UnderWay, states);
        }
        for (thread, tip) in moved {
            let states = reader.chain(&thread, tip);
            let number = lost.next_number(&thread);
            lost.add(thread, number, Kept::Anew, states);
        }
        lost.chains.sort_by_key(LostChain::began_secs);
        Ok(lost)
    }

    fn add(&mut self, thread: ThreadName, number: i64, kept: Kept, states: Vec<CaptureText>) {
        if !states.is_empty() {
            self.chains.push(LostChain {
                thread,
                number,
                kept,
                states,
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.threads.is_empty() && self.chains.is_empty()
    }

    fn next_number(&self, thread: &ThreadName) -> i64 {
        let chains = self.chains.iter().filter(|chain| chain.thread == *thread);
        chains.map(|chain| chain.number).max().unwrap_or(0) + 1
    }

    /// Writes it down, but for what the store has come to know meanwhile.
    pub(super) fn write(&self, tx: &WriteTx<'_>) -> Result<TakenIn, Failure> {
        let mut taken = TakenIn::default();
        for thread in &self.threads {
            let known = tx.reads().thread(thread.name.as_str())?;
            if known.is_none_or(|known| known.current_state.is_none()) {
                tx.put_thread(&self.record(thread))?;
                taken.threads += 1;
            }
        }
        for chain in &self.chains {
            write_chain(tx, chain, &mut taken)?;
        }
        Ok(taken)
    }

    fn record(&self, lost: &LostThread) -> Thread {
        let mut chains = self.chains.iter().filter(|chain| chain.thread == lost.name);
        let first = chains.next().and_then(|chain| chain.states.first());
        let base = match first {
            Some(first) => first.parent,
            None => Some(lost.tip),
        };
        let captured = lost.captured.as_ref();
        let agent = captured.and_then(|text| text.agent.as_deref());
        let (provider, model) = match agent.and_then(|agent| agent.split_once('/')) {
            Some((provider, model)) => (Some(provider.to_owned()), Some(model.to_owned())),
            None => (agent.map(str::to_owned), None),
        };
        Thread {
            declared: !lost.is_branch,
            base_state: base.map(StateId::to_vec),
            current_state: Some(lost.tip.to_vec()),
            chain_head: lost.head.map(StateId::to_vec),
            provider,
            model,
            confidence: captured.and_then(|text| text.confidence),
            captured_secs: captured.map(|text| text.captured_secs),
            created_secs: first.map_or(lost.tip_secs, |first| first.captured_secs),
            ..Thread::new(&lost.name, lost.tip_secs)
        }
    }
}

/// Writes a chain down, unless the store has come to know it, or another one in its place.
fn write_chain(tx: &WriteTx<'_>, chain: &LostChain, taken: &mut TakenIn) -> Result<(), Failure> {
    let (name, reads) = (chain.thread.as_str(), tx.reads());
    let Some(tip) = chain.states.last() else {
        return Ok(());
    };
    let under_way = reads.thread(name)?.filter(|thread| {
        thread.chain.is_none() && thread.current_state.as_deref() == Some(tip.state.as_bytes())
    });
    let known = match &chain.kept {
        Kept::By(reference) => tx.kept_ref_collides(reference)?,
        Kept::Anew => reads.state(tip.state.as_bytes())?.is_some(),
        Kept::UnderWay => under_way.is_none(),
    };
    if known {
        return Ok(());
    }
    let number = if reads.has_chain(name, chain.number)? {
        reads.next_chain_number(name)?
    } else {
        chain.number
    };
    let id = tx.add_chain(name, number)?;
    for state in &chain.states {
        if reads.state(state.state.as_bytes())?.is_none() {
            tx.add_state(&record(state, id))?;
            taken.states += 1;
        }
    }
    let end =
        |reference: &str| tx.end_chain(id, reference, tip.state.as_bytes(), tip.captured_secs);
    match &chain.kept {
        Kept::By(reference) => end(reference)?,
        Kept::Anew => {
            let mut reference = String::new();
            for candidate in chain.thread.kept_references(number) {
                reference = candidate;
                if !tx.kept_ref_collides(&reference)? {
                    break;
                }
            }
            end(&reference)?;
            taken.refs.push(RefMove::to(reference, tip.state));
        }
        Kept::UnderWay => {
            let on_it = |thread: Thread| Thread {
                chain: Some(id),
                ..thread
            };
            if let Some(thread) = under_way.map(on_it) {
                tx.put_thread(&thread)?;
            }
        }
    }
    taken.chains += 1;
    Ok(())
}

fn record(text: &CaptureText, chain: i64) -> StateRecord {
    StateRecord {
        state_id: text.state.to_vec(),
        chain,
        parent: text.parent.map(StateId::to_vec),
        tree: text.tree.as_bytes().to_vec(),
        thread: text.thread.clone(),
        change_id: text.change_id.clone(),
        captured_secs: text.captured_secs,
    }
}
