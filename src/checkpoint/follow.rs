//! Following Git for as long as the daemon runs: woken by events, and by whoever asks for the log.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{begin::beginning, look::Look, record::Record};
use crate::{
    failure::Failure,
    git::{Moved, RefLogs, RefWatch},
    mutation::{Call, Road, blocking},
    store::Store,
    thread::Places as Threads,
};

/// Git is looked at when it has been quiet for so long,
const QUIET: Duration = Duration::from_millis(10);
/// or when something moved this long ago: a rebase of many commits is looked at in between.
const PATIENCE: Duration = Duration::from_millis(200);
/// Who asks for the log waits no longer than this for Git to be looked at.
const CATCHING_UP: Duration = Duration::from_secs(5);
/// Where nothing tells of moves, Git is looked at so often while somebody follows the log.
const EVERY: Duration = Duration::from_secs(1);

/// Puts what plain Git does into the operation log.
pub struct Checkpoints {
    store: Store,
    road: Road,
    threads: Arc<Threads>,
    logs: Arc<RefLogs>,
    ask: mpsc::UnboundedSender<Asked>,
    asked: Mutex<Option<mpsc::UnboundedReceiver<Asked>>>,
    following: Following,
}

/// Answered when Git was looked at after it was asked.
type Asked = oneshot::Sender<()>;

/// Somebody follows the log, for as long as this lives.
#[derive(Clone, Default)]
pub struct Following(Arc<()>);

impl Checkpoints {
    /// The checkpoints of the repository that has these threads, by this road into the store.
    pub fn new(threads: Arc<Threads>, store: Store, road: Road) -> Self {
        let (ask, asked) = mpsc::unbounded_channel();
        Self {
            logs: Arc::new(RefLogs::new(threads.repository())),
            threads,
            store,
            road,
            ask,
            asked: Mutex::new(Some(asked)),
            following: Following::default(),
        }
    }

    /// Notes where everything is at the first start in a repository: what moves from now on is told.
    ///
    /// # Errors
    /// When Git's folder cannot be read, or the store not written.
    pub async fn begin(&self) -> Result<(), Failure> {
        let (store, logs) = (self.store.clone(), Arc::clone(&self.logs));
        match blocking(move || beginning(&store, &logs)).await? {
            Some(beginning) => self.write(beginning).await,
            None => Ok(()),
        }
    }

    /// Waits until what Git did before is in the log; not for ever, and not for what cannot be read.
    pub async fn caught_up(&self) {
        let (done, answered) = oneshot::channel();
        // Refused where nobody looks any more: the daemon leaves.
        if self.ask.send(done).is_ok() {
            let _ = timeout(CATCHING_UP, answered).await;
        }
    }

    /// The same for who goes on to follow the log, for as long as what it answers lives.
    pub async fn followed(&self) -> Following {
        let following = self.following.clone();
        self.caught_up().await;
        following
    }

    async fn write(&self, record: Record) -> Result<(), Failure> {
        let call = Call::own("checkpoint");
        self.road.run(call, record, |_| Vec::new()).await.map(drop)
    }

    /// Looks at Git whenever it moves, until the daemon drains. What moved while no daemon ran is
    /// looked at first.
    pub async fn follow_git(self: Arc<Self>, draining: CancellationToken) {
        let asked = &self.asked;
        let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut asked) = asked else { return };
        let mut waiting: Vec<Asked> = Vec::new();
        let (mut watch, mut moved) = (self.watch().await, Moved::All);
        while !draining.is_cancelled() {
            let looked = self.look(&mut watch, moved).await;
            for asking in waiting.drain(..) {
                // Nobody misses an answer that is not waited for any more.
                let _ = asking.send(());
            }
            moved = looked.meanwhile;
            if moved.is_empty() {
                let somebody_follows = Arc::strong_count(&self.following.0) > 1;
                let blind = watch.is_blind();
                tokio::select! {
                    () = draining.cancelled() => return,
                    Some(asking) = asked.recv() => waiting.push(asking),
                    () = watch.changed() => settle(&mut watch, &mut asked, &mut waiting).await,
                    () = sleep(EVERY), if blind && somebody_follows => {}
                }
            }
            waiting.extend(std::iter::from_fn(|| asked.try_recv().ok()));
            moved.add(looked.again);
            moved.add(watch.take());
        }
    }

    async fn watch(&self) -> RefWatch {
        let repository = self.threads.repository().clone();
        // Two calls for each folder of branches and logs.
        let watch = blocking(move || Ok(RefWatch::start(&repository))).await;
        watch.unwrap_or_else(|_| RefWatch::blind())
    }

    /// Looks at what moved and writes it down; answers what to look at next.
    async fn look(&self, watch: &mut RefWatch, moved: Moved) -> Next {
        if moved.is_empty() {
            return Next::default();
        }
        match self.try_to_look(watch, moved.clone()).await {
            Ok(next) => next,
            Err(failure) => {
                tracing::warn!("what Git did is not in the log yet: {failure}");
                Next {
                    again: moved,
                    ..Next::default()
                }
            }
        }
    }

    async fn try_to_look(&self, watch: &mut RefWatch, moved: Moved) -> Result<Next, Failure> {
        // Without a beginning, all of history would be told.
        self.begin().await?;
        let (store, logs) = (self.store.clone(), Arc::clone(&self.logs));
        let threads = Arc::clone(&self.threads);
        let mut lent = std::mem::replace(watch, RefWatch::blind());
        let looked = blocking(move || {
            let look = Look::take((&store, &logs, &threads), moved, &mut lent);
            Ok((look, lent))
        });
        let mut look = match looked.await {
            Ok((look, lent)) => {
                *watch = lent;
                look?
            }
            Err(failure) => {
                *watch = self.watch().await;
                return Err(failure);
            }
        };
        for record in Record::all_of(&mut look) {
            self.write(record).await?;
        }
        Ok(Next {
            meanwhile: look.meanwhile,
            again: look.again,
        })
    }
}

/// What to look at next.
#[derive(Default)]
struct Next {
    /// At once.
    meanwhile: Moved,
    /// When something else moves.
    again: Moved,
}

/// Waits until Git is done with what it is doing, or somebody asks.
async fn settle(
    watch: &mut RefWatch,
    asked: &mut mpsc::UnboundedReceiver<Asked>,
    waiting: &mut Vec<Asked>,
) {
    let latest = Instant::now() + PATIENCE;
    loop {
        let quiet = latest.min(Instant::now() + QUIET);
        tokio::select! {
            () = watch.changed() => {}
            () = sleep_until(quiet) => return,
            Some(asking) = asked.recv() => return waiting.push(asking),
        }
        if Instant::now() >= latest {
            return;
        }
    }
}
