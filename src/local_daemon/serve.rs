//! `serve`: from taking the lock to giving it back. Everything that a running daemon owns is owned
//! by one value here, and let go of in one place.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Holder, LocalDaemonConfig, RepositoryLock,
    activation::{Listener, ListenerSource, OwnSocket},
    ask, check_peer_uid_matches_self,
    config::FileSettings,
    connection::Connections,
    default_socket_path,
    idle::idle,
    peer::PeerError,
    pidfile::PidFile,
    process::lock_holder,
    watch::FolderWatch,
};
use crate::{
    failure::Failure,
    git::{self, Repository},
    grpc_local_impl::{DaemonFacts, Services, proto::local::listener::Origin},
    store::{self, Store},
};

/// How long a holder of the lock that is draining or silent is waited for.
const HOLDER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a holder is given to answer each time it is asked.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// Pauses after accept(2) failed: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

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

fn io_error(action: impl Into<String>) -> impl FnOnce(io::Error) -> ServeError {
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
    let daemon = Daemon::start(repository, config, settings, store, lock).await?;
    daemon.run(shutdown).await
}

/// Takes the lock, or finds out why not (G1).
async fn take_lock(repository: &Repository) -> Result<RepositoryLock, ServeError> {
    let store_dir = repository.store_dir();
    let give_up = tokio::time::Instant::now() + HOLDER_PATIENCE;
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
            _ if tokio::time::Instant::now() >= give_up => {
                return Err(ServeError::Wedged {
                    repository: name(),
                    pid: lock_holder(&store_dir.join("lock")),
                });
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Everything that a running daemon owns. Fields are dropped in this order: the lock goes last.
struct Daemon {
    repository: Repository,
    config: LocalDaemonConfig,
    services: Arc<Services>,
    connections: Connections,
    draining: CancellationToken,
    leave: CancellationToken,
    idle_timeout: watch::Sender<Option<Duration>>,
    drain_timeout: Duration,
    pidfile: Option<PidFile>,
    listener: Listener,
    accepting: UnixListener,
    folders: FolderWatch,
    lock: RepositoryLock,
}

/// What makes the daemon stop.
enum Stop {
    Asked,
    Idle,
    Broken(&'static str),
}

impl Daemon {
    async fn start(
        repository: Repository,
        mut config: LocalDaemonConfig,
        settings: FileSettings,
        store: Store,
        lock: RepositoryLock,
    ) -> Result<Self, ServeError> {
        let source = std::mem::replace(&mut config.listener, ListenerSource::OwnBind);
        let (listener, origin) = match source {
            ListenerSource::OwnBind => {
                let usual = default_socket_path(&repository);
                let own = OwnSocket::bind(&config.socket_path, &usual).map_err(io_error(
                    format!("listen at {}", config.socket_path.display()),
                ))?;
                (Listener::Own(own), Origin::OwnBind)
            }
            ListenerSource::Inherited(socket) => (Listener::Inherited(socket), Origin::Inherited),
        };
        let (idle_timeout, idle_timeout_seen) = watch::channel(config.idle_timeout(&settings));
        let draining = CancellationToken::new();
        let leave = CancellationToken::new();
        let facts = DaemonFacts {
            origin,
            socket: listener.path(),
            idle_timeout: idle_timeout_seen,
            leave: leave.clone(),
        };
        let services = Arc::new(Services::new(
            repository.clone(),
            store,
            facts,
            draining.clone(),
        )?);
        let routes = services.routes().await;
        let status = Arc::clone(&services.status);
        let accepting = listen(&listener).map_err(io_error("listen"))?;
        let pidfile = match listener {
            Listener::Own(_) => Some(
                PidFile::write(&config.pid_path)
                    .map_err(io_error(format!("write {}", config.pid_path.display())))?,
            ),
            Listener::Inherited(_) => None,
        };
        let folders = FolderWatch::new(vec![
            repository.heddle_dir(),
            repository.heddle_dir().join("sockets"),
            repository.store_dir(),
        ]);
        Ok(Self {
            drain_timeout: config.drain_timeout(&settings),
            connections: Connections::new(routes, status, draining.clone()),
            repository,
            config,
            services,
            draining,
            leave,
            idle_timeout,
            pidfile,
            listener,
            accepting,
            folders,
            lock,
        })
    }

    async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        tracing::info!(
            repository = %self.repository.root().display(),
            socket = %self.listener.path(),
            "serving"
        );
        if let Some(ready) = self.config.ready.take() {
            ready();
        }
        let stop = self.serve_until(shutdown).await;
        match &stop {
            Stop::Asked => tracing::info!("asked to stop"),
            Stop::Idle => tracing::info!("idle, leaving"),
            Stop::Broken(reason) => tracing::error!("leaving: {reason}"),
        }
        self.drain().await;
        match stop {
            Stop::Asked | Stop::Idle => Ok(()),
            Stop::Broken(reason) => Err(ServeError::Left(reason)),
        }
    }

    async fn serve_until(&mut self, shutdown: impl Future<Output = ()>) -> Stop {
        let mut shutdown = pin!(shutdown);
        let activity = self.services.status.activity.clone();
        let idle_timeout = self.idle_timeout.clone();
        let idling = || idle(activity.clone(), idle_timeout.subscribe());
        let mut idling_now = pin!(idling());
        let reload = Arc::clone(&self.config.reload);
        let store = self.services.store.clone();
        let mut broken = pin!(store.stopped());
        let leave = self.leave.clone();
        let mut asked = pin!(async move {
            tokio::select! {
                () = &mut shutdown => {}
                () = leave.cancelled() => {}
            }
        });
        let mut back_off = BackOff::default();
        loop {
            tokio::select! {
                () = &mut asked => return Stop::Asked,
                reason = &mut broken => return Stop::Broken(reason),
                () = reload.notified() => self.reload(),
                () = self.folders.removed() => {
                    if let Err(reason) = self.mend_folders() {
                        return Stop::Broken(reason);
                    }
                }
                accepted = self.accepting.accept(), if !back_off.is_on() => match accepted {
                    Ok((stream, _)) => {
                        back_off = BackOff::default();
                        // At the limit newcomers queue; a stop does not wait for them.
                        tokio::select! {
                            () = admit(&mut self.connections, stream) => {}
                            () = &mut asked => return Stop::Asked,
                        }
                    }
                    Err(error) => back_off.begin(&error),
                },
                () = back_off.wait(), if back_off.is_on() => back_off.pause_is_over(),
                () = &mut idling_now => {
                    // Ours is unlinked first and then emptied, in the drain. One that is lent stays
                    // reachable, so it must be seen to be empty before we go.
                    let queued = match &self.listener {
                        Listener::Own(_) => None,
                        Listener::Inherited(_) => self.listener.accept_queued().ok(),
                    };
                    let Some(stream) = queued.and_then(to_tokio) else {
                        return Stop::Idle;
                    };
                    admit(&mut self.connections, stream).await;
                    idling_now.set(idling());
                }
            }
        }
    }

    /// Reads `config.toml` again; what cannot be understood changes nothing.
    fn reload(&mut self) {
        match FileSettings::load(&self.repository.store_dir()) {
            Ok(settings) => {
                self.drain_timeout = self.config.drain_timeout(&settings);
                let idle_timeout = self.config.idle_timeout(&settings);
                self.idle_timeout.send_replace(idle_timeout);
                tracing::info!("read config.toml again");
            }
            Err(error) => {
                tracing::error!("config.toml is not used, the old settings stay: {error}")
            }
        }
    }

    /// Makes again what others removed, so that alive means reachable (G2).
    fn mend_folders(&mut self) -> Result<(), &'static str> {
        if !self.lock.still_ours() {
            return Err("the heddle folder in the Git folder was removed or replaced");
        }
        let lost = match &self.listener {
            Listener::Own(own) if own.is_displaced() => {
                tracing::error!(socket = %self.listener.path(), "something else lies where our socket was");
                false
            }
            Listener::Own(own) => !own.is_reachable(),
            Listener::Inherited(_) => !self.repository.heddle_dir().exists(),
        };
        if lost {
            if !self.repository.root().exists() {
                return Err("the repository was removed");
            }
            match self.listen_again() {
                Ok(()) => tracing::info!("made the removed .heddle folder again"),
                Err(error) => tracing::error!("cannot be reached any more: {error}"),
            }
        }
        if let Some(pidfile) = &mut self.pidfile
            && let Err(error) = pidfile.restore()
        {
            tracing::warn!("cannot write the pidfile again: {error}");
        }
        self.folders.renew();
        Ok(())
    }

    fn listen_again(&mut self) -> Result<(), ServeError> {
        self.repository.folders().create()?;
        if let Listener::Own(own) = &mut self.listener {
            let usual = default_socket_path(&self.repository);
            if own.link_again(&usual).map_err(io_error("listen again"))? {
                return Ok(());
            }
            let own = OwnSocket::bind(&self.config.socket_path, &usual)
                .map_err(io_error("listen again"))?;
            let listener = Listener::Own(own);
            self.accepting = listen(&listener).map_err(io_error("listen again"))?;
            self.listener = listener;
        }
        Ok(())
    }

    /// Finishes what is in flight, ends the streams, and lets go of everything (G7).
    async fn drain(self) {
        let Self {
            services,
            mut connections,
            draining,
            drain_timeout,
            pidfile,
            mut listener,
            accepting,
            lock,
            ..
        } = self;
        listener.unlink();
        drop(accepting);
        draining.cancel();
        let began = std::time::Instant::now();
        if let Listener::Own(_) = &listener {
            // Who connected before the unlink will find nobody else: they are served as well.
            let empty = async {
                while let Some(stream) = listener.accept_queued().ok().and_then(to_tokio) {
                    admit(&mut connections, stream).await;
                }
            };
            if timeout(drain_timeout, empty).await.is_err() {
                tracing::warn!("connections that waited were not served");
            }
        }
        let cut = connections
            .drain(drain_timeout.saturating_sub(began.elapsed()))
            .await;
        if cut > 0 {
            tracing::warn!(calls = cut, "the drain deadline cut off calls");
        }
        services.road.settled().await;
        let store = services.store.clone();
        if tokio::task::spawn_blocking(move || store.close())
            .await
            .is_err()
        {
            tracing::error!("closing the store failed");
        }
        drop(pidfile);
        drop(listener);
        drop(lock);
        tracing::info!("stopped");
    }
}

/// Serves a connection if it is our own user's (G5), once there is room for it (G8).
async fn admit(connections: &mut Connections, stream: UnixStream) {
    match check_peer_uid_matches_self(&stream) {
        Ok(peer) => {
            let room = connections.room().await;
            connections.serve(stream, peer, room);
        }
        Err(PeerError::Stranger { uid, pid, .. }) => {
            tracing::warn!(uid, pid, "refused another user's process");
        }
        Err(error) => tracing::warn!("refused a connection: {error}"),
    }
}

/// The listener for the runtime. It shares the socket with the one that owns the path.
fn listen(listener: &Listener) -> io::Result<UnixListener> {
    let socket = listener.socket().try_clone()?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket)
}

fn to_tokio(stream: std::os::unix::net::UnixStream) -> Option<UnixStream> {
    stream.set_nonblocking(true).ok()?;
    UnixStream::from_std(stream).ok()
}

/// Pauses after accept(2) failed, so that being out of descriptors does not spin.
#[derive(Default)]
struct BackOff {
    until: Option<Instant>,
    pause: Duration,
}

impl BackOff {
    fn begin(&mut self, error: &io::Error) {
        let (first, longest) = BACK_OFF;
        if self.pause.is_zero() {
            tracing::warn!("cannot accept connections for now: {error}");
        }
        self.pause = (self.pause * 2).clamp(first, longest);
        self.until = Some(Instant::now() + self.pause);
    }

    fn is_on(&self) -> bool {
        self.until.is_some()
    }

    async fn wait(&self) {
        if let Some(until) = self.until {
            tokio::time::sleep_until(until).await;
        }
    }

    fn pause_is_over(&mut self) {
        self.until = None;
    }
}
