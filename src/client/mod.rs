//! The client's side: find the daemon of a repository, start one where none serves, and talk to it.
//! It believes only an answer on the socket (G2), from its own user (G5).

mod address;
mod call;
mod follow;
pub mod service;
mod start;
mod stop;

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

pub use address::address;
pub use call::call;
pub use follow::follow;
pub use start::{ALREADY_SERVED, READY};
pub use stop::{Stopped, restart, stop};

use service::Service;

use crate::{
    git::Repository,
    grpc_local_impl::proto::local::{
        GetStatusResponse, ShutdownRequest, daemon_service_client::DaemonServiceClient,
    },
    local_daemon::{Holder, ask, ask_at, lock_is_held, wait_until_free},
};

/// How long a daemon is given to answer.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// How long a start, a recovery or another's drain is waited for.
pub const READY_DEADLINE: Duration = Duration::from_secs(15);

/// Why no daemon could be talked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process holds the lock and does not answer.
    #[error("the daemon of {repository} does not answer{}; replace it with `heddle agent stop --force`", detail(.why))]
    Wedged {
        /// The repository.
        repository: String,
        /// What was seen of it.
        why: String,
    },
    /// A daemon was started and did not become ready.
    #[error("no daemon could be started for {repository}: {why}")]
    NotStarted {
        /// The repository.
        repository: String,
        /// What it said, or what happened to it.
        why: String,
    },
    /// Daemon after daemon went away before it answered.
    #[error(
        "the daemon of {repository} went away before it answered, several times ({why}); look at .heddle/agent.log or the journal, then try again"
    )]
    Lost {
        /// The repository.
        repository: String,
        /// What was seen of the last one.
        why: String,
    },
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A call was answered with an error.
    #[error("{}", .0.message())]
    Status(#[from] tonic::Status),
    /// The service manager refused.
    #[error(transparent)]
    Service(#[from] service::Error),
    /// A process that must not be signalled.
    #[error("{0}")]
    NotOurs(String),
}

fn detail(why: &str) -> String {
    if why.is_empty() {
        String::new()
    } else {
        format!(" ({why})")
    }
}

/// A daemon that answered.
pub struct Daemon {
    /// A connection to it.
    pub channel: Channel,
    /// What it said of itself.
    pub status: Box<GetStatusResponse>,
}

/// What a look at a repository's daemon finds (G2).
pub enum Found {
    /// It answers.
    Serving(Daemon),
    /// No process holds the lock.
    NotRunning,
    /// A process holds the lock and nothing listens: it starts, stops, or cannot be reached.
    Between,
    /// A process holds the lock and does not answer.
    Wedged(String),
}

/// Looks for the daemon of a repository without starting one. A holder of the lock that is
/// starting or draining is waited for, until `patience` is over.
pub async fn find(repository: &Repository, patience: Duration) -> Found {
    let give_up = Instant::now() + patience;
    loop {
        // A service manager's socket is always there; to connect would be to start the daemon.
        if Service::of(repository).is_some() && !lock_is_held(repository) {
            return Found::NotRunning;
        }
        let why = match ask(repository, ANSWER_DEADLINE.min(patience)).await {
            Holder::Serving { channel, status } if !status.draining => {
                return Found::Serving(Daemon { channel, status });
            }
            Holder::Serving { .. } | Holder::Absent => None,
            Holder::Elsewhere(other) => Some(leads_elsewhere(&other)),
            Holder::Silent(why) => Some(why),
        };
        if !lock_is_held(repository) {
            return Found::NotRunning;
        }
        let now = Instant::now();
        if now >= give_up {
            return why.map_or(Found::Between, Found::Wedged);
        }
        let pause = Duration::from_millis(50).min(give_up - now);
        wait_until_free(&repository.store_dir(), pause).await;
    }
}

/// The daemon of a repository; starts one where none serves, and replaces an idle older one. What
/// the user should know besides is handed to `warn`.
///
/// # Errors
/// When the one there is does not answer, or none can be started.
pub async fn connect(repository: &Repository, warn: &dyn Fn(&str)) -> Result<Daemon, Error> {
    let name = || repository.root().display().to_string();
    let give_up = Instant::now() + READY_DEADLINE;
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        match find(repository, left).await {
            Found::Serving(daemon) => {
                match compare_versions(&daemon.status.version) {
                    Age::Same => {}
                    Age::Older if starts_us(repository) && replace(&daemon, repository).await => {
                        continue;
                    }
                    Age::Older => warn(&skew(
                        &daemon,
                        "it goes on as it is; when it can be spared, run `heddle agent stop`, or `heddle agent install` again where it is a service",
                    )),
                    Age::Newer => warn(&skew(&daemon, "upgrade this one")),
                }
                return Ok(daemon);
            }
            Found::Wedged(why) => return Err(wedged(repository, why)),
            Found::Between => return Err(wedged(repository, NOBODY_LISTENS.to_owned())),
            Found::NotRunning if left.is_zero() => {
                return Err(Error::NotStarted {
                    repository: name(),
                    why: format!("it was not ready within {} s", READY_DEADLINE.as_secs()),
                });
            }
            Found::NotRunning => match Service::of(repository) {
                Some(service) => match activate(repository, &service, left).await {
                    Ok(Some(daemon)) => return Ok(daemon),
                    // The socket may be about to come, or to be taken over.
                    Ok(None) => sleep(Duration::from_millis(50)).await,
                    Err(Error::Service(error)) => {
                        warn(&format!("{error}; a daemon is started without it"));
                        start::start(repository, left).await?;
                    }
                    Err(error) => return Err(error),
                },
                None => start::start(repository, left).await?,
            },
        }
    }
}

