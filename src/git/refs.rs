//! The refs under `refs/heddle/`: projections of what the store has committed. They are moved in
//! the order of commits by one thread; a move that fails is made again with the next one. No other
//! ref is ever touched (G9). The store forgets a move only once it is synced, which many share: what
//! a power cut takes is made again at the next start.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io, mem,
    path::{Path, PathBuf},
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
        let mut pending = mem::take(&mut self.pending);
        pending.retain(|next| {
            let moved = self.move_ref(next);
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

    fn move_ref(&mut self, to: &RefMove) -> Result<(), gix::Error> {
        let git = self.git()?;
        if !self.catching_up {
            return move_ref(&git, to);
        }
        if is_at(&git, to) {
            return Ok(());
        }
        tracing::info!("moving {}, which a crash left behind", to.name);
        remove_leftovers(&git, &to.name);
        move_ref(&git, to)
    }

    /// Makes durable what was moved, so that the store may forget it.
    fn sync(&mut self) {
        let folder = self.repository.common_dir().to_owned();
        for name in mem::take(&mut self.unsynced) {
            if let Err(e) = sync_ref(&folder, &name) {
                tracing::warn!("{name} is not synced yet: {e}");
                self.unsynced.insert(name);
            }
        }
        if self.unsynced.is_empty() {
            let failed = self.pending.iter().map(|failed| failed.id - 1).min();
            self.moves_unsynced = 0;
            self.made
                .store(failed.unwrap_or(self.newest), Ordering::Release);
        }
    }

    fn git(&mut self) -> Result<gix::Repository, gix::Error> {
        match &self.git {
            Some(git) => Ok(git.clone()),
            None => Ok(self.git.insert(self.repository.open_git()?).clone()),
        }
    }
}

/// Whether a ref is where a move takes it.
fn is_at(git: &gix::Repository, to: &RefMove) -> bool {
    let found = git.try_find_reference(to.name.as_str());
    match (found, to.target) {
        (Ok(None), None) => true,
        (Ok(Some(found)), Some(target)) => {
            found.target().try_id() == Some(gix::ObjectId::from(target).as_ref())
        }
        _ => false,
    }
}

/// A crash in the middle of a move leaves a lock; a power cut, a file in which nothing is. Git's own
/// locks last a moment, and nobody else has one on a ref of ours for longer.
fn remove_leftovers(git: &gix::Repository, name: &str) {
    let file = git.common_dir().join(name);
    let lock = PathBuf::from(format!("{}.lock", file.display()));
    let is_empty = |file: &Path| {
        file.symlink_metadata()
            .is_ok_and(|f| f.is_file() && f.len() == 0)
    };
    let left = [(&lock, lock.is_file()), (&file, is_empty(&file))];
    for (path, _) in left.iter().filter(|(_, left)| *left) {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("{} cannot be removed: {e}", path.display());
            }
            _ => tracing::info!("removed {}, which a crash left", path.display()),
        }
    }
}

/// Syncs a ref's file and the folders that lead to it. A ref without a file is among the packed
/// ones, or is deleted.
fn sync_ref(common_dir: &Path, name: &str) -> io::Result<()> {
    let sync = |path: &Path| match File::open(path).and_then(|file| file.sync_all()) {
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(false)
        }
        synced => synced.map(|()| true),
    };
    if !sync(&common_dir.join(name))? {
        sync(&common_dir.join("packed-refs"))?;
    }
    let folders = Path::new(name).ancestors().skip(1);
    for folder in folders.take_while(|folder| !folder.as_os_str().is_empty()) {
        sync(&common_dir.join(folder))?;
    }
    Ok(())
}

fn move_ref(git: &gix::Repository, to: &RefMove) -> Result<(), gix::Error> {
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
    let mut git = git.clone();
    git.refs.write_reflog = WriteReflog::Disable;
    let deref = false;
    git.edit_references_as(
        [RefEdit {
            change,
            name,
            deref,
        }],
        None,
    )?;
    Ok(())
}
