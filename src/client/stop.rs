//! Stopping a daemon: by asking it; one that does not answer, by signals, and then only the very
//! process that holds the repository's lock.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use super::service::Service;
use super::{
    ANSWER_DEADLINE, Daemon, Error, Found, NOBODY_LISTENS, READY_DEADLINE, connect, find, wedged,
};
use crate::{
    git::Repository,
    grpc_local_impl::proto::local::{ShutdownRequest, daemon_service_client::DaemonServiceClient},
    local_daemon::{
        PidFileContents, activation::reachable, check_peer_uid_matches_self, default_pid_path,
        default_socket_path, has_ended, is_heddle_process, lock_holder, lock_is_held, pid_alive,
    },
};

/// How long a daemon that was told to end is given before it is killed.
const TERM_PATIENCE: Duration = Duration::from_secs(3);
/// How long the kernel is given to end what was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// How often to look whether a process is gone, which nothing tells of.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How a stop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// There was none.
    NotRunning,
    /// This process drained and is gone.
    Drained(i32),
    /// This process did not answer, was signalled and is gone.
    Forced(i32),
}

/// Stops the daemon of a repository and waits until its process is gone. With `force` also one
/// that does not answer, or does not end.
///
/// A service manager that holds its socket lets go of it first; what the user should know besides
/// is handed to `warn`.
///
/// # Errors
/// When it does not answer or end and `force` is not set, and when the process that holds the lock
/// is not a daemon of ours.
pub async fn stop(
    repository: &Repository,
    force: bool,
    warn: &dyn Fn(&str),
) -> Result<Stopped, Error> {
    let by_manager = stop_service(repository, warn);
    end(repository, force, by_manager).await
}

/// Ends the daemon and has another one serve. A service manager's socket stays, so that no call
/// fails meanwhile.
///
/// # Errors
/// Those of [`stop`] and [`connect`].
pub async fn restart(
    repository: &Repository,
    warn: &dyn Fn(&str),
) -> Result<(Option<Service>, Daemon), Error> {
    let service = Service::of(repository);
    let restarted = match &service {
        Some(service) => service.restart()?,
        None => false,
    };
    if !restarted {
        end(repository, false, None).await?;
    }
    Ok((service, connect(repository, warn).await?))
}

/// Ends the daemon itself. `by_manager` is the process that a service manager has ended.
async fn end(
    repository: &Repository,
    force: bool,
    by_manager: Option<i32>,
) -> Result<Stopped, Error> {
    let mut found = find(repository, ANSWER_DEADLINE).await;
    if let (Found::Between, false) = (&found, force) {
        // Most likely it is stopping already, and finishing what is in flight.
        found = find(repository, READY_DEADLINE).await;
    }
    match found {
        Found::NotRunning => Ok(by_manager.map_or(Stopped::NotRunning, Stopped::Drained)),
        Found::Serving(daemon) => {
            let pid = daemon.status.pid;
            let asked = DaemonServiceClient::new(daemon.channel)
                .shutdown(ShutdownRequest::default())
                .await;
            match asked {
                Ok(_) => {}
                // It may be gone before its answer is out.
                Err(status) if status.code() == tonic::Code::Unavailable => {}
                Err(status) => return Err(status.into()),
            }
            let patience = if force { TERM_PATIENCE } else { Duration::MAX };
            if gone(repository, pid, patience).await {
                Ok(Stopped::Drained(pid))
            } else {
                force_out(repository).await
            }
        }
        Found::Wedged(_) | Found::Between if force => force_out(repository).await,
        Found::Wedged(why) => Err(wedged(repository, why)),
        Found::Between => Err(wedged(repository, NOBODY_LISTENS.to_owned())),
    }
}

