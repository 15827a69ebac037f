//! Captures and restores through the daemon's socket.

use std::{path::Path, time::Instant};

use heddle_agent::grpc_local_impl::proto::{
    local::{
        RestoreStateRequest, RestoreTarget, restore_target::Target,
        worktree_service_client::WorktreeServiceClient,
    },
    v1::{
        CaptureThreadRequest, CaptureThreadResponse,
        thread_workflow_service_client::ThreadWorkflowServiceClient,
    },
};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{
    connect::{connect, wait_for},
    repo::{Daemon, Repo},
    samples::micros,
};
use crate::Result;

/// A daemon with one caller.
pub struct Ours {
    pub daemon: Daemon,
    pub caller: Caller,
}

/// A caller that makes one call after another, on one thread.
pub struct Caller {
    pub runtime: Runtime,
    pub channel: Channel,
}

impl Caller {
    /// As soon as somebody listens.
    pub fn connect(socket: &Path) -> Result<Self> {
        wait_for(socket)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let channel = runtime.block_on(connect(socket.to_owned()))?;
        Ok(Self { runtime, channel })
    }
}

impl Ours {
    /// Starts the daemon of a repository; nothing is captured yet.
    pub fn start(repo: &Repo) -> Result<Self> {
        let daemon = repo.spawn(None)?;
        let caller = Caller::connect(&repo.socket()?)?;
        Ok(Self { daemon, caller })
    }

    /// Microseconds for a capture that finds something changed.
    pub fn capture(&self) -> Result<f64> {
        self.timed_capture(false)
    }

    /// Microseconds for a capture that finds nothing changed.
    pub fn capture_nothing(&self) -> Result<f64> {
        self.timed_capture(true)
    }

    fn timed_capture(&self, unchanged: bool) -> Result<f64> {
        let request = CaptureThreadRequest {
            intent: "Measure a capture".into(),
            client_operation_id: Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let began = Instant::now();
        let captured = self.caller.runtime.block_on(async {
            let mut client = ThreadWorkflowServiceClient::new(self.caller.channel.clone());
            client.capture_thread(request).await
        })?;
        let took = micros(began.elapsed());
        let CaptureThreadResponse {
            unchanged: found, ..
        } = captured.into_inner();
        if found == unchanged {
            Ok(took)
        } else {
            Err(format!("a capture says unchanged: {found}").into())
        }
    }

    /// Microseconds for a restore of a state, which writes so many files.
    pub fn restore(&self, state: &str, files: usize) -> Result<f64> {
        let request = RestoreStateRequest {
            target: Some(RestoreTarget {
                target: Some(Target::State(state.into())),
            }),
            client_operation_id: Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let began = Instant::now();
        let restored = self.caller.runtime.block_on(async {
            let mut client = WorktreeServiceClient::new(self.caller.channel.clone());
            client.restore_state(request).await
        })?;
        let took = micros(began.elapsed());
        let written = restored.into_inner().written;
        if written as usize == files {
            Ok(took)
        } else {
            Err(format!("a restore wrote {written} files and not {files}").into())
        }
    }
}
