//! The end of a daemon: what is in flight is finished, streams are told, and everything that it
//! made is let go of (G6, G7).

use std::{
    mem,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout};

use super::{
    accept::{Accepted, queued},
    activation::Listener,
    notify::{State, extending, tell},
    running::Running,
};

/// What writes whose callers were cut off are given beyond the drain deadline: mostly they wait for
/// the sync of what they have done.
const SETTLING: Duration = Duration::from_secs(2);
/// What closing the store is given beyond that. With the drain deadline as it is without being set,
/// both end well before TimeoutStopSec= of the unit and ExitTimeOut of the plist, 30 s.
const CLOSING: Duration = Duration::from_secs(10);

impl Running {
    /// Serves who is already here, and `waiting`, within the drain deadline; then closes the store
    /// and gives back socket, pidfile and lock. What does not end in time is left as by a kill, which
    /// loses nothing that was acknowledged (G4): the lock is then given back by the process's end.
    pub(super) async fn drain(self, mut waiting: Option<Accepted>) {
        let Self {
            services,
            mut connections,
            draining,
            drain_timeout,
            telling,
            pidfile,
            mut listener,
            acceptor,
            lock,
            ..
        } = self;
        tell(State::Stopping);
        tell(State::Extend(drain_timeout + SETTLING + CLOSING));
        let began = Instant::now();
        listener.unlink();
        drop(acceptor);
        draining.cancel();
        // Who connected before the unlink will find nobody else: they are served as well. What
        // waits in a socket that is lent is for whoever it is lent to next.
        let mut next = || {
            waiting.take().or_else(|| match &listener {
                Listener::Own(_) => queued(&listener),
                Listener::Inherited(_) => None,
            })
        };
        let empty = async {
            while let Some((stream, peer)) = next() {
                let room = connections.room().await;
                connections.serve(stream, peer, room);
            }
        };
        if timeout(drain_timeout, empty).await.is_err() {
            tracing::warn!("connections that waited were not served");
        }
        let left = drain_timeout.saturating_sub(began.elapsed());
        let cut = connections.drain(left).await;
        if cut > 0 {
            tracing::warn!(calls = cut, "the drain deadline cut off calls");
        }
        // Hooks that still run are asked by calls that were cut off, or told of what is kept.
        let left = drain_timeout.saturating_sub(began.elapsed());
        extending(services.hooks.close(telling, left)).await;
        let left = drain_timeout.saturating_sub(began.elapsed());
        let unended = extending(services.road.settled(left + SETTLING)).await;
        for write in &unended {
            let (method, since) = (write.method.trim_start_matches('/'), write.since);
            tracing::warn!(
                "the drain deadline passed with {method} under way for {:.1} s: it is cut off, and was not acknowledged",
                since.as_secs_f64()
            );
        }
        let store = services.store.clone();
        // On a thread of its own: those of the pool may all be at work for callers that are gone.
        let (done, closed) = oneshot::channel();
        std::thread::spawn(move || {
            services.captures.save();
            services.index.close();
            store.close();
            done.send(()).ok();
        });
        let closed = extending(timeout(CLOSING, closed)).await;
        match closed {
            Ok(Ok(())) => {}
            Ok(Err(_)) => tracing::error!("closing the store failed"),
            Err(_) => {
                tracing::error!("closing the store took too long: the next start recovers it")
            }
        }
        drop(pidfile);
        drop(listener);
        if unended.is_empty() && matches!(closed, Ok(Ok(()))) {
            drop(lock);
        } else {
            // Nobody else may write while threads of ours still could.
            mem::forget(lock);
        }
        tracing::info!("stopped");
    }
}
