//! Reading threads: those that were started or captured, and the branches that worktrees have
//! checked out; and the state that a name means.

use std::{collections::HashMap, ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use super::{Place, Places, Thread, ThreadName, place::unknown};
use crate::{
    failure::{Failure, Reason},
    git::{GitDir, NotAState, StateId, Worktree},
    mutation::now_secs,
};

/// Threads that stand upon each other and are counted.
const DEPTH_LIMIT: u32 = 1_000;

/// A thread and where it is worked on.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The thread.
    pub thread: Thread,
    /// The worktree that has it.
    pub path: Option<PathBuf>,
    /// Whether it is the thread of the worktree that was asked from.
    pub is_current: bool,
    /// Threads that were started from it.
    pub children: Vec<String>,
    /// How many threads it stands upon.
    pub depth: u32,
}

impl Summary {
    /// What is known of a thread without looking at others.
    pub fn alone(thread: Thread) -> Self {
        Self {
            path: thread.own_path(),
            is_current: false,
            children: Vec::new(),
            depth: u32::from(thread.parent_thread.is_some()),
            thread,
        }
    }

    /// Whether it has a worktree of its own.
    pub fn is_isolated(&self) -> bool {
        self.thread.path.is_some()
    }

    /// Whether nothing was captured yet.
    pub fn is_draft(&self) -> bool {
        self.thread.declared && self.thread.captured_secs.is_none()
    }
}

/// All threads of a repository at one moment.
pub struct Overview {
    summaries: Vec<Summary>,
}

impl Overview {
    /// Reads them, as seen from the worktree `here`. Blocks.
    ///
    /// # Errors
    /// When Git or the store cannot be read.
    pub fn read(places: &Places, here: Option<&Worktree>) -> Result<Self, Failure> {
        let mut threads = places.store().read(|tx| tx.threads())?;
        let mut held = Vec::new();
        for worktree in places.repository().worktrees()? {
            let thread = match places.thread_of(&worktree) {
                Ok(thread) => thread,
                Err(failure) => {
                    tracing::warn!(
                        "the thread of {} is not known: {failure}",
                        worktree.root.display()
                    );
                    continue;
                }
            };
            let head = places.git_of(&worktree)?.head()?.commit;
            held.push((Place { worktree, thread }, head));
        }
        for (place, head) in &held {
            match threads
                .iter_mut()
                .find(|known| known.name == place.thread.as_str())
            {
                Some(thread) => thread.follow(*head),
                None => threads.push(undeclared(&place.thread, *head)),
            }
        }
        threads.sort_by(|a, b| a.name.cmp(&b.name));
        let family = Family::of(&threads);
        let summary = |thread| summary(thread, &family, &held, here);
        let summaries = threads.iter().map(summary).collect();
        Ok(Self { summaries })
    }

    /// All of them, by name.
    pub fn all(self) -> Vec<Summary> {
        self.summaries
    }

    /// The one of this name.
    ///
    /// # Errors
    /// `THREAD_UNKNOWN`.
    pub fn one(self, name: &ThreadName) -> Result<Summary, Failure> {
        let mut all = self.summaries.into_iter();
        all.find(|summary| summary.thread.name == name.as_str())
            .ok_or_else(|| unknown(name))
    }
}

impl Thread {
    /// The worktree that was added for it.
    pub(crate) fn own_path(&self) -> Option<PathBuf> {
        let path = self.path.as_deref();
        path.map(|path| PathBuf::from(OsStr::from_bytes(path)))
    }

    /// What it is when its worktree's HEAD is `head`: a commit of the user's ends the chain.
    pub(crate) fn follow(&mut self, head: Option<StateId>) {
        let head = head.map(StateId::to_vec);
        if head.is_some() && self.chain_head != head {
            self.current_state = head;
        }
    }
}

fn undeclared(name: &ThreadName, head: Option<StateId>) -> Thread {
    let head = head.map(StateId::to_vec);
    Thread {
        base_state: head.clone(),
        current_state: head,
        ..Thread::new(name, now_secs())
    }
}

