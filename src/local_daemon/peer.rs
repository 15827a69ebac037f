//! Peer credentials are the authentication (G5): the kernel tells whose process is at the other end
//! of a connection, and only our own user is served.

use nix::unistd::Uid;
use tokio::net::UnixStream;

/// Who is at the other end of a connection, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// The user that connected, or for a client, that listens.
    pub uid: u32,
    /// The process, where the kernel tells it; advisory, it may be gone.
    pub pid: Option<i32>,
}

/// Why a peer is not served.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Another user's process.
    #[error("the peer (pid {}) runs as uid {uid}, not as ours, uid {ours}", pid.unwrap_or(0))]
    Stranger {
        /// The peer's user.
        uid: u32,
        /// The peer's process.
        pid: Option<i32>,
        /// Our user.
        ours: u32,
    },
    /// The kernel does not say whose it is.
    #[error("the kernel does not tell whose the peer is: {0}")]
    Unknown(#[from] std::io::Error),
}

/// Asks the kernel whose a connection is (SO_PEERCRED in unix(7); getpeereid(3) on macOS) and
/// accepts only our own user.
///
/// # Errors
/// When it is another user's, or the kernel does not say.
pub fn check_peer_uid_matches_self(stream: &UnixStream) -> Result<PeerCredentials, PeerError> {
    let found = stream.peer_cred()?;
    let peer = PeerCredentials {
        uid: found.uid(),
        pid: found.pid(),
    };
    let ours = Uid::effective().as_raw();
    if peer.uid == ours {
        Ok(peer)
    } else {
        Err(PeerError::Stranger {
            uid: peer.uid,
            pid: peer.pid,
            ours,
        })
    }
}
