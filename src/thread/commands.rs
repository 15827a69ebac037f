//! The writes on threads, apart from captures.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Places, Thread, ThreadName, newest_of, place::unknown, state_named};
use crate::{
    failure::{Failure, Reason},
    git::{RefMove, StateId},
    mutation::{
        Entry, Gates, Intent, Mutation, Parcel, PostThreadCreate, PreThreadCreate, Told,
        Unfinished, Verb, Within, blocking, now_secs, unprepared,
    },
    store::WriteTx,
};

/// Bytes that the name of a provider or of a model may have.
const AGENT_LIMIT: usize = 1024;

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
    gates: Gates,
    /// A thread as the calls before this one leave it, in a transaction.
    view: Option<Thread>,
    prepared: Option<StartedThread>,
}

/// A thread that is about to start: what a transaction keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartedThread {
    name: ThreadName,
    parent: Option<ThreadName>,
    base: Option<StateId>,
    /// The HEAD of the worktree that it is worked on in.
    head: Option<StateId>,
    provider: Option<String>,
    model: Option<String>,
    /// The worktree to add for it; a transaction has none.
    #[serde(skip)]
    path: Option<PathBuf>,
    /// The worktree that was added for it.
    #[serde(skip)]
    added: Option<PathBuf>,
}

impl StartThread {
    /// The change that starts a thread.
    pub fn new(places: Arc<Places>, asked: StartThreadRequest, gates: Gates) -> Self {
        Self {
            places,
            asked,
            gates,
            view: None,
            prepared: None,
        }
    }

    fn prepared(&mut self) -> Result<&mut StartedThread, Failure> {
        self.prepared.as_mut().ok_or_else(unprepared)
    }
}

/// Finds out where a thread starts, and refuses one that cannot; `view` is a thread as a transaction
/// leaves it. Blocks.
fn prepare(
    places: &Places,
    asked: &StartThreadRequest,
    view: Option<Thread>,
) -> Result<StartedThread, Failure> {
    let name = &asked.name;
    check_agent("provider", asked.provider.as_deref())?;
    check_agent("model", asked.model.as_deref())?;
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
        ("", Some(here)) => {
            let known = match view.filter(|view| view.name == here.thread.as_str()) {
                Some(view) => Some(view),
                None => places.store().read(|tx| tx.thread(here.thread.as_str()))?,
            };
            newest_of(known, head)
        }
        ("", None) => head,
        (from, Some(here)) => {
            let git = places.git_of(&here.worktree)?;
            Some(state_named(places, &git, from, "from_state")?)
        }
        (from, None) => Some(state_named(places, &git, from, "from_state")?),
    };
    let root = here.as_ref().map(|here| here.worktree.root.as_path());
    let root = root.unwrap_or(places.repository().root());
    let path = asked.path.as_ref().map(|path| root.join(path));
    if let Some(path) = &path {
        check_path(path, base)?;
    }
    // A worktree of its own stands at the base.
    let head = if path.is_some() { base } else { head };
    Ok(StartedThread {
        name: name.clone(),
        parent: here.map(|here| here.thread),
        base,
        head,
        provider: asked.provider.clone(),
        model: asked.model.clone(),
        path,
        added: None,
    })
}

