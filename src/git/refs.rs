//! The refs under `refs/heddle/`: projections of what the store has committed. They are moved in
//! the order of commits by one thread; a move that fails is made again with the next one. No other
//! ref is ever touched (G9). The store forgets a move only once it is synced, which many share: what
//! a power cut takes is made again at the next start.

use std::{
    collections::BTreeSet,
    mem, slice,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use super::{
    Repository, StateId,
    ref_files::{is_at, move_refs, remove_leftovers, sync_refs},
};

/// Where everything of ours is.
pub const NAMESPACE: &str = "refs/heddle/";

/// Refs that are moved together; each is a file that is held meanwhile.
const AT_ONCE: usize = 64;
/// So many moves share their syncs.
const SYNCED_TOGETHER: usize = 64;

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

    /// The newest move that was made durably, and all before it.
    pub fn made(&self) -> Option<i64> {
        let made = self.inner.made.load(Ordering::Acquire);
        (made > 0).then_some(made)
    }

    /// Makes moves on this thread, durably, while nobody else makes any.
    pub fn make_now(&self, moves: Vec<RefMove>) {
        if !moves.is_empty() {
            let mut mover = Mover::new(&self.inner);
            mover.catching_up = true;
            mover.make(moves);
            mover.sync();
        }
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
    /// Those that were made and not synced, and the newest move then.
    unsynced: BTreeSet<String>,
    moves_unsynced: usize,
    newest: i64,
    made: Arc<AtomicI64>,
    /// What an earlier daemon left is in the way of nobody else.
    catching_up: bool,
}

impl Mover {
    fn new(inner: &Inner) -> Self {
        Self {
            repository: inner.repository.clone(),
            git: None,
            pending: Vec::new(),
            unsynced: BTreeSet::new(),
            moves_unsynced: 0,
            newest: 0,
            made: Arc::clone(&inner.made),
            catching_up: false,
        }
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            self.make(job.moves);
            (job.done)();
            // The caller does not wait for it.
            if self.moves_unsynced >= SYNCED_TOGETHER {
                self.sync();
            }
        }
    }

    fn make(&mut self, moves: Vec<RefMove>) {
        let Some(newest) = moves.last().map(|last| last.id) else {
            return;
        };
        self.moves_unsynced += moves.len();
        for next in moves {
            self.pending.retain(|older| older.name != next.name);
            self.pending.push(next);
        }
        let mut pending = Vec::new();
        for some in mem::take(&mut self.pending).chunks(AT_ONCE) {
            if !self.move_together(some) {
                pending.extend_from_slice(some);
            }
        }
        pending.retain(|next| {
            let moved = self.move_alone(next);
            match &moved {
                Ok(()) => {
                    self.unsynced.insert(next.name.clone());
                }
                Err(error) => tracing::warn!(
                    "{} is not moved yet, and will be with the next change: {error}",
                    next.name
                ),
            }
            moved.is_err()
        });
        self.newest = newest;
        self.pending = pending;
    }

    /// Whether all of them were moved: a packed ref that goes has the file of all written anew, and
    /// that for each of them. One that somebody else holds keeps all from being moved.
    fn move_together(&mut self, some: &[RefMove]) -> bool {
        if some.len() == 1 || self.catching_up {
            return false;
        }
        let moved = self.git().and_then(|git| move_refs(&git, some));
        if moved.is_ok() {
            self.unsynced.extend(some.iter().map(|a| a.name.clone()));
        }
        moved.is_ok()
    }

    fn move_alone(&mut self, to: &RefMove) -> Result<(), gix::Error> {
        let git = self.git()?;
        if self.catching_up {
            remove_leftovers(&git, &to.name);
            if is_at(&git, to) {
                return Ok(());
            }
        }
        move_refs(&git, slice::from_ref(to))
    }

    /// Makes durable what was moved, so that the store may forget it.
    fn sync(&mut self) {
        if let Err(e) = sync_refs(self.repository.common_dir(), &self.unsynced) {
            tracing::warn!("moved refs are not synced yet: {e}");
            return;
        }
        self.unsynced.clear();
        let failed = self.pending.iter().map(|failed| failed.id - 1).min();
        self.moves_unsynced = 0;
        self.made
            .store(failed.unwrap_or(self.newest), Ordering::Release);
    }

    fn git(&mut self) -> Result<gix::Repository, gix::Error> {
        match &self.git {
            Some(git) => Ok(git.clone()),
            None => Ok(self.git.insert(self.repository.open_git()?).clone()),
        }
    }
}
