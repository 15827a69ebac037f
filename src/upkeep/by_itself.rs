//! Upkeep that nobody asked for: when a daemon has started, when its settings have changed, and
//! once in a while when something has happened. It waits for events alone: a repository that
//! nobody works in is left alone (G8).

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{CollectGarbage, Keep, counted, refs::our_call};
use crate::{failure::Failure, git::Repository, mutation::Road, store::Store};

/// Time between two looks for chains that are past their time, at least: they are kept for days.
const PAUSE: Duration = Duration::from_secs(10 * 60);

/// Drops chains that are past their time, for as long as the daemon runs.
pub async fn by_itself(
    store: Store,
    repository: Repository,
    road: Road,
    mut keep: watch::Receiver<Keep>,
) {
    let mut newest = road.newest();
    loop {
        let now = *keep.borrow_and_update();
        if let Err(failure) = collect(&store, &repository, &road, now).await {
            tracing::warn!("ended chains stay for now: {failure}");
        }
        if !occasion(&mut newest, &mut keep, PAUSE).await {
            return;
        }
    }
}

/// Waits for the next occasion; false when there will be none any more. What happens within `pause`
/// is none: the next operation after it is.
async fn occasion(
    newest: &mut watch::Receiver<u64>,
    keep: &mut watch::Receiver<Keep>,
    pause: Duration,
) -> bool {
    let due = Instant::now() + pause;
    newest.mark_unchanged();
    loop {
        tokio::select! {
            changed = newest.changed() => match changed {
                Ok(()) if Instant::now() >= due => return true,
                Ok(()) => {}
                Err(_) => return false,
            },
            changed = keep.changed() => return changed.is_ok(),
        }
    }
}

async fn collect(
    store: &Store,
    repository: &Repository,
    road: &Road,
    keep: Keep,
) -> Result<(), Failure> {
    loop {
        let collect = CollectGarbage::quiet(store.clone(), repository.clone(), keep);
        if !collect.has_work().await? {
            return Ok(());
        }
        let call = our_call("upkeep/CollectGarbage");
        let dropped = road
            .run(call, collect, |done| {
                done.dropped_chains.to_le_bytes().to_vec()
            })
            .await?;
        let dropped = dropped.try_into().map_or(0, u32::from_le_bytes);
        if dropped == 0 {
            return Ok(());
        }
        tracing::info!("dropped {} past their time", counted(dropped, "chain"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn operations_are_an_occasion_once_in_a_while_and_settings_always() {
        let (operations, mut newest) = watch::channel(0);
        let (settings, mut keep) = watch::channel(Keep::default());
        let mut waits = Box::pin(occasion(&mut newest, &mut keep, PAUSE));
        operations.send_replace(1);
        tokio::time::advance(PAUSE / 2).await;
        let soon = futures_util::poll!(&mut waits);
        assert!(soon.is_pending(), "an operation within the pause");
        tokio::time::advance(PAUSE).await;
        let quiet = futures_util::poll!(&mut waits);
        assert!(quiet.is_pending(), "time alone, which costs a wake-up");
        operations.send_replace(2);
        assert!(waits.await);

        let waits = occasion(&mut newest, &mut keep, PAUSE);
        settings.send_replace(Keep { chains: 1, days: 0 });
        assert!(waits.await);
        drop((operations, settings));
        assert!(!occasion(&mut newest, &mut keep, PAUSE).await);
    }
}
