//! The writes on threads, apart from captures.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Places, Thread, ThreadName, state_named};
use crate::{
    failure::{Failure, Reason},
    git::{RefMove, StateId},
    mutation::{Entry, Intent, Mutation, Unfinished, Verb, blocking, now_secs},
    store::WriteTx,
};

/// The kind of intent that stands for a worktree being added.
pub(crate) const ADD_WORKTREE: &str = "add_worktree";

/// A worktree that is being added, as it is written down before.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AddedWorktree {
    /// Where, in bytes.
    pub(crate) path: Vec<u8>,
}

/// What a new thread is to be.
#[derive(Debug, Clone)]
pub struct StartThreadRequest {
    /// A path in the worktree that the caller stands in; empty for the main one.
    pub repo_path: String,
    /// Its name.
    pub name: ThreadName,
    /// The state that it starts from; empty for the current one.
    pub from: String,
    /// Where to add a worktree for it: absolute, or from the caller's worktree.
    pub path: Option<PathBuf>,
    /// The provider of the agent that works on it.
    pub provider: Option<String>,
    /// The model of the agent that works on it.
    pub model: Option<String>,
}

/// Starts a thread.
pub struct StartThread {
    places: Arc<Places>,
    asked: StartThreadRequest,
    prepared: Option<Prepared>,
    added: Option<PathBuf>,
}

/// Where a thread starts.
struct Prepared {
    parent: Option<ThreadName>,
    base: Option<StateId>,
    head: Option<StateId>,
    path: Option<PathBuf>,
}

impl StartThread {
    /// The change that starts a thread.
    pub fn new(places: Arc<Places>, asked: StartThreadRequest) -> Self {
        Self {
            places,
            asked,
            prepared: None,
            added: None,
        }
    }

    fn prepared(&self) -> Result<&Prepared, Failure> {
        let prepared = self.prepared.as_ref();
        prepared.ok_or_else(|| Failure::new(Reason::Internal, "the change was not prepared"))
    }
}

/// Finds out where a thread starts, and refuses one that cannot. Blocks.
fn prepare(places: &Places, asked: &StartThreadRequest) -> Result<Prepared, Failure> {
    let name = &asked.name;
    let git = places.git()?;
    if git.has_branch(name.as_str()) {
        return Err(Failure::field(
            Reason::ThreadExists,
            "name",
            format!(
                "a branch is called `{name}`, and is a thread without being started; choose another name"
            ),
        ));
    }
    if places
        .store()
        .read(|tx| tx.thread(name.as_str()))?
        .is_some()
    {
        return Err(exists(name));
    }
    // A bare repository has no worktree to start from, and may have threads all the same.
    let here = match places.worktree(&asked.repo_path) {
        Ok(here) => Some(places.find(here, "")?),
        Err(failure) if failure.reason == Reason::NoWorktree => None,
        Err(failure) => return Err(failure),
    };
    let head = match &here {
        Some(here) => places.git_of(&here.worktree)?.head()?.commit,
        None => git.head()?.commit,
    };
    let base = match (asked.from.as_str(), &here) {
        ("", Some(here)) => places.current_state(&here.thread, head)?.or(head),
        ("", None) => head,
        (from, _) => Some(state_named(places.store(), &git, from, "from_state")?),
    };
    let root = here.as_ref().map(|here| here.worktree.root.as_path());
    let root = root.unwrap_or(places.repository().root());
    let path = asked.path.as_ref().map(|path| root.join(path));
    if let Some(path) = &path {
        check_path(path, base)?;
    }
    Ok(Prepared {
        parent: here.map(|here| here.thread),
        base,
        head,
        path,
    })
}

fn check_path(path: &Path, base: Option<StateId>) -> Result<(), Failure> {
    if base.is_none() {
        return Err(Failure::field(
            Reason::InvalidField,
            "path",
            "a worktree cannot be added before the first commit; commit something first",
        ));
    }
    if path.symlink_metadata().is_ok() {
        return Err(Failure::field(
            Reason::InvalidField,
            "path",
            format!(
                "{} is there already; give a path where nothing is",
                path.display()
            ),
        ));
    }
    Ok(())
}

