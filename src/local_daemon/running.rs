//! A running daemon: everything that it owns, and the one loop that everything that can happen to
//! it goes through.

use std::{future::Future, io, path::Path, pin::pin, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    LocalDaemonConfig, RepositoryLock, ServeError,
    accept::{Accepted, Acceptor, queued},
    activation::{Listener, OwnSocket, link_to, reachable},
    config::FileSettings,
    connection::Connections,
    default_socket_path,
    idle::idle,
    notify::{State, extending, tell, watchdog},
    pidfile::PidFile,
    serve::io_error,
    warm_up::warm_up,
    watch::FolderWatch,
};
use crate::{
    git::Repository,
    grpc_local_impl::{DaemonFacts, Services, proto::local::listener::Origin},
    store::Store,
    upkeep::{self, Keep},
};

/// Everything that a running daemon owns. The lock is last: it is given back last.
pub(super) struct Running {
    pub(super) repository: Repository,
    pub(super) config: LocalDaemonConfig,
    pub(super) services: Arc<Services>,
    pub(super) connections: Connections,
    pub(super) draining: CancellationToken,
    pub(super) leave: CancellationToken,
    pub(super) idle_timeout: watch::Sender<Option<Duration>>,
    pub(super) keep: watch::Sender<Keep>,
    pub(super) drain_timeout: Duration,
    pub(super) telling: JoinHandle<()>,
    pub(super) pidfile: Option<PidFile>,
    pub(super) acceptor: Acceptor,
    pub(super) listener: Listener,
    pub(super) folders: FolderWatch,
    pub(super) lock: RepositoryLock,
}

/// What makes the daemon stop.
enum Stop {
    Asked,
    Idle,
    Broken(&'static str),
}

impl Running {
    /// Binds or takes over the listener and puts the services behind it.
    pub(super) async fn start(
        repository: Repository,
        config: LocalDaemonConfig,
        lent: Option<Listener>,
        settings: FileSettings,
        store: Store,
        lock: RepositoryLock,
    ) -> Result<Self, ServeError> {
        let (listener, origin) = match lent {
            None => (bind(&repository, &config)?, Origin::OwnBind),
            Some(lent) => {
                link_lent(&repository, &lent);
                (lent, Origin::Inherited)
            }
        };
        let acceptor = Acceptor::new(&listener).map_err(io_error("listen"))?;
        let (idle_timeout, idle_timeout_seen) = watch::channel(config.idle_timeout(&settings));
        let (keep, keep_seen) = watch::channel(settings.keep());
        let draining = CancellationToken::new();
        let leave = CancellationToken::new();
        let facts = DaemonFacts {
            origin,
            socket: listener.path(),
            idle_timeout: idle_timeout_seen,
            keep: keep_seen,
            leave: leave.clone(),
        };
        let services = Services::new(
            repository.clone(),
            store,
            facts,
            draining.clone(),
            config.hook_guard.clone(),
            settings.hooks(),
        )?;
        let services = Arc::new(services);
        services.captures.set_size_guard(settings.size_guard());
        services.signals.configure(settings.review.signals.clone());
        services.pages.require(settings.review.required.clone());
        // What a crash cut short is undone before anybody can ask.
        extending(services.recover()).await?;
        let reconciled = upkeep::reconcile(&repository, &services.store, &services.road);
        if let Err(failure) = extending(reconciled).await {
            tracing::error!("refs/heddle/ may not be as the database has it: {failure}");
        }
        if let Err(failure) = extending(services.checkpoints.begin()).await {
            if services.store.has_stopped() {
                return Err(failure.into());
            }
            tracing::error!("what Git does is not in the log yet: {failure}");
        }
        let routes = services.routes().await;
        let status = Arc::clone(&services.status);
        let pidfile = match listener {
            Listener::Own(_) => Some(
                PidFile::write(&config.pid_path)
                    .map_err(io_error(format!("write {}", config.pid_path.display())))?,
            ),
            Listener::Inherited(_) => None,
        };
        let mut folders = FolderWatch::new(vec![
            repository.heddle_dir(),
            repository.heddle_dir().join("sockets"),
            repository.store_dir(),
        ]);
        folders.renew(&listener.files());
        services.set_transaction_timeout(settings.transaction_timeout());
        tokio::spawn(Arc::clone(&services).expire_transactions());
        let telling = tokio::spawn(Arc::clone(&services.hooks).tell_notices());
        Ok(Self {
            drain_timeout: config.drain_timeout(&settings),
            connections: Connections::new(routes, status, draining.clone()),
            repository,
            config,
            services,
            draining,
            leave,
            idle_timeout,
            keep,
            telling,
            pidfile,
            acceptor,
            listener,
            folders,
            lock,
        })
    }

