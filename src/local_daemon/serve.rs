//! `serve`: from the lock to the drain, and what is said when it comes to nothing.

use std::{future::Future, io, pin::pin};

use super::{
    LocalDaemonConfig, RepositoryLock,
    activation::{Listener, ListenerSource},
    config::FileSettings,
    contend::take_lock,
    notify::extending,
    refuse::refuse_queued,
    running::Running,
};
use crate::{
    failure::{Failure, Reason},
    git::{self, Repository},
    store::{self, Store},
};

/// Why the daemon did not serve, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another daemon serves this repository (G1).
    #[error(
        "{repository} is served already, by process {pid} (heddle {version}); use that one, or stop it with `heddle agent stop`"
    )]
    AlreadyServed {
        /// The repository.
        repository: String,
        /// The process that serves it.
        pid: i32,
        /// Its version.
        version: String,
    },
    /// Another process holds the lock and does not answer.
    #[error("another process{} holds the lock of {repository} and does not answer; look at it with `heddle agent status`, or replace it with `heddle agent stop --force`", pid.map_or_else(String::new, |pid| format!(" ({pid})")))]
    Wedged {
        /// The repository.
        repository: String,
        /// The process, where the kernel tells.
        pid: Option<i32>,
    },
    /// The repository's folders cannot be used.
    #[error(transparent)]
    Repository(#[from] git::Error),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The services cannot be put together.
    #[error(transparent)]
    Services(#[from] Failure),
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why not.
        source: io::Error,
    },
    /// The daemon had to leave: it could not write any more.
    #[error("the daemon left: {0}")]
    Left(&'static str),
}

impl ServeError {
    /// What callers are told who waited for this daemon.
    fn failure(&self) -> Failure {
        let reason = match self {
            Self::AlreadyServed { .. } | Self::Wedged { .. } => Reason::ServedElsewhere,
            Self::Repository(_) => Reason::RepositoryRefused,
            Self::Store(error) => error.reason(),
            Self::Services(failure) => failure.reason,
            Self::Io { .. } | Self::Left(_) => Reason::Internal,
        };
        Failure::new(reason, self.to_string())
    }
}

pub(super) fn io_error(action: impl Into<String>) -> impl FnOnce(io::Error) -> ServeError {
    let action = action.into();
    move |source| ServeError::Io { action, source }
}

/// Runs the daemon of a repository until `shutdown` resolves, it has been idle for its timeout, or
/// a client asks it to leave; then drains (G7) and lets go of everything that it made (G6).
///
/// With a socket from a service manager it takes over from a daemon that bound for itself; where it
/// must not serve, it tells those who wait in the socket's queue why.
///
/// # Errors
/// When it cannot serve, or had to stop because it could not write any more.
pub async fn serve(
    repository: Repository,
    mut config: LocalDaemonConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let source = std::mem::replace(&mut config.listener, ListenerSource::OwnBind);
    let lent = match source {
        ListenerSource::OwnBind => None,
        ListenerSource::Inherited(socket) => {
            // systemd hands it over blocking (NonBlocking= in systemd.service(5)).
            socket
                .set_nonblocking(true)
                .map_err(io_error("use the socket that was handed over"))?;
            Some(Listener::Inherited(socket))
        }
    };
    // Kept beside the one that a start may fail with: who waits in it is told.
    let waiting = lent
        .as_ref()
        .and_then(|lent| lent.socket().try_clone().ok());
    let mut shutdown = pin!(shutdown);
    let start = async {
        let (lock, settings, store) = prepare(&repository, lent.as_ref()).await?;
        Running::start(repository.clone(), config, lent, settings, store, lock).await
    };
    let started = tokio::select! {
        started = start => started,
        // A lock may be waited for, or a log recovered: a stop does not wait for that.
        () = &mut shutdown => return Ok(()),
    };
    match started {
        Ok(running) => {
            drop(waiting);
            running.run(shutdown).await
        }
        Err(error) => {
            if let Some(waiting) = waiting {
                refuse_queued(&Listener::Inherited(waiting), &error.failure()).await;
            }
            Err(error)
        }
    }
}

async fn prepare(
    repository: &Repository,
    lent: Option<&Listener>,
) -> Result<(RepositoryLock, FileSettings, Store), ServeError> {
    repository.folders().create()?;
    let lock = extending(take_lock(repository, lent)).await?;
    let store_dir = repository.store_dir();
    let settings = FileSettings::load(&store_dir).map_err(io_error("start"))?;
    let witness = lock.witness();
    // A recovery may take long, and blocks.
    let opening = tokio::task::spawn_blocking(move || Store::open(&store_dir, Box::new(witness)));
    let store = extending(opening)
        .await
        .unwrap_or_else(|failed| Err(store::Error::Io(io::Error::other(failed))))?;
    Ok((lock, settings, store))
}
