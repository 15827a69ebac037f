//! Getting the lock where another process may hold it (G1): one that serves is left alone, or asked
//! to make room for a service manager's; one that drains or is silent is waited for.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Holder, RepositoryLock, ServeError,
    activation::{Listener, reachable},
    ask, default_socket_path,
    process::lock_holder,
    serve::io_error,
};
use crate::{
    git::Repository,
    grpc_local_impl::proto::local::{
        GetStatusResponse, ShutdownRequest, daemon_service_client::DaemonServiceClient,
        listener::Origin,
    },
};

/// How long a holder of the lock that is draining or silent is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one that was asked to make room is waited for: its drain deadline is its own.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(60);
/// How long a holder is given to answer each time it is asked.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// How often to look again: nothing tells of a lock that is given back.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Takes the lock, or finds out why not. `lent` is the service manager's socket, if there is one.
pub(super) async fn take_lock(
    repository: &Repository,
    lent: Option<&Listener>,
) -> Result<RepositoryLock, ServeError> {
    let store_dir = repository.store_dir();
    let mut give_up = Instant::now() + PATIENCE;
    let mut asked_for_room = None;
    loop {
        if let Some(lock) = RepositoryLock::try_take(&store_dir)
            .map_err(io_error(format!("lock {}", store_dir.display())))?
        {
            return Ok(lock);
        }
        if Instant::now() >= give_up {
            return Err(ServeError::Wedged {
                repository: name(repository),
                pid: lock_holder(&store_dir.join("lock")),
            });
        }
        if let Some((holder, status)) = holder(repository, lent).await
            && !status.draining
        {
            let bound_for_itself = status
                .listener
                .as_ref()
                .is_some_and(|listener| listener.origin() == Origin::OwnBind);
            if lent.is_none() || !bound_for_itself {
                return Err(ServeError::AlreadyServed {
                    repository: name(repository),
                    pid: status.pid,
                    version: status.version,
                });
            }
            // A client may have started another one meanwhile.
            if asked_for_room != Some(status.pid) {
                tracing::info!(
                    pid = status.pid,
                    "asking the daemon that serves to make room"
                );
                make_room(holder).await;
                asked_for_room = Some(status.pid);
                give_up = Instant::now() + TAKEOVER_PATIENCE;
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

type Client = DaemonServiceClient<tonic::transport::Channel>;

/// The daemon that holds the lock, if it answers.
async fn holder(
    repository: &Repository,
    lent: Option<&Listener>,
) -> Option<(Client, GetStatusResponse)> {
    let usual = default_socket_path(repository);
    // Nobody answers on our own socket before we do.
    if lent.is_some_and(|lent| lent.path() == reachable(&usual).display().to_string()) {
        return None;
    }
    match ask(repository, ANSWER_DEADLINE).await {
        Holder::Serving { channel, status } => Some((Client::new(channel), *status)),
        Holder::Absent | Holder::Elsewhere(_) | Holder::Silent(_) => None,
    }
}

async fn make_room(mut holder: Client) {
    if let Err(status) = holder.shutdown(ShutdownRequest::default()).await {
        tracing::warn!("it did not take that well: {}", status.message());
    }
}

fn name(repository: &Repository) -> String {
    repository.root().display().to_string()
}
