//! Accepting connections: only our own user's (G5), and without spinning when there are no
//! descriptors left.

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    time::Instant,
};

use super::{PeerCredentials, PeerError, activation::Listener, check_peer_uid_matches_self};

/// Pauses after accept(2) failed: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A connection of our own user's.
pub(super) type Accepted = (UnixStream, PeerCredentials);

/// The accepting side of a listener.
pub(super) struct Acceptor {
    listener: UnixListener,
    pause: Duration,
    paused_until: Option<Instant>,
}

impl Acceptor {
    /// Accepts from `listener`, sharing its socket.
    pub(super) fn new(listener: &Listener) -> io::Result<Self> {
        let socket = listener.socket().try_clone()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            listener: UnixListener::from_std(socket)?,
            pause: Duration::ZERO,
            paused_until: None,
        })
    }

    /// The next connection. It may be dropped and called again without losing one.
    pub(super) async fn next(&mut self) -> Accepted {
        loop {
            if let Some(until) = self.paused_until {
                tokio::time::sleep_until(until).await;
                self.paused_until = None;
            }
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    self.pause = Duration::ZERO;
                    if let Some(accepted) = ours(stream) {
                        return accepted;
                    }
                }
                Err(error) => self.back_off(&error),
            }
        }
    }

    fn back_off(&mut self, error: &io::Error) {
        let (first, longest) = PAUSES;
        if self.pause.is_zero() {
            tracing::warn!("cannot accept connections for now: {error}");
        }
        self.pause = (self.pause * 2).clamp(first, longest);
        self.paused_until = Some(Instant::now() + self.pause);
    }
}

/// A connection that waited in the queue of `listener`, if one did.
pub(super) fn queued(listener: &Listener) -> Option<Accepted> {
    loop {
        let stream = match listener.accept_queued() {
            Ok(stream) => stream,
            // Empty: in the second case, of a socket that takes no more (OwnSocket::unlink).
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::InvalidInput].contains(&e.kind()) => {
                return None;
            }
            Err(e) if is_about_one(&e) => continue,
            Err(e) => {
                tracing::warn!("those who still wait are not served: {e}");
                return None;
            }
        };
        stream.set_nonblocking(true).ok()?;
        let accepted = ours(UnixStream::from_std(stream).ok()?);
        if accepted.is_some() {
            return accepted;
        }
    }
}

/// Errors of accept(2) that tell of one connection, and not of the socket.
fn is_about_one(error: &io::Error) -> bool {
    [ErrorKind::ConnectionAborted, ErrorKind::Interrupted].contains(&error.kind())
}

/// Looks whose a connection is, before a byte of it is read; a stranger's is closed here.
fn ours(stream: UnixStream) -> Option<Accepted> {
    match check_peer_uid_matches_self(&stream) {
        Ok(peer) => return Some((stream, peer)),
        Err(PeerError::Stranger { uid, pid, .. }) => {
            tracing::warn!(uid, pid, "refused another user's process");
        }
        Err(error) => tracing::warn!("refused a connection: {error}"),
    }
    None
}