/// Lets the service manager start the daemon: connecting is all it takes, once it listens. `None`
/// when nothing came of it and another look may help.
async fn activate(
    repository: &Repository,
    service: &Service,
    deadline: Duration,
) -> Result<Option<Daemon>, Error> {
    let socket = service.socket()?;
    if !service.is_listening() {
        service.listen()?;
    }
    let not_started = |why| Error::NotStarted {
        repository: repository.root().display().to_string(),
        why,
    };
    match ask_at(repository, &socket, deadline).await {
        Holder::Serving { channel, status } => Ok(Some(Daemon { channel, status })),
        Holder::Absent => Ok(None),
        Holder::Elsewhere(other) => Err(not_started(leads_elsewhere(&other))),
        Holder::Silent(why) => Err(not_started(why)),
    }
}

fn leads_elsewhere(other: &str) -> String {
    format!("its socket leads to the daemon of {other}")
}

/// What is said of a lock that is held while nobody listens.
pub const NOBODY_LISTENS: &str = "nothing listens on its socket";

fn wedged(repository: &Repository, why: String) -> Error {
    Error::Wedged {
        repository: repository.root().display().to_string(),
        why,
    }
}

/// Whether the daemon that comes after the present one would be of this executable.
fn starts_us(repository: &Repository) -> bool {
    Service::of(repository)
        .is_none_or(|service| std::env::current_exe().is_ok_and(|ours| service.starts(&ours)))
}

enum Age {
    Older,
    Same,
    Newer,
}

fn compare_versions(theirs: &str) -> Age {
    let numbers = |version: &str| -> Vec<u64> {
        let release = version.split(['-', '+']).next().unwrap_or_default();
        release.split('.').filter_map(|n| n.parse().ok()).collect()
    };
    match numbers(theirs).cmp(&numbers(env!("CARGO_PKG_VERSION"))) {
        std::cmp::Ordering::Less => Age::Older,
        std::cmp::Ordering::Equal => Age::Same,
        std::cmp::Ordering::Greater => Age::Newer,
    }
}

fn skew(daemon: &Daemon, advice: &str) -> String {
    format!(
        "the daemon is heddle {} and this is heddle {}: {advice}",
        daemon.status.version,
        env!("CARGO_PKG_VERSION")
    )
}

/// Asks an older daemon to make room; false when it is busy.
async fn replace(daemon: &Daemon, repository: &Repository) -> bool {
    let request = ShutdownRequest {
        if_idle: true,
        ..ShutdownRequest::default()
    };
    let answer = DaemonServiceClient::new(daemon.channel.clone())
        .shutdown(request)
        .await;
    // One that cannot be asked goes on as it is.
    let accepted = answer.is_ok_and(|answer| answer.into_inner().accepted);
    accepted && wait_until_free(&repository.store_dir(), READY_DEADLINE).await
}
