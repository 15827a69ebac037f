//! Threads, chains and captures out of refs and commits, for when the database that knew them is
//! gone. A commit says which thread it is a capture of, and what it came after; the rest of what
//! the database had (the operation log, recorded answers, hooks, steps to undo) it does not say.

use std::collections::HashSet;

use super::{
    counted,
    refs::{RefFault, our_call},
};
use crate::{
    failure::Failure,
    git::{CaptureText, GitDir, NAMESPACE, StateId},
    mutation::{Entry, Mutation, Road, blocking},
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
    left: Vec<String>,
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
    /// The ref that keeps it; `None` for the one under way.
    kept_by: Option<String>,
    /// Oldest first; there is at least one.
    states: Vec<CaptureText>,
}

impl LostChain {
    fn began_secs(&self) -> i64 {
        self.states.first().map_or(0, |state| state.captured_secs)
    }
}

/// What was taken in again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TakenIn {
    threads: u64,
    chains: u64,
    states: u64,
}

impl TakenIn {
    /// For people.
    pub(super) fn describe(self) -> String {
        format!(
            "took in {}, {} and {} from refs/heddle/",
            counted(self.threads, "thread"),
            counted(self.chains, "chain"),
            counted(self.states, "capture"),
        )
    }
}

/// Whether a kept ref comes after all chains that the store knows of its thread.
pub(super) fn is_later(tx: &ReadTx<'_>, name: &str) -> Result<bool, store::Error> {
    match kept(name) {
        Some((thread, number)) => Ok(number >= tx.next_chain_number(thread.as_str())?),
        None => Ok(false),
    }
}

/// The thread and number of the chain that a ref keeps.
fn kept(name: &str) -> Option<(ThreadName, i64)> {
    let path = name.strip_prefix(NAMESPACE)?.strip_prefix("kept/")?;
    let (thread, last) = path.rsplit_once('/')?;
    // `3-1` where `3` was taken by the folder of another thread.
    let number = last.split('-').next()?.parse().ok()?;
    Some((ThreadName::parse(thread, "name").ok()?, number))
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
        let mut keeping = Vec::new();
        let mut threads = Vec::new();
        for fault in refs {
            let (name, found) = (&fault.name, fault.found.flatten());
            match (kept(name), thread(name), found) {
                (Some((thread, number)), _, Some(tip)) => keeping.push((thread, number, name, tip)),
                (_, Some(thread), Some(tip)) => threads.push((thread, name, tip)),
                _ => lost.left.push(name.clone()),
            }
        }
        // By number, so that a chain that another one stands on has its states first.
        keeping.sort_by(|a, b| (&a.0, a.1, a.2).cmp(&(&b.0, b.1, b.2)));
        for (thread, number, name, tip) in keeping {
            let states = reader.chain(&thread, tip);
            if states.is_empty() {
                lost.left.push(name.clone());
                continue;
            }
            lost.chains.push(LostChain {
                thread,
                number,
                kept_by: Some(name.clone()),
                states,
            });
        }
        for (name, reference, tip) in threads {
            let Some(thread) = reader.thread(name, tip) else {
                lost.left.push(reference.clone());
                continue;
            };
            let states = reader.chain(&thread.name, tip);
            if !states.is_empty() {
                let number = lost.next_number(&thread.name);
                lost.chains.push(LostChain {
                    thread: thread.name.clone(),
                    number,
                    kept_by: None,
                    states,
                });
            }
            lost.threads.push(thread);
        }
        lost.chains.sort_by_key(LostChain::began_secs);
        Ok(lost)
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
            if let Some(states) = write_chain(tx, chain)? {
                taken.states += states;
                taken.chains += 1;
            }
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

/// Writes a chain down; answers how many captures the store had not. `None` where it has come to
/// know the chain, or another one in its place.
fn write_chain(tx: &WriteTx<'_>, chain: &LostChain) -> Result<Option<u64>, Failure> {
    let (name, reads) = (chain.thread.as_str(), tx.reads());
    let Some(tip) = chain.states.last() else {
        return Ok(None);
    };
    let on_it = match &chain.kept_by {
        Some(reference) if tx.kept_ref_collides(reference)? => return Ok(None),
        Some(_) => None,
        None => {
            let thread = reads.thread(name)?;
            let stands_there = |thread: &Thread| {
                thread.chain.is_none()
                    && thread.current_state.as_deref() == Some(tip.state.as_bytes())
            };
            let Some(thread) = thread.filter(stands_there) else {
                return Ok(None);
            };
            Some(thread)
        }
    };
    let number = if reads.has_chain(name, chain.number)? {
        reads.next_chain_number(name)?
    } else {
        chain.number
    };
    let id = tx.add_chain(name, number)?;
    let mut added = 0;
    for state in &chain.states {
        if reads.state(state.state.as_bytes())?.is_none() {
            tx.add_state(&record(state, id))?;
            added += 1;
        }
    }
    if let Some(reference) = &chain.kept_by {
        tx.end_chain(id, reference, tip.state.as_bytes(), tip.captured_secs)?;
    }
    if let Some(thread) = on_it {
        let chain = Some(id);
        tx.put_thread(&Thread { chain, ..thread })?;
    }
    Ok(Some(added))
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

/// Takes in what refs lead to, beside calls that go on.
pub(super) struct TakeIn {
    lost: Lost,
}

impl TakeIn {
    /// Reads what these refs lead to, and sends it down the road.
    pub(super) async fn run(
        road: &Road,
        store: &Store,
        git: GitDir,
        refs: Vec<RefFault>,
    ) -> Result<(), Failure> {
        let store = store.clone();
        let lost = blocking(move || Lost::read(&git, &store, &refs)).await?;
        for name in &lost.left {
            tracing::warn!("{name} leads to nothing that could be taken in, and is left alone");
        }
        let call = our_call("upkeep/TakeIn");
        road.run(call, Self { lost }, |_| Vec::new())
            .await
            .map(drop)
    }
}

impl Mutation for TakeIn {
    type Output = TakenIn;

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<TakenIn, Failure> {
        self.lost.write(tx)
    }

    fn describe(&self, _: &TakenIn) -> Option<Entry> {
        None
    }

    fn publish(&mut self, taken: &TakenIn) {
        tracing::warn!("{}", taken.describe());
    }
}
