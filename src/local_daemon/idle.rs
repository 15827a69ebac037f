//! When the daemon has been idle for long enough: no call, no stream, no connection that waits for
//! its first call. It wakes once per timeout at most, and never without one.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::status::Activity;

/// Resolves when nothing has been going on for the timeout, which may change meanwhile.
pub(super) async fn idle(activity: Activity, mut timeout: watch::Receiver<Option<Duration>>) {
    loop {
        let now = Instant::now();
        let wait = *timeout.borrow_and_update();
        let left = wait.map(|wait| {
            let quiet = activity
                .quiet_since()
                .map_or(Duration::ZERO, |since| now - since);
            wait.saturating_sub(quiet)
        });
        let Some(left) = left else {
            if timeout.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            continue;
        };
        if left.is_zero() && activity.busy() == 0 {
            return;
        }
        // While something goes on, the full timeout is the soonest that it could end.
        tokio::select! {
            () = tokio::time::sleep(left.max(Duration::from_millis(1))) => {}
            Ok(()) = timeout.changed() => {}
        }
    }
}
