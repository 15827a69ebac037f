//! `heddle.local.v1.DaemonService`: what the daemon is doing, and how to end it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    Services,
    proto::local::{self, daemon_service_server::DaemonService},
};
use crate::{
    failure::{Failure, Reason},
    status::Kind,
    upkeep::Keep,
};

/// What `GetStatus` tells of the process, and how `Shutdown` ends it.
#[derive(Debug, Clone)]
pub struct DaemonFacts {
    /// How the listener came to be.
    pub origin: local::listener::Origin,
    /// Where it listens.
    pub socket: String,
    /// Quiet time after which the daemon leaves; read when needed, as a reload may change it.
    pub idle_timeout: tokio::sync::watch::Receiver<Option<Duration>>,
    /// How long ended chains are kept; read when needed, too.
    pub keep: tokio::sync::watch::Receiver<Keep>,
    /// Cancelled to ask for a drain.
    pub leave: CancellationToken,
}

#[tonic::async_trait]
impl DaemonService for Arc<Services> {
    async fn get_status(
        &self,
        request: Request<local::GetStatusRequest>,
    ) -> Result<Response<local::GetStatusResponse>, Status> {
        self.check_repository(&request.get_ref().repo_path).await?;
        let activity = &self.status.activity;
        let written = self.store.statistics();
        let sizes = self.store.sizes();
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let methods = self
            .status
            .counts()
            .into_iter()
            .map(|method| local::MethodStatistics {
                method: method.path.to_owned(),
                calls: method.calls,
                failures: method.failures,
                p50_micros: method.p50.as_micros() as u64,
                p99_micros: method.p99.as_micros() as u64,
            });
        Ok(Response::new(local::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id() as i32,
            started_at: Some(self.status.started_at.into()),
            repository: self.repository.root().to_string_lossy().into_owned(),
            git_dir: self.repository.common_dir().to_string_lossy().into_owned(),
            listener: Some(local::Listener {
                origin: self.daemon.origin.into(),
                path: self.daemon.socket.clone(),
            }),
            connections: small(activity.connections().load(Ordering::Relaxed)),
            // This very call is not what the caller wants to know of.
            calls_in_flight: small(activity.count(Kind::Call).saturating_sub(1)),
            open_streams: small(activity.count(Kind::Stream)),
            methods: methods.collect(),
            store: Some(local::StoreStatistics {
                database_bytes: sizes.database,
                wal_bytes: sizes.wal,
                operations: *self.road.newest().borrow(),
                writes: written.writes.load(Ordering::Relaxed),
                commits: written.commits.load(Ordering::Relaxed),
            }),
            idle_deadline: self.idle_deadline().map(Into::into),
            draining: self.draining.is_cancelled(),
            index: Some(self.index_progress()),
        }))
    }

    async fn shutdown(
        &self,
        request: Request<local::ShutdownRequest>,
    ) -> Result<Response<local::ShutdownResponse>, Status> {
        let asked = request.get_ref();
        self.check_repository(&asked.repo_path).await?;
        if request.metadata().contains_key("heddle-transaction-id") {
            return Err(Failure::new(
                Reason::InvalidField,
                "Shutdown cannot be part of a transaction; call it without heddle-transaction-id",
            )
            .into());
        }
        // The caller's own call, and perhaps connections that have yet to make one.
        let alone = self.status.activity.busy() <= 1;
        let accepted = !asked.if_idle || alone;
        if accepted {
            self.daemon.leave.cancel();
        }
        Ok(Response::new(local::ShutdownResponse {
            accepted,
            pid: std::process::id() as i32,
        }))
    }
}

impl Services {
    /// What the daemon does, in a line for `systemctl status`.
    pub fn summary(&self) -> String {
        let activity = &self.status.activity;
        let served: u64 = self.status.counts().iter().map(|method| method.calls).sum();
        let going_on = match activity.quiet_since() {
            None => format!(
                "{} calls in flight, {} streams",
                activity.count(Kind::Call),
                activity.count(Kind::Stream)
            ),
            Some(since) => format!("idle for {} s", since.elapsed().as_secs()),
        };
        let index = self.index.progress();
        let symbols = match index.is_running {
            true => {
                let done = index.counts.all();
                let all = done + index.left;
                format!(", symbols of {done} of {all} files taken in")
            }
            false => String::new(),
        };
        format!(
            "{}: {served} calls served, {going_on}{symbols}",
            self.repository.root().display()
        )
    }

    fn index_progress(&self) -> local::IndexProgress {
        let now = self.index.progress();
        local::IndexProgress {
            files: now.counts.files,
            too_large: now.counts.too_large,
            binary: now.counts.binary,
            generated: now.counts.generated,
            vendored: now.counts.vendored,
            to_do: now.left,
            whole: now.is_whole,
            running: now.is_running,
            parsed: now.parsed,
            database_bytes: now.bytes,
            unreadable: now.counts.unreadable,
        }
    }

    /// When the daemon leaves unless it is called before; `None` when it stays, or others are busy.
    fn idle_deadline(&self) -> Option<SystemTime> {
        let timeout = (*self.daemon.idle_timeout.borrow())?;
        // The call that asks is what keeps it from being idle now.
        let alone = self.status.activity.busy() <= 1;
        alone.then(|| SystemTime::now().checked_add(timeout))?
    }
}
