//! `heddle.v1.HookService`.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    ConnectionCalls, Services,
    large::LARGE,
    proto::v1::{self, hook_service_server::HookService},
    time::at_millis,
};
use crate::{
    failure::{Failure, Reason},
    hook::{
        self, Delivery, DeregisterHook, Hook, HookEvent, PeerProcess, RegisterHook, RespondToHook,
        Subscription, TIMEOUT_LIMIT_MS,
    },
};

type Events = Pin<Box<dyn Stream<Item = Result<v1::HookEvent, Status>> + Send>>;

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
        self.check_change(&request, &asked.repo_path).await?;
        let hook = Hook::new(
            asked.name.clone(),
            asked.command.clone(),
            &asked.events,
            asked.timeout_ms,
            asked.fail_open,
        )?;
        let mutation = RegisterHook::new(hook, Arc::clone(self.hooks.registry()))
            .asked_by(peer_process(&request)?);
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
        self.check_change(&request, &asked.repo_path).await?;
        let mutation = DeregisterHook::new(asked.name.clone(), Arc::clone(self.hooks.registry()))?;
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
        let hooks = self.hooks.registry().hooks();
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

    type SubscribeHookEventsStream = Events;

    async fn subscribe_hook_events(
        &self,
        request: Request<v1::SubscribeHookEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        let pid = request
            .extensions()
            .get::<ConnectionCalls>()
            .and_then(|peer| peer.pid);
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let events = hook::events(&asked.events)?;
        let timeout = match asked.timeout_ms {
            0 => None,
            ms if ms <= TIMEOUT_LIMIT_MS => Some(Duration::from_millis(ms.into())),
            ms => return Err(too_long(ms).into()),
        };
        let name = match pid {
            Some(pid) => format!("subscriber (pid {pid})"),
            None => "subscriber".to_owned(),
        };
        let subscription = self.hooks.subscribe(name, events, timeout);
        Ok(Response::new(Box::pin(deliveries(subscription))))
    }

    async fn respond_to_hook(
        &self,
        request: Request<v1::RespondToHookRequest>,
    ) -> Result<Response<v1::RespondToHookResponse>, Status> {
        let asked = request.get_ref();
        self.check_change(&request, &asked.repo_path).await?;
        if request.metadata().contains_key("heddle-transaction-id") {
            return Err(Failure::new(
                Reason::InvalidField,
                "RespondToHook cannot be part of a transaction; call it without heddle-transaction-id",
            )
            .into());
        }
        let mutation = RespondToHook::new(
            Arc::clone(&self.hooks),
            &asked.hook_event_id,
            &asked.abort,
            &asked.extra_signals_json,
        )?;
        if asked.client_operation_id.is_empty() {
            // Nothing is kept of it, so there is nothing to make durable.
            let accepted = mutation.answer();
            return Ok(Response::new(v1::RespondToHookResponse { accepted }));
        }
        self.change(
            "/heddle.v1.HookService/RespondToHook",
            request,
            mutation,
            |accepted| {
                let accepted = *accepted;
                v1::RespondToHookResponse { accepted }.encode_to_vec()
            },
        )
        .await
    }
}

/// The process that a request came from: whose commands are run depends on how it is confined (G5).
fn peer_process<R>(request: &Request<R>) -> Result<Arc<PeerProcess>, Failure> {
    let connection = request.extensions().get::<ConnectionCalls>();
    let process = connection.map(|connection| Arc::clone(&connection.process));
    process.ok_or_else(|| {
        Failure::new(
            Reason::HookFromSandbox,
            "the caller may not register a command: it is not known who it is; connect to the daemon's socket",
        )
    })
}

fn too_long(ms: u32) -> Failure {
    Failure::field(
        Reason::InvalidField,
        "timeout_ms",
        format!(
            "a subscriber cannot be waited for {ms} ms; ask for at most {TIMEOUT_LIMIT_MS} ms (10 minutes), or 0 for the configured time"
        ),
    )
}

fn deliveries(
    subscription: Subscription,
) -> impl Stream<Item = Result<v1::HookEvent, Status>> + Send {
    stream::try_unfold(subscription, async |mut subscription| {
        let delivery = subscription.next().await?;
        Ok(Some((event_to_proto(delivery), subscription)))
    })
}

fn event_to_proto(delivery: Delivery) -> v1::HookEvent {
    v1::HookEvent {
        hook_event_id: delivery.id.to_string(),
        event_name: delivery.event,
        payload_json: delivery.payload.as_ref().to_owned(),
        emitted_at: Some(at_millis(delivery.emitted_ms)),
    }
}