/// Which thread was started from which.
struct Family<'a> {
    parents: HashMap<&'a str, &'a str>,
    children: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Family<'a> {
    fn of(threads: &'a [Thread]) -> Self {
        let born =
            |thread: &'a Thread| Some((thread.name.as_str(), thread.parent_thread.as_deref()?));
        let parents: HashMap<_, _> = threads.iter().filter_map(born).collect();
        let mut children: HashMap<_, Vec<_>> = HashMap::new();
        for (child, parent) in threads.iter().filter_map(born) {
            children.entry(parent).or_default().push(child);
        }
        Self { parents, children }
    }

    /// How many threads one stands upon.
    fn depth(&self, thread: &str) -> u32 {
        let mut depth = 0;
        let mut at = thread;
        // A name can be given anew, so that the line may run in a circle.
        while let Some(parent) = self.parents.get(at)
            && depth < DEPTH_LIMIT
        {
            depth += 1;
            at = parent;
        }
        depth
    }
}

fn summary(
    thread: &Thread,
    family: &Family<'_>,
    held: &[(Place, Option<StateId>)],
    here: Option<&Worktree>,
) -> Summary {
    let mine = || {
        held.iter()
            .map(|(place, _)| place)
            .filter(|place| place.thread.as_str() == thread.name)
    };
    let children = family.children.get(thread.name.as_str());
    Summary {
        path: thread
            .own_path()
            .or_else(|| mine().next().map(|place| place.worktree.root.clone())),
        is_current: mine().any(|place| Some(&place.worktree) == here),
        children: children
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect(),
        depth: family.depth(&thread.name),
        thread: thread.clone(),
    }
}

impl Places {
    /// A thread's newest state, in a worktree whose HEAD is `head`: as of `newest_of`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn current_state(
        &self,
        thread: &ThreadName,
        head: Option<StateId>,
    ) -> Result<Option<StateId>, Failure> {
        let known = self.store().read(|tx| tx.thread(thread.as_str()))?;
        Ok(newest_of(known, head))
    }
}

/// A thread's newest state: the tip of the chain under way, else HEAD.
pub(crate) fn newest_of(thread: Option<Thread>, head: Option<StateId>) -> Option<StateId> {
    let current = thread.and_then(|mut thread| {
        thread.follow(head);
        thread.current_state
    });
    current.as_deref().and_then(StateId::from_bytes).or(head)
}

/// The state that a caller names: any revision of Git's, or a thread. Git's meaning goes first.
///
/// # Errors
/// `STATE_UNKNOWN`, `STATE_AMBIGUOUS` or `NOT_A_STATE`, for the request's `field`.
pub fn state_named(
    places: &Places,
    git: &GitDir,
    name: &str,
    field: &'static str,
) -> Result<StateId, Failure> {
    let fault = match git.resolve(name) {
        Ok(state) => return Ok(state),
        Err(fault) => fault,
    };
    if matches!(fault, NotAState::Unknown(_))
        && let Some(thread) = places.store().read(|tx| tx.thread(name))?
        && let head = places.head_of(&ThreadName::known(name.to_owned()))?
        && let Some(state) = newest_of(Some(thread), head)
    {
        return Ok(state);
    }
    Err(no_state(fault, field))
}

/// The state of a raw object id; where it is empty, the current one: the newest of the thread that the
/// worktree at `repo_path` is on. Blocks.
///
/// # Errors
/// `NOT_A_STATE` or `STATE_UNKNOWN`, for the request's `field`.
pub fn state_of_id(
    places: &Places,
    repo_path: &str,
    id: &[u8],
    field: &'static str,
) -> Result<StateId, Failure> {
    if !id.is_empty() {
        let state = places.git()?.resolve_bytes(id);
        return state.map_err(|fault| no_state(fault, field));
    }
    let current = match places.worktree(repo_path) {
        Ok(here) => {
            let head = places.git_of(&here)?.head()?.commit;
            let thread = places.thread_of(&here)?;
            places.current_state(&thread, head)?
        }
        Err(failure) if failure.reason == Reason::NoWorktree => places.git()?.head()?.commit,
        Err(failure) => return Err(failure),
    };
    current.ok_or_else(|| {
        let message = "there is no state yet; `heddle capture` makes the first";
        Failure::field(Reason::StateUnknown, field, message)
    })
}

fn no_state(fault: NotAState, field: &'static str) -> Failure {
    let (reason, remedy) = match fault {
        NotAState::Unknown(_) => (
            Reason::StateUnknown,
            "; `heddle log` shows states, `heddle thread list` threads",
        ),
        NotAState::Ambiguous { .. } => (Reason::StateAmbiguous, ""),
        NotAState::NotACommit { .. } => (Reason::NotAState, "; give the id of a commit"),
        NotAState::WrongLength { .. } => (Reason::NotAState, ""),
    };
    Failure::field(reason, field, format!("{fault}{remedy}"))
}
