//! Telling systemd how the daemon is (sd_notify(3)). Without systemd nothing is told.

use std::{future::Future, sync::Arc, time::Duration};

use crate::grpc_local_impl::Services;

/// How far a timeout is extended each time, and how often that is said anew. For the first time it is
/// said early, since a unit may give less than ours does.
const EXTENSION: Duration = Duration::from_secs(20);
const EXTEND_FIRST: Duration = Duration::from_secs(1);
const EXTEND_EVERY: Duration = Duration::from_secs(8);

/// What the service manager is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum State<'a> {
    /// Lock held, store recovered, listening.
    Ready(&'a str),
    /// Draining.
    Stopping,
    /// Reading `config.toml` again; `Ready` follows.
    Reloading,
    /// Alive, and this is what it does.
    Watchdog(&'a str),
    /// This is what it does.
    Status(&'a str),
    /// Still busy with what it was told to do.
    Extend(Duration),
}

/// Says it, if somebody listens.
#[cfg(target_os = "linux")]
pub(super) fn tell(state: State<'_>) {
    use sd_notify::NotifyState;

    let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    let told = match state {
        State::Ready(status) => {
            sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])
        }
        State::Stopping => sd_notify::notify(&[
            NotifyState::Stopping,
            NotifyState::Status("finishing what is in flight"),
        ]),
        State::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
        State::Watchdog(status) => {
            sd_notify::notify(&[NotifyState::Watchdog, NotifyState::Status(status)])
        }
        State::Status(status) => sd_notify::notify(&[NotifyState::Status(status)]),
        State::Extend(time) => sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(micros(time))]),
    };
    if let Err(error) = told {
        tracing::warn!("the service manager could not be told: {error}");
    }
}

/// launchd is told nothing.
#[cfg(not(target_os = "linux"))]
pub(super) fn tell(state: State<'_>) {
    let _ = state;
}

/// Runs what may take longer than the manager's timeout, and asks for more time meanwhile.
pub(super) async fn extending<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut pause = EXTEND_FIRST;
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(pause) => tell(State::Extend(EXTENSION)),
        }
        pause = EXTEND_EVERY;
    }
}

/// Keeps the watchdog quiet for as long as the runtime, the writer and a read have each answered
/// since it was last told. Ends at once where no watchdog runs.
#[cfg(target_os = "linux")]
pub(super) async fn watchdog(services: Arc<Services>) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    // Half of it, as sd_watchdog_enabled(3) advises.
    let mut ticks = tokio::time::interval(limit / 2);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let wrote = services.store.writer_answers().await;
        let read = services.store.read_large(|tx| tx.newest_operation()).await;
        match (wrote, read) {
            (true, Ok(_)) => tell(State::Watchdog(&services.summary())),
            // Silence is the message: the manager starts another.
            (wrote, read) => tracing::error!(
                "the watchdog is not told: writer {}, read {}",
                if wrote { "answers" } else { "does not answer" },
                read.map_or_else(|e| e.to_string(), |_| "answers".to_owned()),
            ),
        }
    }
}

/// launchd has no watchdog.
#[cfg(not(target_os = "linux"))]
pub(super) async fn watchdog(services: Arc<Services>) {
    let _ = services;
}
