//! `heddle.local.v1.HookRunService`.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    Services,
    proto::local::{self, hook_run_service_server::HookRunService},
};
use crate::{
    git::GitDir,
    hook::{FireEvent, HookEvent, Trial, TrialRequest},
    mutation::blocking,
};

#[tonic::async_trait]
impl HookRunService for Arc<Services> {
    async fn fire_hook_event(
        &self,
        request: Request<local::FireHookEventRequest>,
    ) -> Result<Response<local::FireHookEventResponse>, Status> {
        let asked = request.get_ref();
        self.check_repository(&asked.repo_path).await?;
        let event = HookEvent::named(&asked.event_name, "event_name")?;
        let gates = self.gates(request.metadata())?;
        let mutation = FireEvent::new(event, &asked.payload_json, &self.hooks, gates)?;
        self.change(
            "/heddle.local.v1.HookRunService/FireHookEvent",
            request,
            mutation,
            |heard| local::FireHookEventResponse { heard: *heard }.encode_to_vec(),
        )
        .await
    }

    async fn try_hook(
        &self,
        request: Request<local::TryHookRequest>,
    ) -> Result<Response<local::TryHookResponse>, Status> {
        let chain = super::call::hook_chain(request.metadata())?;
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let event = match asked.event_name.as_str() {
            "" => None,
            name => Some(HookEvent::named(name, "event_name")?),
        };
        let payload = Some(asked.payload_json).filter(|payload| !payload.is_empty());
        let trial = TrialRequest {
            name: asked.name,
            event,
            payload,
            state: self.some_state().await,
            chain,
        };
        let trial = self.hooks.try_out(trial).await?;
        Ok(Response::new(to_proto(trial)))
    }
}

impl Services {
    /// A state for samples: HEAD's, or one that looks like a state where there is none.
    async fn some_state(&self) -> String {
        let git_dir = self.repository.common_dir().to_owned();
        let head = blocking(move || Ok(GitDir::open(&git_dir)?.head()?.commit)).await;
        match head {
            Ok(Some(head)) => head.to_string(),
            _ => "0123456789abcdef0123456789abcdef01234567".to_owned(),
        }
    }
}

fn to_proto(trial: Trial) -> local::TryHookResponse {
    local::TryHookResponse {
        event_name: trial.event.name().to_owned(),
        payload_json: trial.payload,
        is_gate: trial.event.is_gate(),
        vetoed: trial.veto.is_some(),
        reason: trial.veto.unwrap_or_default(),
        exit_status: trial.exit_status,
        timed_out: trial.timed_out,
        stdout: trial.stdout,
        stderr: trial.stderr,
        truncated: trial.is_cut,
        took_micros: u64::try_from(trial.took.as_micros()).unwrap_or(u64::MAX),
        extra_signals_json: trial.extra_signals.into_iter().map(|s| s.body).collect(),
    }
}