    /// Serves until something makes it stop, then drains.
    pub(super) async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        tracing::info!(
            repository = %self.repository.root().display(),
            socket = %self.listener.path(),
            "serving"
        );
        if let Some(ready) = self.config.ready.take() {
            ready();
        }
        tell(State::Ready(&self.services.summary()));
        // What Git did while no daemon ran comes after: however much it is, nobody waits for it here.
        let checkpoints = Arc::clone(&self.services.checkpoints);
        tokio::spawn(checkpoints.follow_git(self.draining.clone()));
        tokio::spawn(warm_up(Arc::clone(&self.services)));
        let signals = Arc::clone(&self.services.signals).follow_captures(
            self.services.road.clone(),
            self.services.status.activity.clone(),
            self.draining.clone(),
        );
        tokio::spawn(signals);
        let watchdog = tokio::spawn(watchdog(Arc::clone(&self.services)));
        let upkeep = tokio::spawn(upkeep::by_itself(
            self.services.store.clone(),
            self.repository.clone(),
            self.services.road.clone(),
            self.keep.subscribe(),
        ));
        let (stop, waiting) = self.serve_until(shutdown).await;
        match &stop {
            Stop::Asked => tracing::info!("asked to stop"),
            Stop::Idle => tracing::info!("idle, leaving"),
            Stop::Broken(reason) => tracing::error!("leaving: {reason}"),
        }
        watchdog.abort();
        upkeep.abort();
        self.drain(waiting).await;
        match stop {
            Stop::Asked | Stop::Idle => Ok(()),
            Stop::Broken(reason) => Err(ServeError::Left(reason)),
        }
    }

    /// Answers why it stopped, and a connection that waited for room then.
    async fn serve_until(
        &mut self,
        shutdown: impl Future<Output = ()>,
    ) -> (Stop, Option<Accepted>) {
        let mut shutdown = pin!(shutdown);
        let leave = self.leave.clone();
        let reload = Arc::clone(&self.config.reload);
        let store = self.services.store.clone();
        let mut broken = pin!(store.stopped());
        let activity = self.services.status.activity.clone();
        let idle_timeout = self.idle_timeout.clone();
        let idling = || idle(activity.clone(), idle_timeout.subscribe());
        let mut quiet = pin!(idling());
        let mut waiting = None;
        loop {
            tokio::select! {
                () = &mut shutdown => return (Stop::Asked, waiting),
                () = leave.cancelled() => return (Stop::Asked, waiting),
                reason = &mut broken => return (Stop::Broken(reason), waiting),
                () = reload.notified() => self.reload(),
                () = self.folders.removed() => {
                    if matches!(&self.listener, Listener::Own(own) if own.is_led_past()) {
                        tracing::info!("a service manager's socket has taken our place, making room");
                        return (Stop::Asked, waiting);
                    }
                    if let Err(reason) = self.mend_folders() {
                        return (Stop::Broken(reason), waiting);
                    }
                }
                // At the limit newcomers queue, one here and the others in the socket (G8).
                accepted = self.acceptor.next(), if waiting.is_none() => waiting = Some(accepted),
                room = self.connections.room(), if waiting.is_some() => {
                    if let Some((stream, peer)) = waiting.take() {
                        self.connections.serve(stream, peer, room);
                    }
                }
                () = &mut quiet => {
                    waiting = waiting.or_else(|| self.last_in_queue());
                    if waiting.is_none() {
                        return (Stop::Idle, None);
                    }
                    quiet.set(idling());
                }
            }
        }
    }

    /// A socket that is lent stays reachable, so it must be seen to be empty before we go. Ours is
    /// unlinked first and emptied then, in the drain.
    fn last_in_queue(&self) -> Option<Accepted> {
        match &self.listener {
            Listener::Own(_) => None,
            Listener::Inherited(_) => queued(&self.listener),
        }
    }