fn check_agent(field: &'static str, value: Option<&str>) -> Result<(), Failure> {
    let bytes = value.map_or(0, str::len);
    if bytes <= AGENT_LIMIT {
        return Ok(());
    }
    let message = format!("the {field} has {bytes} bytes, and {AGENT_LIMIT} are the limit");
    Err(Failure::field(Reason::InvalidField, field, message))
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

    fn enter(&mut self, within: &Within) {
        self.view = within.view.clone();
    }

    async fn prepare(&mut self) -> Result<(), Failure> {
        let (places, asked) = (Arc::clone(&self.places), self.asked.clone());
        self.gates.enter(self.asked.name.as_str())?;
        let view = self.view.take();
        let prepared = blocking(move || prepare(&places, &asked, view)).await?;
        let question = || PreThreadCreate {
            name: self.asked.name.to_string(),
            from_state: prepared.base,
        };
        self.gates.ask(question).await?;
        self.prepared = Some(prepared);
        Ok(())
    }

    fn intent(&self) -> Option<Intent> {
        let path = self.prepared.as_ref()?.path.as_deref().map(path_bytes)?;
        Some(Intent::new(ADD_WORKTREE, &AddedWorktree { path }))
    }

    async fn act(&mut self) -> Result<(), Unfinished> {
        let repository = self.places.repository().clone();
        let prepared = self.prepared()?;
        let (Some(path), Some(base)) = (prepared.path.clone(), prepared.base) else {
            return Ok(());
        };
        let added = blocking(move || Ok(repository.add_worktree(&path, base)?)).await?;
        prepared.added = Some(added.root);
        Ok(())
    }

    async fn undo(&mut self) -> Result<(), Failure> {
        let repository = self.places.repository().clone();
        let Some(path) = self.prepared()?.added.take() else {
            return Ok(());
        };
        blocking(move || Ok(repository.remove_worktree(&path)?)).await
    }

    fn parcel(&self) -> Option<Parcel> {
        let prepared = self.prepared.as_ref()?;
        // To add a worktree cannot be tried out and taken back.
        let alone = prepared.path.is_none();
        alone.then(|| Parcel::new("start_thread.1", prepared))
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Thread, Failure> {
        self.prepared()?.apply(tx)
    }

    fn describe(&self, thread: &Thread) -> Option<Entry> {
        self.prepared.as_ref()?.describe(thread)
    }

    fn refs(&self, thread: &Thread) -> Vec<RefMove> {
        let prepared = self.prepared.as_ref();
        prepared.map_or_else(Vec::new, |prepared| prepared.refs(thread))
    }

    fn tell(&self, thread: &Thread, told: &mut Told<'_>) {
        if let Some(prepared) = &self.prepared {
            prepared.tell(thread, told);
        }
    }
}

impl Mutation for StartedThread {
    type Output = Thread;

    fn state(&self) -> Option<StateId> {
        self.base
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Thread, Failure> {
        let name = &self.name;
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
        let base = self.base.map(StateId::to_vec);
        if let Some(path) = &self.added {
            // Those that were there before are gone with their worktree.
            tx.leave_path(&path_bytes(path))?;
        }
        let thread = Thread {
            declared: true,
            base_state: base.clone(),
            current_state: base,
            chain_head: self.head.map(StateId::to_vec),
            path: self.added.as_deref().map(path_bytes),
            parent_thread: self.parent.as_ref().map(ToString::to_string),
            provider: self.provider.clone(),
            model: self.model.clone(),
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
        let base = self.base.into_iter();
        base.map(|base| RefMove::to(self.name.reference(), base))
            .collect()
    }

    fn tell(&self, thread: &Thread, told: &mut Told<'_>) {
        told.tell(|| PostThreadCreate {
            name: thread.name.clone(),
            state_id: self.base,
        });
    }
}

/// Marks a thread complete.
pub struct CompleteThread {
    places: Arc<Places>,
    repo_path: String,
    name: String,
    gates: Gates,
    in_transaction: bool,
    found: Option<CompletedThread>,
}

/// A thread that is about to be complete: what a transaction keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CompletedThread {
    name: ThreadName,
    /// Whether it is one only if the store says so, and not a branch.
    must_be_kept: bool,
    /// The HEAD of the worktree that is on it.
    head: Option<StateId>,
}

impl CompleteThread {
    /// The change that completes the thread `name`, or that of the worktree at `repo_path` where it
    /// is empty.
    pub fn new(places: Arc<Places>, repo_path: String, name: String, gates: Gates) -> Self {
        Self {
            places,
            repo_path,
            name,
            gates,
            in_transaction: false,
            found: None,
        }
    }

    fn found(&mut self) -> Result<&mut CompletedThread, Failure> {
        self.found.as_mut().ok_or_else(unprepared)
    }
}

impl Mutation for CompleteThread {
    /// The thread, and whether it was not complete before.
    type Output = (Thread, bool);

    fn enter(&mut self, _: &Within) {
        self.in_transaction = true;
    }

    async fn prepare(&mut self) -> Result<(), Failure> {
        let (places, here) = (Arc::clone(&self.places), self.repo_path.clone());
        let name = self.name.clone();
        let find = move || {
            let found = places.named(&here, &name)?;
            let head = places.head_of(&found)?;
            Ok((found, head))
        };
        let found = match blocking(find).await {
            // A call before this one may start it.
            Err(failure) if self.in_transaction && failure.reason == Reason::ThreadUnknown => {
                CompletedThread {
                    name: ThreadName::parse(&self.name, "name")?,
                    must_be_kept: true,
                    head: None,
                }
            }
            found => {
                let (name, head) = found?;
                CompletedThread {
                    name,
                    must_be_kept: false,
                    head,
                }
            }
        };
        self.gates.enter(found.name.as_str())?;
        self.found = Some(found);
        Ok(())
    }

    fn parcel(&self) -> Option<Parcel> {
        let found = self.found.as_ref()?;
        Some(Parcel::new("complete_thread.1", found))
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(Thread, bool), Failure> {
        self.found()?.apply(tx)
    }

    fn describe(&self, output: &(Thread, bool)) -> Option<Entry> {
        self.found.as_ref()?.describe(output)
    }
}

impl Mutation for CompletedThread {
    type Output = (Thread, bool);

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(Thread, bool), Failure> {
        let known = tx.reads().thread(self.name.as_str())?;
        if known.is_none() && self.must_be_kept {
            return Err(unknown(&self.name));
        }
        // A branch that was never captured is a thread as well.
        let mut thread = known.unwrap_or_else(|| Thread::new(&self.name, now_secs()));
        let changed = !thread.complete;
        if changed {
            thread.complete = true;
            thread.active_secs = now_secs();
            tx.put_thread(&thread)?;
        }
        thread.follow(self.head);
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