impl Mutation for StartThread {
    type Output = Thread;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let (places, asked) = (Arc::clone(&self.places), self.asked.clone());
        let prepared = blocking(move || prepare(&places, &asked)).await?;
        self.prepared = Some(prepared);
        Ok(())
    }

    fn intent(&self) -> Option<Intent> {
        let path = self.prepared.as_ref()?.path.as_deref().map(path_bytes)?;
        Some(Intent::new(ADD_WORKTREE, &AddedWorktree { path }))
    }

    async fn act(&mut self) -> Result<(), Unfinished> {
        let Prepared { path, base, .. } = self.prepared()?;
        let (Some(path), Some(base)) = (path.clone(), *base) else {
            return Ok(());
        };
        let repository = self.places.repository().clone();
        let added = blocking(move || Ok(repository.add_worktree(&path, base)?)).await?;
        self.added = Some(added.root);
        Ok(())
    }

    async fn undo(&mut self) -> Result<(), Failure> {
        let Some(path) = self.added.take() else {
            return Ok(());
        };
        let repository = self.places.repository().clone();
        blocking(move || Ok(repository.remove_worktree(&path)?)).await
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Thread, Failure> {
        let name = &self.asked.name;
        if tx.reads().thread(name.as_str())?.is_some() {
            return Err(exists(name));
        }
        if let Some(other) = tx.reads().threads_beside(name.as_str())?.first() {
            return Err(Failure::field(
                Reason::ThreadExists,
                "name",
                format!(
                    "`{name}` cannot be beside the thread `{}`: Git keeps refs as files, and one would be a folder of the other; choose another name",
                    other.name
                ),
            ));
        }
        let prepared = self.prepared()?;
        let base = prepared.base.map(StateId::to_vec);
        // A worktree of its own stands at the base; any other, where the caller stands.
        let head = if self.added.is_some() {
            base.clone()
        } else {
            prepared.head.map(StateId::to_vec)
        };
        let thread = Thread {
            declared: true,
            base_state: base.clone(),
            current_state: base.clone(),
            chain_head: head,
            path: self.added.as_deref().map(path_bytes),
            parent_thread: prepared.parent.as_ref().map(ToString::to_string),
            provider: self.asked.provider.clone(),
            model: self.asked.model.clone(),
            ..Thread::new(name, now_secs())
        };
        tx.put_thread(&thread)?;
        Ok(thread)
    }

    fn describe(&self, thread: &Thread) -> Option<Entry> {
        let name = &thread.name;
        let summary = match &self.added {
            Some(path) => format!("started thread `{name}` in {}", path.display()),
            None => format!("started thread `{name}`"),
        };
        Some(Entry {
            thread: Some(name.clone()),
            state_id: thread.base_state.clone(),
            ..Entry::new(Verb::ThreadCreate, summary)
        })
    }

    fn refs(&self, _: &Thread) -> Vec<RefMove> {
        let prepared = self.prepared.iter();
        let base = prepared.filter_map(|prepared| prepared.base);
        base.map(|base| RefMove::to(self.asked.name.reference(), base))
            .collect()
    }
}

/// Marks a thread complete.
pub struct CompleteThread {
    places: Arc<Places>,
    repo_path: String,
    name: String,
    found: Option<ThreadName>,
}

impl CompleteThread {
    /// The change that completes the thread `name`, or that of the worktree at `repo_path` where it
    /// is empty.
    pub fn new(places: Arc<Places>, repo_path: String, name: String) -> Self {
        Self {
            places,
            repo_path,
            name,
            found: None,
        }
    }
}

impl Mutation for CompleteThread {
    /// The thread, and whether it was not complete before.
    type Output = (Thread, bool);

    async fn prepare(&mut self) -> Result<(), Failure> {
        let (places, here) = (Arc::clone(&self.places), self.repo_path.clone());
        let name = self.name.clone();
        self.found = Some(blocking(move || places.named(&here, &name)).await?);
        Ok(())
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(Thread, bool), Failure> {
        let name = self
            .found
            .as_ref()
            .ok_or_else(|| Failure::new(Reason::Internal, "the change was not prepared"))?;
        let known = tx.reads().thread(name.as_str())?;
        // A branch that was never captured is a thread as well.
        let mut thread = known.unwrap_or_else(|| Thread::new(name, now_secs()));
        let changed = !thread.complete;
        if changed {
            thread.complete = true;
            thread.active_secs = now_secs();
            tx.put_thread(&thread)?;
        }
        Ok((thread, changed))
    }

    fn describe(&self, (thread, changed): &(Thread, bool)) -> Option<Entry> {
        changed.then(|| Entry {
            thread: Some(thread.name.clone()),
            state_id: thread.current_state.clone(),
            ..Entry::new(
                Verb::ThreadComplete,
                format!("completed thread `{}`", thread.name),
            )
        })
    }
}

fn exists(name: &ThreadName) -> Failure {
    Failure::field(
        Reason::ThreadExists,
        "name",
        format!("there is a thread `{name}` already; choose another name, or go on with that one"),
    )
}

fn path_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
