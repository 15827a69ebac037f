//! Taking in the symbols of what is worked on, before anybody asks: when the daemon has started, and
//! when something has happened. It waits for events alone, counts as nothing that goes on, and is in
//! nobody's way.

use std::{sync::Arc, thread, time::Duration};

use tokio::{sync::oneshot, time::MissedTickBehavior};

use super::notify::{State, tell};
use crate::{
    failure::Failure,
    git::{GitDir, ObjectId},
    grpc_local_impl::Services,
};

/// After what happens it waits so long for what comes with it.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the service manager is told how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Takes in HEAD and the newest capture, and what comes after them, until the daemon drains.
pub(super) async fn warm_up(services: Arc<Services>) {
    let mut newest = services.road.newest();
    let draining = services.draining.clone();
    let by_events = async {
        loop {
            tokio::time::sleep(PAUSE).await;
            newest.mark_unchanged();
            once(&services).await;
            if newest.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = by_events => {}
        () = draining.cancelled() => {}
    }
}

/// Takes in what is new, on a thread of its own that gives way to all others.
async fn once(services: &Arc<Services>) {
    let (ended_tx, mut ended) = oneshot::channel::<()>();
    let working = Arc::clone(services);
    let work = move || {
        give_way();
        if let Err(failure) = take_in(&working) {
            tracing::debug!("symbols are not looked up in advance: {failure}");
        }
        drop(ended_tx);
    };
    let thread = thread::Builder::new().name("symbols".to_owned());
    if let Err(error) = thread.spawn(work) {
        return tracing::warn!("symbols are not looked up in advance: {error}");
    }
    let mut ticks = tokio::time::interval(TOLD_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let mut is_told = false;
    loop {
        tokio::select! {
            _ = &mut ended => break,
            _ = ticks.tick() => {
                is_told = true;
                tell(State::Status(&services.summary()));
            }
        }
    }
    if is_told {
        tell(State::Status(&services.summary()));
    }
}

fn take_in(services: &Services) -> Result<(), Failure> {
    // It maps nearly all of Git's packs.
    let git = services.captures.places().git()?.opened_anew()?;
    let stop = || services.draining.is_cancelled();
    // HEAD comes last: it is what progress is told of.
    let newest = services.store.read(|tx| tx.newest_tree())?;
    let newest = newest.and_then(|tree| ObjectId::try_from(&tree[..]).ok());
    for tree in newest.into_iter().chain(head_tree(&git)?) {
        // One that Git has only in part keeps no other from being taken in.
        if let Err(error) = services.index.warm(&git, tree, &stop) {
            tracing::debug!("{tree} is not in the index of symbols: {error}");
        }
    }
    if head_tree(&git)?.is_none() {
        services.index.has_nothing_to_do();
    }
    if services.index.tidy()
        && let Some(tree) = head_tree(&git)?
    {
        services.index.warm(&git, tree, &stop)?;
    }
    Ok(())
}

fn head_tree(git: &GitDir) -> Result<Option<ObjectId>, Failure> {
    let head = git.head()?.commit;
    Ok(head.map(|head| git.tree_of(head)).transpose()?)
}

/// Leaves the processor to whoever else wants it: on Linux a thread can have a priority of its own
/// (setpriority(2)).
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!("the priority stays: {error}");
    }
}
