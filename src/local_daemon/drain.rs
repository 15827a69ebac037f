//! The end of a daemon: what is in flight is finished, streams are told, and everything that it
//! made is let go of (G6, G7).

use std::time::{Duration, Instant};

use tokio::{sync::oneshot, time::timeout};

use super::{
    accept::{Accepted, queued},
    activation::Listener,
    notify::{State, extending, tell},
    running::Running,
};

/// What closing the store is given beyond the drain deadline.
const CLOSING: Duration = Duration::from_secs(10);

impl Running {
    /// Serves who is already here, and `waiting`, within the drain deadline; then closes the store
    /// and gives back socket, pidfile and lock.
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
        tell(State::Extend(drain_timeout + CLOSING));
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
        extending(services.road.settled()).await;
        let store = services.store.clone();
        // On a thread of its own: those of the pool may all be at work for callers that are gone.
        let (done, closed) = oneshot::channel();
        std::thread::spawn(move || {
            services.captures.save();
            services.index.close();
            store.close();
            done.send(()).ok();
        });
        if extending(closed).await.is_err() {
            tracing::error!("closing the store failed");
        }
        drop(pidfile);
        drop(listener);
        drop(lock);
        tracing::info!("stopped");
    }
}
