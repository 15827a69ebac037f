//! `heddle.v1.HookService`.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    ConnectionCalls, Services,
    call::Keyed,
    large::LARGE,
    later::{Pending, not_yet},
    proto::v1::{self, hook_service_server::HookService},
};
use crate::hook::{self, DeregisterHook, Hook, HookEvent, RegisterHook};

impl Keyed for v1::RegisterHookRequest {
    fn client_operation_id(&self) -> &str {
        &self.client_operation_id
    }
}

impl Keyed for v1::DeregisterHookRequest {
    fn client_operation_id(&self) -> &str {
        &self.client_operation_id
    }
}

fn to_proto(hook: &Hook) -> v1::Hook {
    v1::Hook {
        name: hook.name().to_owned(),
        command: hook.command().to_owned(),
        events: hook
            .events()
            .iter()
            .map(|event| event.name().to_owned())
            .collect(),
        timeout_ms: hook.timeout_ms(),
        fail_open: hook.fail_open(),
    }
}

#[tonic::async_trait]
impl HookService for Arc<Services> {
    async fn register_hook(
        &self,
        request: Request<v1::RegisterHookRequest>,
    ) -> Result<Response<v1::Hook>, Status> {
        let asked = request.get_ref();
        self.check_repository(&asked.repo_path).await?;
        let hook = Hook::new(
            asked.name.clone(),
            asked.command.clone(),
            &asked.events,
            asked.timeout_ms,
            asked.fail_open,
        )?;
        let mutation = RegisterHook::new(hook, Arc::clone(&self.hooks));
        self.change(
            "/heddle.v1.HookService/RegisterHook",
            request,
            mutation,
            |hook| to_proto(hook).encode_to_vec(),
        )
        .await
    }

    async fn deregister_hook(
        &self,
        request: Request<v1::DeregisterHookRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let asked = request.get_ref();
        self.check_repository(&asked.repo_path).await?;
        let mutation = DeregisterHook::new(asked.name.clone(), Arc::clone(&self.hooks))?;
        self.change(
            "/heddle.v1.HookService/DeregisterHook",
            request,
            mutation,
            |deleted| v1::DeleteResponse { deleted: *deleted }.encode_to_vec(),
        )
        .await
    }

    async fn list_hooks(
        &self,
        request: Request<v1::ListHooksRequest>,
    ) -> Result<Response<v1::ListHooksResponse>, Status> {
        self.check_repository(&request.get_ref().repo_path).await?;
        let hooks = self.hooks.hooks();
        let answer = || v1::ListHooksResponse {
            hooks: hooks.iter().map(to_proto).collect(),
        };
        // Names and commands are nearly all of it.
        let bytes: usize = hooks
            .iter()
            .map(|h| h.name().len() + h.command().len())
            .sum();
        if bytes < LARGE / 2 {
            return Ok(Response::new(answer()));
        }
        let connection = request.extensions().get::<ConnectionCalls>();
        Ok(self.place_for_large(connection).await?.send(answer()))
    }

    async fn get_hook_event_schema(
        &self,
        request: Request<v1::GetHookEventSchemaRequest>,
    ) -> Result<Response<v1::GetHookEventSchemaResponse>, Status> {
        let asked = &request.get_ref().event_name;
        let event = match asked.as_str() {
            "" => None,
            name => Some(HookEvent::named(name, "event_name")?),
        };
        let schemas = hook::schemas(event)
            .into_iter()
            .map(|schema| v1::HookEventSchema {
                event_name: schema.event.name().to_owned(),
                schema_version: schema.version,
                payload_schema_json: schema.payload,
                response_schema_json: schema.response,
            });
        Ok(Response::new(v1::GetHookEventSchemaResponse {
            schemas: schemas.collect(),
        }))
    }

    type SubscribeHookEventsStream = Pending<v1::HookEvent>;

    async fn subscribe_hook_events(
        &self,
        _: Request<v1::SubscribeHookEventsRequest>,
    ) -> Result<Response<Self::SubscribeHookEventsStream>, Status> {
        Err(not_yet("HookService.SubscribeHookEvents"))
    }

    async fn respond_to_hook(
        &self,
        _: Request<v1::RespondToHookRequest>,
    ) -> Result<Response<v1::RespondToHookResponse>, Status> {
        Err(not_yet("HookService.RespondToHook"))
    }
}
