//! `serve`: who may serve, and why not. The lock decides (G1).

use std::{future::Future, io, time::Duration};

use tokio::time::Instant;

use super::{
    Holder, LocalDaemonConfig, RepositoryLock, ask, config::FileSettings, process::lock_holder,
    running::Running,
};
use crate::{
    failure::Failure,
    git::{self, Repository},
    store::{self, Store},
};

/// How long a holder of the lock that is draining or silent is waited for.
const HOLDER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a holder is given to answer each time it is asked.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

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

pub(super) fn io_error(action: impl Into<String>) -> impl FnOnce(io::Error) -> ServeError {
    let action = action.into();
    move |source| ServeError::Io { action, source }
}

/// Runs the daemon of a repository until `shutdown` resolves, it has been idle for its timeout, or
/// a client asks it to leave; then drains (G7) and lets go of everything that it made (G6).
///
/// # Errors
/// When it cannot serve, or had to stop because it could not write any more.
pub async fn serve(
    repository: Repository,
    config: LocalDaemonConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    repository.folders().create()?;
    let lock = take_lock(&repository).await?;
    let settings = FileSettings::load(&repository.store_dir()).map_err(io_error("start"))?;
    let witness = lock.witness();
    let store = Store::open(&repository.store_dir(), Box::new(witness))?;
    let running = Running::start(repository, config, settings, store, lock).await?;
    running.run(shutdown).await
}

/// Takes the lock, or finds out why not (G1).
async fn take_lock(repository: &Repository) -> Result<RepositoryLock, ServeError> {
    let store_dir = repository.store_dir();
    let give_up = Instant::now() + HOLDER_PATIENCE;
    loop {
        if let Some(lock) = RepositoryLock::try_take(&store_dir)
            .map_err(io_error(format!("lock {}", store_dir.display())))?
        {
            return Ok(lock);
        }
        let name = || repository.root().display().to_string();
        match ask(repository, ANSWER_DEADLINE).await {
            Holder::Serving { status, .. } if !status.draining => {
                return Err(ServeError::AlreadyServed {
                    repository: name(),
                    pid: status.pid,
                    version: status.version,
                });
            }
            _ if Instant::now() >= give_up => {
                return Err(ServeError::Wedged {
                    repository: name(),
                    pid: lock_holder(&store_dir.join("lock")),
                });
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
