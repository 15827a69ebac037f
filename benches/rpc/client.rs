//! The one client of both sides: tonic's channel over a Unix socket.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use heddle_agent::grpc_local_impl::proto::{
    local::{
        GetStatusRequest, GetStatusResponse, StoreStatistics,
        daemon_service_client::DaemonServiceClient,
    },
    v1::{
        ListHooksRequest, QueryOperationsRequest, RegisterHookRequest,
        hook_service_client::HookServiceClient,
        operation_log_query_service_client::OperationLogQueryServiceClient,
    },
};
use tokio::{runtime::Runtime, task::JoinSet};
use tonic::transport::Channel;
use uuid::Uuid;

use crate::{
    Result,
    shared::{connect::connect, ours, samples::Samples},
};

/// A call that is measured.
#[derive(Clone, Copy)]
pub enum Call {
    /// `GetStatus`; on the bare server an empty answer.
    Status,
    /// `ListHooks`, of a few hooks.
    ListHooks,
    /// `QueryOperations` with limit 50.
    Query,
    /// `RegisterHook` with a new key: a durable write.
    Register,
    /// `RegisterHook` with this key, again: a retry.
    Retry(Uuid),
}

impl Call {
    async fn on(self, channel: Channel) -> Result {
        match self {
            Call::Status => drop(status(channel).await?),
            Call::ListHooks => {
                let request = ListHooksRequest::default();
                HookServiceClient::new(channel).list_hooks(request).await?;
            }
            Call::Query => {
                let request = QueryOperationsRequest {
                    limit: 50,
                    ..Default::default()
                };
                OperationLogQueryServiceClient::new(channel)
                    .query_operations(request)
                    .await?;
            }
            Call::Register => register(channel, Uuid::new_v4()).await?,
            Call::Retry(key) => register(channel, key).await?,
        }
        Ok(())
    }
}

async fn register(channel: Channel, key: Uuid) -> Result {
    let request = RegisterHookRequest {
        name: format!("hook-{}", key.as_bytes()[0] % 3),
        command: "scripts/check --all".into(),
        events: vec!["pre_capture".into(), "post_capture".into()],
        client_operation_id: key.to_string(),
        ..Default::default()
    };
    HookServiceClient::new(channel)
        .register_hook(request)
        .await?;
    Ok(())
}

async fn status(channel: Channel) -> Result<GetStatusResponse> {
    let request = GetStatusRequest::default();
    let answer = DaemonServiceClient::new(channel).get_status(request).await;
    Ok(answer?.into_inner())
}

/// One caller that makes one call after another, on one thread: for latencies.
pub struct Caller(ours::Caller);

impl Caller {
    /// As soon as a server that was just started answers.
    pub fn as_soon_as_ready(socket: &Path) -> Result<Self> {
        let caller = Self(ours::Caller::connect(socket)?);
        caller.latencies(Call::Status, 1)?;
        Ok(caller)
    }

    /// The latencies of `count` calls.
    pub fn latencies(&self, call: Call, count: usize) -> Result<Samples> {
        self.0.runtime.block_on(async {
            let mut samples = Samples::default();
            for _ in 0..count {
                let began = Instant::now();
                call.on(self.0.channel.clone()).await?;
                samples.add(began.elapsed());
            }
            Ok(samples)
        })
    }

    /// What the daemon says of itself.
    pub fn status(&self) -> Result<GetStatusResponse> {
        self.0.runtime.block_on(status(self.0.channel.clone()))
    }

    /// What the daemon says of its store.
    pub fn store(&self) -> Result<StoreStatistics> {
        Ok(self.status()?.store.ok_or("no store in the status")?)
    }
}

/// Many callers at once, on many connections: for rates.
pub struct Crowd {
    runtime: Runtime,
    channels: Vec<Channel>,
    calls_each: usize,
}

impl Crowd {
    pub fn connect(socket: &Path, connections: usize, calls_each: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let channels = (0..connections)
            .map(|_| runtime.block_on(connect(socket.to_owned())))
            .collect::<Result<_>>()?;
        Ok(Self {
            runtime,
            channels,
            calls_each,
        })
    }

    /// Calls per second, for this long.
    pub fn rate(&self, call: Call, lasting: Duration) -> Result<f64> {
        let end = Instant::now() + lasting;
        let (count, took) = self.call_while(call, move |_| Instant::now() < end)?;
        Ok(count as f64 / took.as_secs_f64())
    }

    /// So many calls in all.
    pub fn calls(&self, call: Call, count: usize) -> Result {
        self.call_while(call, move |made| made < count).map(drop)
    }

    /// Calls until told to stop; answers how many.
    pub fn calls_until(&self, call: Call, stop: Arc<AtomicBool>) -> Result<usize> {
        let (count, _) = self.call_while(call, move |_| !stop.load(Ordering::Relaxed))?;
        Ok(count)
    }

    fn call_while(
        &self,
        call: Call,
        go_on: impl Fn(usize) -> bool + Clone + Send + 'static,
    ) -> Result<(usize, Duration)> {
        let made = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        self.runtime.block_on(async {
            let mut callers = JoinSet::new();
            for channel in &self.channels {
                for _ in 0..self.calls_each {
                    let (channel, go_on, made) =
                        (channel.clone(), go_on.clone(), Arc::clone(&made));
                    callers.spawn(async move {
                        while go_on(made.fetch_add(1, Ordering::Relaxed)) {
                            let called = call.on(channel.clone()).await;
                            called.map_err(|failed| failed.to_string())?;
                        }
                        made.fetch_sub(1, Ordering::Relaxed);
                        Ok::<_, String>(())
                    });
                }
            }
            while let Some(ended) = callers.join_next().await {
                ended??;
            }
            Ok((made.load(Ordering::Relaxed), began.elapsed()))
        })
    }
}
