//! The writes on threads, apart from captures.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Place, Places, Thread, ThreadName, place::unknown};
use crate::{
    failure::{Failure, Reason},
    git::{RefMove, StateId},
    mutation::{Entry, Intent, Mutation, Verb, now_secs},
    store::WriteTx,
};

/// The kind of intent that stands for a worktree being added.
pub(crate) const ADD_WORKTREE: &str = "add_worktree";

/// A worktree that is being added, as it is written down before.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AddedWorktree {
    /// Where.
    pub path: PathBuf,
}

/// What a new thread is to be.
#[derive(Debug, Clone)]
pub struct StartThreadRequest {
    /// Its name.
    pub name: ThreadName,
    /// The state that it starts from, if the caller names one.
    pub from: Option<StateId>,
    /// Where to add a worktree for it.
    pub path: Option<PathBuf>,
    /// The provider of the agent that works on it.
    pub provider: Option<String>,
    /// The model of the agent that works on it.
    pub model: Option<String>,
}

/// Starts a thread.
pub struct StartThread {
    places: Arc<Places>,
    here: Place,
    asked: StartThreadRequest,
    base: Option<StateId>,
    added: Option<PathBuf>,
}

impl StartThread {
    /// The change that starts a thread; `here` is where the caller stands.
    pub fn new(places: Arc<Places>, here: Place, asked: StartThreadRequest) -> Self {
        Self {
            places,
            here,
            asked,
            base: None,
            added: None,
        }
    }

    fn base(&self) -> Result<Option<StateId>, Failure> {
        if let Some(from) = self.asked.from {
            return Ok(Some(from));
        }
        let head = self.places.git_of(&self.here.worktree)?.head()?.commit;
        let current = self.places.current_state(&self.here.thread, head)?;
        Ok(current.or(head))
    }
}

impl Mutation for StartThread {
    type Output = Thread;

    async fn prepare(&mut self) -> Result<(), Failure> {
        let name = &self.asked.name;
        if self.places.git()?.has_branch(name.as_str()) {
            return Err(Failure::field(
                Reason::ThreadExists,
                "name",
                format!(
                    "a branch is called `{name}`, and is a thread without being started; choose another name"
                ),
            ));
        }
        self.base = self.base()?;
        if let Some(path) = &self.asked.path {
            if self.base.is_none() {
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
        }
        self.places.store().read(|tx| {
            let known = tx.thread(self.asked.name.as_str())?;
            Ok(known.map_or(Ok(()), |_| Err(exists(&self.asked.name))))
        })?
    }

    fn intent(&self) -> Option<Intent> {
        let path = self.asked.path.clone()?;
        Some(Intent::new(ADD_WORKTREE, &AddedWorktree { path }))
    }

    async fn act(&mut self) -> Result<(), Failure> {
        let (Some(path), Some(base)) = (self.asked.path.clone(), self.base) else {
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
        let base = self.base.map(StateId::to_vec);
        let thread = Thread {
            declared: true,
            base_state: base.clone(),
            current_state: base.clone(),
            chain_head: base,
            path: self.added.as_deref().map(path_bytes),
            parent_thread: Some(self.here.thread.as_str().to_owned()),
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
        let base = self.base.into_iter();
        base.map(|base| RefMove::to(self.asked.name.reference(), base))
            .collect()
    }
}

/// Marks a thread complete.
pub struct CompleteThread {
    name: ThreadName,
}

impl CompleteThread {
    /// The change that completes the thread `name`.
    pub fn new(name: ThreadName) -> Self {
        Self { name }
    }
}

impl Mutation for CompleteThread {
    /// The thread, and whether it was not complete before.
    type Output = (Thread, bool);

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(Thread, bool), Failure> {
        let known = tx.reads().thread(self.name.as_str())?;
        let mut thread = known.ok_or_else(|| unknown(&self.name))?;
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

/// Runs what waits for disks or other programs on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|failed| {
            tracing::error!("a change failed while it was prepared: {failed}");
            Err(Failure::new(
                Reason::Internal,
                "the daemon failed while it carried out the call; its log says more",
            ))
        })
}
