//! The process that holds a repository's lock, as others see it: only an answer on the socket
//! proves that it serves (G2).

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};
use tonic::transport::{Channel, Endpoint, Uri};

use super::{
    RepositoryLock, activation::reachable, check_peer_uid_matches_self, default_socket_path,
};
use crate::{
    git::Repository,
    grpc_local_impl::proto::local::{
        GetStatusRequest, GetStatusResponse, daemon_service_client::DaemonServiceClient,
    },
};

/// How often to look again while waiting for a lock, which nothing can be told of.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a look at a repository's daemon finds.
pub enum Holder {
    /// It answers.
    Serving {
        /// A connection to it.
        channel: Channel,
        /// What it said.
        status: Box<GetStatusResponse>,
    },
    /// Nobody listens where clients look.
    Absent,
    /// The socket leads to the daemon of this other repository.
    Elsewhere(String),
    /// Somebody listens and does not answer, or is not one of ours.
    Silent(String),
}

/// Asks the daemon of a repository for its status, at most for `deadline`.
pub async fn ask(repository: &Repository, deadline: Duration) -> Holder {
    ask_at(repository, &default_socket_path(repository), deadline).await
}

/// Asks the daemon of a repository whose socket, or a link to it, lies at `usual`.
pub async fn ask_at(repository: &Repository, usual: &Path, deadline: Duration) -> Holder {
    let path = reachable(usual);
    let attempt = async {
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            // Nothing there, or nobody behind it (connect(2)).
            Err(e) if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&e.kind()) => {
                return Holder::Absent;
            }
            Err(e) => {
                return Holder::Silent(format!("{} cannot be reached: {e}", path.display()));
            }
        };
        // The server's user too: what it tells us is as good as who it is (G2, G5).
        if let Err(error) = check_peer_uid_matches_self(&stream) {
            return Holder::Silent(format!("{} is not ours: {error}", path.display()));
        }
        let answer = async {
            let channel = channel_over(stream, path.clone()).await?;
            let mut client = DaemonServiceClient::new(channel.clone());
            let status = client.get_status(GetStatusRequest::default()).await?;
            Ok::<_, Box<dyn std::error::Error>>((channel, status.into_inner()))
        };
        match answer.await {
            // A copied or moved folder, or a link that a checkout brought, may lead elsewhere.
            Ok((_, status)) if status.git_dir != repository.common_dir().to_string_lossy() => {
                Holder::Elsewhere(status.repository)
            }
            Ok((channel, status)) => Holder::Serving {
                channel,
                status: Box::new(status),
            },
            Err(error) => Holder::Silent(format!("{} does not answer: {error}", path.display())),
        }
    };
    timeout(deadline, attempt).await.unwrap_or_else(|_| {
        Holder::Silent(format!(
            "{} does not answer within {} s",
            path.display(),
            deadline.as_secs_f32()
        ))
    })
}

/// A channel whose first connection is `stream`; it connects to `path` again when that is lost.
async fn channel_over(
    stream: UnixStream,
    path: PathBuf,
) -> Result<Channel, tonic::transport::Error> {
    let mut first = Some(stream);
    let connector = tower::service_fn(move |_: Uri| {
        let (stream, path) = (first.take(), path.clone());
        async move {
            let stream = match stream {
                Some(stream) => stream,
                None => UnixStream::connect(&path).await?,
            };
            check_peer_uid_matches_self(&stream).map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The authority is what gRPC clients of a Unix socket send; nothing resolves it.
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
}

/// Whether some process holds the repository's lock.
pub fn lock_is_held(repository: &Repository) -> bool {
    RepositoryLock::is_held(&repository.store_dir())
}

/// Waits until nobody holds the lock in `store_dir`, at most for `deadline`; false if one still does.
pub async fn wait_until_free(store_dir: &Path, deadline: Duration) -> bool {
    let free = async {
        while RepositoryLock::is_held(store_dir) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    timeout(deadline, free).await.is_ok()
}
