//! Captures and restores: a worktree becomes a state, and becomes one again. HEAD, branches and
//! index are never touched but by a restore that is asked to let the index follow (G9).

mod chain;
mod commands;
mod compare;
mod look;
mod preview;
mod recover;
mod restore;
mod scanners;
mod snapshot;
mod standing;
mod target;
mod told;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::OwnedMutexGuard;

use crate::{
    failure::Failure,
    git::{DEFAULT_SIZE_GUARD, LeftOut, StateId},
    mutation::{Gates, Locks, blocking},
    thread::{Place, Places, ThreadName},
};

pub use commands::{CaptureRecord, CaptureRequest, CaptureThread, PreparedCapture};
pub use compare::{CompareRequest, Compared, compare};
pub(crate) use look::moved;
pub use preview::{Preview, preview};
pub use restore::{RestoreRequest, RestoreState, Restored};
pub use snapshot::UNSAID;
pub use standing::Standing;
pub use target::Target;

use scanners::{Held, Scanners};
use told::Told;

/// What captures and restores of one repository share.
pub struct Captures {
    places: Arc<Places>,
    scanners: Scanners,
    /// Held by what advances a thread, from its preparation until it is published: two captures
    /// never prepare on one tip.
    threads: Locks<ThreadName>,
    size_guard: AtomicU64,
    told: Told,
}

impl Captures {
    /// Captures and restores in these places.
    pub fn new(places: Arc<Places>) -> Self {
        Self {
            scanners: Scanners::new(places.repository().clone()),
            threads: Locks::default(),
            size_guard: AtomicU64::new(DEFAULT_SIZE_GUARD),
            told: Told::default(),
            places,
        }
    }

    /// Where threads are worked on.
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// From now on, files that Git does not track and that have more bytes are left out.
    pub fn set_size_guard(&self, bytes: u64) {
        self.size_guard.store(bytes, Ordering::Relaxed);
    }

    /// The place that a `repo_path` means, with its scanner. Waits until nobody else has it.
    async fn hold(self: &Arc<Self>, repo_path: &str) -> Result<(Place, Held), Failure> {
        let place = self.place(repo_path, "").await?;
        let held = self.scanners.hold(&place.worktree).await;
        Ok((place, held))
    }

    /// Waits until nobody else advances the thread.
    pub async fn hold_thread(
        &self,
        thread: &str,
        gates: &Gates,
    ) -> Result<OwnedMutexGuard<()>, Failure> {
        gates.enter(thread)?;
        Ok(self
            .threads
            .hold(&ThreadName::known(thread.to_owned()))
            .await)
    }

    /// The place of a thread, held: nobody else advances the thread or looks at the worktree. What it
    /// is may have changed while it was waited for: then it is found anew.
    async fn enter(
        self: &Arc<Self>,
        repo_path: &str,
        thread: &str,
        gates: &Gates,
    ) -> Result<(Place, OwnedMutexGuard<()>, Held), Failure> {
        let mut place = self.place(repo_path, thread).await?;
        loop {
            gates.enter(place.thread.as_str())?;
            let thread_lock = self.threads.hold(&place.thread).await;
            let held = self.scanners.hold(&place.worktree).await;
            let now = self.place(repo_path, thread).await?;
            if now == place {
                return Ok((place, thread_lock, held));
            }
            place = now;
        }
    }

    /// The place of a thread, or of the worktree's own where it is empty.
    async fn place(self: &Arc<Self>, repo_path: &str, thread: &str) -> Result<Place, Failure> {
        let (captures, repo_path) = (Arc::clone(self), repo_path.to_owned());
        let thread = thread.to_owned();
        blocking(move || {
            let here = captures.places.worktree(&repo_path)?;
            captures.places.find(here, &thread)
        })
        .await
    }

    fn size_guard(&self) -> u64 {
        self.size_guard.load(Ordering::Relaxed)
    }

    /// Writes down what is known of the worktrees, so that the next daemon need not read every file
    /// again. Blocks; losing it loses nothing.
    pub fn save(&self) {
        self.scanners.save();
    }
}

/// A state that a worktree was captured as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The thread.
    pub thread: String,
    /// `active`, `complete` or `conflicted`.
    pub coordination_status: &'static str,
    /// The state.
    pub state: StateId,
    /// The state that it came after.
    pub parent: Option<StateId>,
    /// Whether nothing had changed, and the state is the one that was there before.
    pub unchanged: bool,
    /// How many paths differ from the parent.
    pub changed_paths: u32,
    /// What is not in it.
    pub left_out: Vec<LeftOut>,
}
