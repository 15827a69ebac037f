//! Upkeep that nobody asked for: when a daemon has started, when its settings have changed, and
//! once in a while when something has happened. It waits for events alone: a repository that
//! nobody works in is left alone (G8).

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{CollectGarbage, Keep, counted};
use crate::{
    failure::Failure,
    git::Repository,
    mutation::{Call, Road},
    store::Store,
};

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
        let keeping = *keep.borrow_and_update();
        if let Err(failure) = collect(&store, &repository, &road, keeping).await {
            tracing::warn!("ended chains stay for now: {failure}");
        }
        let looked = Instant::now();
        let due = || looked.elapsed() >= PAUSE;
        if !occasion(&mut newest, &mut keep, due).await {
            return;
        }
    }
}

/// Waits for the next occasion; false when there will be none any more. What happens before it is
/// `due` is none: the next operation after that is.
async fn occasion(
    newest: &mut watch::Receiver<u64>,
    keep: &mut watch::Receiver<Keep>,
    due: impl Fn() -> bool,
) -> bool {
    newest.mark_unchanged();
    loop {
        tokio::select! {
            changed = newest.changed() => match changed {
                Ok(()) if due() => return true,
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
        let call = Call::own("upkeep/CollectGarbage");
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
    use std::cell::Cell;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn operations_are_an_occasion_once_in_a_while_and_settings_always() {
        let (operations, mut newest) = watch::channel(0);
        let (settings, mut keep) = watch::channel(Keep::default());
        let due = Cell::new(false);
        let mut waits = Box::pin(occasion(&mut newest, &mut keep, || due.get()));
        operations.send_replace(1);
        assert!(poll!(&mut waits).is_pending(), "too soon");
        due.set(true);
        assert!(poll!(&mut waits).is_pending(), "nothing happened");
        operations.send_replace(2);
        assert!(waits.await);

        settings.send_replace(Keep { chains: 1, days: 0 });
        assert!(occasion(&mut newest, &mut keep, || false).await);
        drop((operations, settings));
        assert!(!occasion(&mut newest, &mut keep, || true).await);
    }
}