    /// Reads `config.toml` again; what cannot be understood changes nothing.
    fn reload(&mut self) {
        tell(State::Reloading);
        match FileSettings::load(&self.repository.store_dir()) {
            Ok(settings) => {
                self.drain_timeout = self.config.drain_timeout(&settings);
                let idle_timeout = self.config.idle_timeout(&settings);
                self.idle_timeout.send_replace(idle_timeout);
                self.keep.send_replace(settings.keep());
                let size_guard = settings.size_guard();
                self.services.captures.set_size_guard(size_guard);
                self.services.hooks.configure(settings.hooks());
                self.services
                    .pages
                    .require(settings.review.required.clone());
                self.services
                    .signals
                    .configure(settings.review.signals.clone());
                self.services
                    .set_transaction_timeout(settings.transaction_timeout());
                tracing::info!("read config.toml again");
            }
            Err(error) => {
                tracing::error!("the old settings stay: {error}");
            }
        }
        tell(State::Ready(&self.services.summary()));
    }

    /// Makes again what others removed, so that alive means reachable (G2). A daemon that cannot be
    /// reached any more leaves.
    fn mend_folders(&mut self) -> Result<(), &'static str> {
        if !self.lock.still_ours() || !self.services.store.in_place() {
            return Err("the heddle folder in the Git folder was removed or replaced");
        }
        if !self.repository.root().exists() {
            return Err("the repository was removed");
        }
        // Watched again before the last look: what is removed after that is noticed.
        self.folders.renew(&self.listener.files());
        if self.is_reachable() {
            self.restore_pidfile();
            return Ok(());
        }
        match self.listen_again() {
            Ok(()) => tracing::info!("made the removed .heddle folder again"),
            Err(error) => tracing::error!("cannot be reached as usual: {error}"),
        }
        self.folders.renew(&self.listener.files());
        // A socket that is lent is reached through its manager's path as well.
        let lent = matches!(self.listener, Listener::Inherited(_));
        if !lent && !self.is_reachable() {
            return Err("nobody can reach the daemon any more");
        }
        self.restore_pidfile();
        Ok(())
    }

    fn is_reachable(&self) -> bool {
        match &self.listener {
            Listener::Own(own) => own.is_reachable(),
            Listener::Inherited(_) => leads_to(&self.repository, &self.listener),
        }
    }

    fn restore_pidfile(&mut self) {
        if let Some(pidfile) = &mut self.pidfile
            && let Err(error) = pidfile.restore()
        {
            tracing::warn!("cannot write the pidfile again: {error}");
        }
    }

    fn listen_again(&mut self) -> Result<(), ServeError> {
        self.repository.folders().create()?;
        if let Listener::Own(own) = &mut self.listener {
            let usual = default_socket_path(&self.repository);
            if own.is_displaced() {
                let taken =
                    io::Error::new(io::ErrorKind::AlreadyExists, "something else lies there");
                return Err(io_error(format!("listen at {}", own.path().display()))(
                    taken,
                ));
            }
            if own.link_again(&usual).map_err(io_error("listen again"))? {
                return Ok(());
            }
            let listener = bind(&self.repository, &self.config)?;
            self.acceptor = Acceptor::new(&listener).map_err(io_error("listen again"))?;
            self.listener = listener;
        } else {
            link_lent(&self.repository, &self.listener);
        }
        Ok(())
    }
}

/// Leads clients to a socket that is lent. systemd makes this link too (`Symlinks=`), but not again
/// when it was removed, nor where another daemon's socket lay when it started to listen.
fn link_lent(repository: &Repository, lent: &Listener) {
    if leads_to(repository, lent) {
        return;
    }
    let target = lent.path();
    if let Err(error) = link_to(Path::new(&target), &default_socket_path(repository)) {
        tracing::warn!("clients are not led to {target}: {error}");
    }
}

/// Whether clients who look at the usual place come to a socket that is lent; one without a path is
/// not for them. What else lies there is a dead daemon's: the lock is ours.
fn leads_to(repository: &Repository, lent: &Listener) -> bool {
    let target = lent.path();
    target.is_empty() || reachable(&default_socket_path(repository)) == Path::new(&target)
}

fn bind(repository: &Repository, config: &LocalDaemonConfig) -> Result<Listener, ServeError> {
    let usual = default_socket_path(repository);
    let own = OwnSocket::bind(&config.socket_path, &usual).map_err(io_error(format!(
        "listen at {}",
        config.socket_path.display()
    )))?;
    Ok(Listener::Own(own))
}
