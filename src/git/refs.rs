//! The refs under `refs/heddle/`: projections of what the store has committed. They are moved in
//! the order of commits by one thread; a move that fails is made again with the next one. No other
//! ref is ever touched (G9).

use std::{
    mem, slice,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use gix::refs::{
    FullName, Target,
    store::WriteReflog,
    transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog},
};

use super::{Repository, StateId};

/// Where everything of ours is.
pub const NAMESPACE: &str = "refs/heddle/";

/// Refs that are moved together; each is a file that is held meanwhile.
const AT_ONCE: usize = 64;

/// A move of one of our refs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefMove {
    /// Its place in the order of moves; given when it is committed.
    pub id: i64,
    /// The ref's full name.
    pub name: String,
    /// Where it goes; `None` deletes it.
    pub target: Option<StateId>,
}

impl RefMove {
    /// The ref `name` goes to `target`.
    pub fn to(name: String, target: StateId) -> Self {
        let target = Some(target);
        Self {
            id: 0,
            name,
            target,
        }
    }

    /// The ref `name` is deleted.
    pub fn delete(name: String) -> Self {
        Self {
            id: 0,
            name,
            target: None,
        }
    }

    /// Where it goes, as the store keeps it.
    pub fn target_bytes(&self) -> Option<&[u8]> {
        self.target.as_ref().map(StateId::as_bytes)
    }
}

/// Moves refs, in order. Clones are the same writer; its thread begins with the first move.
#[derive(Clone)]
pub struct RefWriter {
    inner: Arc<Inner>,
}

struct Inner {
    repository: Repository,
    queue: Mutex<Option<Sender<Job>>>,
    made: Arc<AtomicI64>,
}

struct Job {
    moves: Vec<RefMove>,
    done: Box<dyn FnOnce() + Send>,
}

impl RefWriter {
    /// The writer of a repository's refs.
    pub fn new(repository: Repository) -> Self {
        Self {
            inner: Arc::new(Inner {
                repository,
                queue: Mutex::default(),
                made: Arc::default(),
            }),
        }
    }

    /// The newest move that was made, and all before it.
    pub fn made(&self) -> Option<i64> {
        let made = self.inner.made.load(Ordering::Acquire);
        (made > 0).then_some(made)
    }

    /// Makes moves on this thread, while nobody else makes any.
    pub fn make_now(&self, moves: Vec<RefMove>) {
        Mover::new(&self.inner).make(moves);
    }

    /// Makes moves after all that were given before, and then calls `done`, also when a move could
    /// not be made: the store has it, and it is made with the next.
    pub fn make(&self, moves: Vec<RefMove>, done: impl FnOnce() + Send + 'static) {
        if moves.is_empty() {
            return done();
        }
        let mut queue = self.queue();
        let done = Box::new(done);
        let job = Job { moves, done };
        let unsent = match queue.as_ref() {
            Some(queue) => queue.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        let Some(job) = unsent else { return };
        match self.begin() {
            Ok(sender) => {
                // Its thread has just begun and waits for it.
                let _ = sender.send(job);
                *queue = Some(sender);
            }
            Err(error) => {
                tracing::error!("no thread to move refs with: {error}");
                (job.done)();
            }
        }
    }

    /// Calls `done` when all moves that were given before have been tried.
    pub fn after_all(&self, done: impl FnOnce() + Send + 'static) {
        let (moves, done) = (Vec::new(), Box::new(done));
        let job = Job { moves, done };
        let unsent = match self.queue().as_ref() {
            Some(queue) => queue.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        if let Some(job) = unsent {
            (job.done)();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Option<Sender<Job>>> {
        let queue = self.inner.queue.lock();
        queue.unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> std::io::Result<Sender<Job>> {
        let (sender, jobs) = channel();
        let mover = Mover::new(&self.inner);
        thread::Builder::new()
            .name("ref-writer".into())
            .spawn(move || mover.run(&jobs))?;
        Ok(sender)
    }
}

struct Mover {
    repository: Repository,
    git: Option<gix::Repository>,
    /// Those that could not be made, the newest of each ref, in their order.
    pending: Vec<RefMove>,
    made: Arc<AtomicI64>,
}

impl Mover {
    fn new(inner: &Inner) -> Self {
        Self {
            repository: inner.repository.clone(),
            git: None,
            pending: Vec::new(),
            made: Arc::clone(&inner.made),
        }
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            self.make(job.moves);
            (job.done)();
        }
    }

    fn make(&mut self, moves: Vec<RefMove>) {
        let Some(newest) = moves.last().map(|last| last.id) else {
            return;
        };
        for next in moves {
            self.pending.retain(|older| older.name != next.name);
            self.pending.push(next);
        }
        let mut pending = Vec::new();
        for some in mem::take(&mut self.pending).chunks(AT_ONCE) {
            // Together they are quicker: a packed ref that goes has the file of all written anew.
            if some.len() == 1 || self.git().and_then(|git| move_refs(&git, some)).is_err() {
                pending.extend_from_slice(some);
            }
        }
        pending.retain(|next| {
            let alone = slice::from_ref(next);
            let moved = self.git().and_then(|git| move_refs(&git, alone));
            if let Err(error) = &moved {
                tracing::warn!(
                    "{} is not moved yet, and will be with the next change: {error}",
                    next.name
                );
            }
            moved.is_err()
        });
        let made = pending.first().map_or(newest, |failed| failed.id - 1);
        self.pending = pending;
        self.made.store(made, Ordering::Release);
    }

    fn git(&mut self) -> Result<gix::Repository, gix::Error> {
        match &self.git {
            Some(git) => Ok(git.clone()),
            None => Ok(self.git.insert(self.repository.open_git()?).clone()),
        }
    }
}

/// Moves refs, all of them or none where one is held by somebody else.
fn move_refs(git: &gix::Repository, moves: &[RefMove]) -> Result<(), gix::Error> {
    let edits: Vec<RefEdit> = moves.iter().map(edit).collect::<Result<_, _>>()?;
    let mut git = git.clone();
    git.refs.write_reflog = WriteReflog::Disable;
    git.edit_references_as(edits, None)?;
    Ok(())
}

fn edit(to: &RefMove) -> Result<RefEdit, gix::Error> {
    let name = FullName::try_from(to.name.as_str()).map_err(gix::Error::from_error)?;
    let change = match to.target {
        Some(target) => Change::Update {
            log: LogChange::default(),
            // The store decides: what somebody else made of it is repaired.
            expected: PreviousValue::Any,
            new: Target::Object(target.into()),
        },
        None => Change::Delete {
            expected: PreviousValue::Any,
            log: RefLog::AndReference,
        },
    };
    Ok(RefEdit {
        change,
        name,
        deref: false,
    })
}
