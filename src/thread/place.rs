//! Which worktree and which thread a call means.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::ThreadName;
use crate::{
    failure::{Failure, Reason},
    git::{GitDir, OpenedGit, Repository, StateId, Worktree},
    store::{Line, Store},
};

/// A thread in the worktree where it is worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The worktree.
    pub worktree: Worktree,
    /// The thread.
    pub thread: ThreadName,
}

impl Place {
    /// Whose steps those of this place are.
    pub(crate) fn line(&self) -> Line<'_> {
        Line {
            worktree: self.worktree.id(),
            thread: self.thread.as_str(),
        }
    }
}

/// Finds worktrees and threads. Git is opened once for each worktree.
pub struct Places {
    repository: Repository,
    store: Store,
    opened: Mutex<HashMap<PathBuf, OpenedGit>>,
}

impl Places {
    /// The places of a repository.
    pub fn new(repository: Repository, store: Store) -> Self {
        Self {
            repository,
            store,
            opened: Mutex::default(),
        }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Git, opened on what all worktrees share.
    ///
    /// # Errors
    /// When Git's files cannot be read.
    pub fn git(&self) -> Result<GitDir, Failure> {
        self.opened(self.repository.common_dir())
    }

    /// Git, opened on a worktree.
    ///
    /// # Errors
    /// When Git's files cannot be read.
    pub fn git_of(&self, worktree: &Worktree) -> Result<GitDir, Failure> {
        self.opened(&worktree.git_dir)
    }

    fn opened(&self, path: &Path) -> Result<GitDir, Failure> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = opened.get(path)
            && known.is_current()
        {
            return Ok(known.git().clone());
        }
        let fresh = OpenedGit::open(path)?;
        let git = fresh.git().clone();
        opened.insert(path.to_owned(), fresh);
        Ok(git)
    }

    /// The HEAD of the worktree that is on a thread, if one is. Blocks.
    ///
    /// # Errors
    /// When Git cannot be read.
    pub(crate) fn head_of(&self, thread: &ThreadName) -> Result<Option<StateId>, Failure> {
        for worktree in self.repository.worktrees()? {
            if self.thread_of(&worktree)? == *thread {
                return Ok(self.git_of(&worktree)?.head()?.commit);
            }
        }
        Ok(None)
    }

    /// The worktree that a request's `repo_path` lies in; the main one where it is empty. Blocks.
    ///
    /// # Errors
    /// `NO_WORKTREE` where there is none: the repository is bare.
    pub fn worktree(&self, repo_path: &str) -> Result<Worktree, Failure> {
        let main = self.repository.main_worktree();
        let root = self.repository.root();
        let found = if repo_path.is_empty() || Path::new(repo_path) == root {
            main
        } else {
            self.repository.worktree_at(&root.join(repo_path))
        };
        let worktree = found.ok_or_else(|| {
            Failure::field(
                Reason::NoWorktree,
                "repo_path",
                format!(
                    "{} has no worktree there: it is bare; give the path of one of its linked worktrees",
                    root.display()
                ),
            )
        })?;
        if worktree.root.is_dir() {
            Ok(worktree)
        } else {
            Err(gone(&worktree.root))
        }
    }

    /// The thread that commits of a worktree belong to which are on no branch: the one that it was
    /// added for, or the one of its detached HEAD. `None` while a branch is checked out. Blocks.
    ///
    /// # Errors
    /// When Git or the store cannot be read.
    pub fn thread_off_branch(&self, worktree: &Worktree) -> Result<Option<ThreadName>, Failure> {
        let declared = self.store.read(|tx| tx.threads_at(worktree.key()))?;
        let on_branch = || Ok::<_, Failure>(self.git_of(worktree)?.head()?.branch.is_some());
        if declared.is_empty() && on_branch()? {
            return Ok(None);
        }
        self.thread_of(worktree).map(Some)
    }

    /// The thread that a worktree is on: the one it was added for, its branch, or the one that is
    /// remembered for its detached HEAD. Blocks.
    ///
    /// # Errors
    /// When Git or the store cannot be read.
    pub fn thread_of(&self, worktree: &Worktree) -> Result<ThreadName, Failure> {
        let (declared, remembered) = self.store.read(|tx| {
            let declared = tx.threads_at(worktree.key())?;
            Ok((declared, tx.thread_of_worktree(worktree.id())?))
        })?;
        if let Some(name) = declared.into_iter().next() {
            return Ok(ThreadName::known(name));
        }
        let name = match self.git_of(worktree)?.head()?.branch {
            Some(branch) => branch,
            None => remembered.unwrap_or_else(|| detached(worktree, &self.repository)),
        };
        Ok(ThreadName::known(name))
    }

    /// The thread `name`, or that of the worktree at `repo_path` where it is empty. Blocks.
    ///
    /// # Errors
    /// `THREAD_UNKNOWN`, or `NO_WORKTREE` where there is no worktree to be on a thread.
    pub fn named(&self, repo_path: &str, name: &str) -> Result<ThreadName, Failure> {
        if name.is_empty() {
            return self.thread_of(&self.worktree(repo_path)?);
        }
        let thread = ThreadName::parse(name, "name")?;
        let known = self.store.read(|tx| tx.thread(name))?.is_some();
        if known {
            return Ok(thread);
        }
        for worktree in self.repository.worktrees()? {
            if self.thread_of(&worktree)? == thread {
                return Ok(thread);
            }
        }
        Err(unknown(&thread))
    }

    /// The place of the thread `name`, or of the worktree's own where it is empty: a thread with a
    /// worktree is worked on there, and one without wherever the caller is. Blocks.
    ///
    /// # Errors
    /// `THREAD_UNKNOWN`, or as [`Places::thread_of`].
    pub fn find(&self, here: Worktree, name: &str) -> Result<Place, Failure> {
        let own = self.thread_of(&here)?;
        if name.is_empty() || name == own.as_str() {
            return Ok(Place {
                worktree: here,
                thread: own,
            });
        }
        let thread = ThreadName::parse(name, "name")?;
        let known = self.store.read(|tx| tx.thread(name))?;
        let own_path = known.as_ref().and_then(|known| known.own_path());
        if let Some(path) = &own_path
            && let Some(worktree) = self.repository.worktree_rooted(path)
        {
            return Ok(Place { worktree, thread });
        }
        for worktree in self.repository.worktrees()? {
            if self.thread_of(&worktree)? == thread {
                return Ok(Place { worktree, thread });
            }
        }
        // It may have been moved, and was looked for above.
        if let Some(path) = own_path {
            return Err(gone(&path));
        }
        match known {
            Some(known) if known.declared => Ok(Place {
                worktree: here,
                thread,
            }),
            _ => Err(unknown(&thread)),
        }
    }
}

/// There is no such thread.
pub(super) fn unknown(thread: &ThreadName) -> Failure {
    Failure::field(
        Reason::ThreadUnknown,
        "name",
        format!(
            "there is no thread `{thread}`, and no worktree has such a branch checked out; `heddle thread list` shows what there is, `heddle thread start {thread}` starts it"
        ),
    )
}

fn gone(path: &Path) -> Failure {
    Failure::new(
        Reason::WorktreeGone,
        format!(
            "the worktree {} is gone; bring it back, or run `git worktree prune` if it is not coming back",
            path.display()
        ),
    )
}

/// The thread of a worktree with a detached HEAD of which nothing else is known.
fn detached(worktree: &Worktree, repository: &Repository) -> String {
    format!("detached/{}", worktree.name(repository))
}