/// Ends daemon and socket through the service manager, which would start it again otherwise; answers
/// the process that it had started. One that cannot be asked may hold the socket still, or hold
/// nothing: the daemon is stopped all the same.
fn stop_service(repository: &Repository, warn: &dyn Fn(&str)) -> Option<i32> {
    let service = Service::of(repository)?;
    let pid = lock_holder(&repository.store_dir().join("lock"));
    match service.stop() {
        Ok(()) => pid,
        Err(error) => {
            warn(&format!(
                "{error}; the daemon is stopped without {}, which starts it again for the next call if it still listens",
                service.manager.name()
            ));
            None
        }
    }
}

/// Ends the process that holds the lock.
async fn force_out(repository: &Repository) -> Result<Stopped, Error> {
    let pid = holder(repository).await?;
    let process = Pid::from_raw(pid);
    let signal = |signal| match kill(process, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::Io {
            action: "signal the daemon",
            source: errno.into(),
        }),
    };
    signal(Signal::SIGTERM)?;
    // One that is stopped takes no signal before it goes on.
    signal(Signal::SIGCONT)?;
    if !gone(repository, pid, TERM_PATIENCE).await {
        // It may have ended meanwhile, and its number or the lock be another's.
        if holder(repository).await? != pid {
            return Ok(Stopped::Forced(pid));
        }
        signal(Signal::SIGKILL)?;
        if !gone(repository, pid, KILL_PATIENCE).await {
            return Err(Error::NotOurs(format!(
                "process {pid} was killed and does not end; the kernel may be waiting for a disk"
            )));
        }
    }
    Ok(Stopped::Forced(pid))
}

/// The process that holds the lock, if it is a daemon of ours. A pidfile proves nothing: its process
/// may be gone, and its number another's.
async fn holder(repository: &Repository) -> Result<i32, Error> {
    let lock = repository.store_dir().join("lock");
    let holder = match lock_holder(&lock) {
        Some(pid) => pid,
        None => listening_process(repository)
            .await
            .ok_or_else(|| unknown_holder(&lock))?,
    };
    let recorded = PidFileContents::read(&default_pid_path(repository)).map(|found| found.pid);
    if is_heddle_process(holder) || (recorded == Some(holder) && pid_alive(holder)) {
        Ok(holder)
    } else {
        Err(Error::NotOurs(format!(
            "process {holder} holds {} and is not a heddle daemon of yours, so it is not signalled; end it yourself if you know it",
            lock.display()
        )))
    }
}

/// Where the kernel does not tell of locks, it tells who listens: also of one that is stopped.
async fn listening_process(repository: &Repository) -> Option<i32> {
    let path = reachable(&default_socket_path(repository));
    let stream = UnixStream::connect(path).await.ok()?;
    check_peer_uid_matches_self(&stream).ok()?.pid
}

fn unknown_holder(lock: &std::path::Path) -> Error {
    Error::NotOurs(format!(
        "which process holds {} cannot be told, so none is signalled; `fuser {}` may know",
        lock.display(),
        lock.display()
    ))
}

/// Waits until the process holds the lock no more and has ended; false when `patience` is over
/// before. Another daemon may have the lock by then: that one was not to be stopped.
async fn gone(repository: &Repository, pid: i32, patience: Duration) -> bool {
    let give_up = Instant::now().checked_add(patience);
    while holds(repository, pid) {
        if give_up.is_some_and(|at| Instant::now() >= at) {
            return false;
        }
        sleep(LOOK_AGAIN).await;
    }
    // The lock goes when the process ends; its number goes a moment later.
    let reaped = Instant::now() + Duration::from_secs(1);
    while !has_ended(pid) && Instant::now() < reaped {
        sleep(Duration::from_millis(2)).await;
    }
    true
}

/// Whether this very process holds the lock; where the kernel does not tell, whether it may.
fn holds(repository: &Repository, pid: i32) -> bool {
    match lock_holder(&repository.store_dir().join("lock")) {
        Some(holder) => holder == pid,
        None => lock_is_held(repository) && pid_alive(pid),
    }
}
