//! What a client finds that has neither a proto file nor generated code: services, methods and
//! messages by reflection, and health.

use std::collections::{BTreeSet, VecDeque};

use heddle_agent::{failure::Reason, grpc_local_impl::proto::SERVICES};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, Value};
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    harness::TestRepo,
    rpc::{RawAnswer, assert_ours, assert_refused, call, framed, grpc_request, send_for_first},
};

/// Asks reflection of one version for its services and for every file that they need.
macro_rules! reflect {
    ($version:ident, $channel:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };

        let mut client = ServerReflectionClient::new($channel.clone());
        let mut ask = async |asked: MessageRequest| {
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(asked),
            };
            let answers = client
                .server_reflection_info(tokio_stream::once(request))
                .await;
            let answer = answers.unwrap().into_inner().message().await.unwrap();
            answer.unwrap().message_response.unwrap()
        };
        let listed = ask(MessageRequest::ListServices(String::new())).await;
        let MessageResponse::ListServicesResponse(listed) = listed else {
            panic!("{listed:?}");
        };
        let services: BTreeSet<String> = listed.service.into_iter().map(|s| s.name).collect();

        let mut wanted: VecDeque<MessageRequest> = services
            .iter()
            .map(|name| MessageRequest::FileContainingSymbol(name.clone()))
            .collect();
        let mut files: Vec<FileDescriptorProto> = Vec::new();
        while let Some(asked) = wanted.pop_front() {
            let MessageResponse::FileDescriptorResponse(found) = ask(asked).await else {
                panic!("a file is missing");
            };
            for file in found.file_descriptor_proto {
                let file = FileDescriptorProto::decode(file.as_slice()).unwrap();
                if files.iter().all(|known| known.name != file.name) {
                    let needs = file.dependency.iter().cloned();
                    wanted.extend(needs.map(MessageRequest::FileByFilename));
                    files.push(file);
                }
            }
        }
        let set = FileDescriptorSet { file: files };
        (
            services,
            DescriptorPool::from_file_descriptor_set(set).unwrap(),
        )
    }};
}

/// A message that a caller who knows only field names would send.
fn plausible(descriptor: MessageDescriptor) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    let text = |text: &str| Value::String(text.to_owned());
    for field in descriptor.fields() {
        let value = match field.name() {
            "name" => text("reflected"),
            "command" => text("true"),
            "client_operation_id" => text("01890a5d-ac96-774b-bcce-b302099a8057"),
            "event_name" => text("pre_push"),
            "limit" => Value::U32(1),
            "list_services" => text("*"),
            "query" => Value::Message(plausible(field.kind().as_message().unwrap().clone())),
            _ => continue,
        };
        message.set_field(&field, value);
    }
    message
}

async fn call_dynamically(channel: &Channel, method: &MethodDescriptor) -> RawAnswer {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let request = plausible(method.input()).encode_to_vec();
    if method.is_server_streaming() {
        send_for_first(channel, grpc_request(&path, framed(&request))).await
    } else {
        call(channel, &path, &request).await
    }
}

#[tokio::test]
async fn every_method_that_reflection_lists_can_be_called_without_a_proto_file() {
    for version in ["v1", "v1alpha"] {
        let repo = TestRepo::new();
        let mut daemon = repo.serve();
        let channel = repo.channel().await;
        let (services, pool) = match version {
            "v1" => reflect!(v1, channel),
            _ => reflect!(v1alpha, channel),
        };
        for service in SERVICES {
            assert!(
                services.contains(*service),
                "{version} does not list {service}"
            );
        }
        assert!(services.contains("grpc.health.v1.Health"), "{services:?}");

        let mut methods: Vec<_> = pool
            .services()
            .flat_map(|s| s.methods().collect::<Vec<_>>())
            .collect();
        // Hooks first, so that the log has something to deliver; Shutdown last.
        methods.sort_by_key(|method| {
            let name = method.full_name().to_owned();
            (
                name.ends_with(".Shutdown"),
                !name.contains("HookService"),
                !name.ends_with(".RegisterHook"),
                name,
            )
        });
        let mut implemented = BTreeSet::new();
        for method in &methods {
            if [
                "SubscribeHookEvents",
                "SubscribeSignalUpdates",
                "WatchThreads",
            ]
            .contains(&method.name())
            {
                // Nothing happens here that they could deliver; tests of their own have them.
                continue;
            }
            match call_dynamically(&channel, method).await {
                Ok(bytes) => {
                    let answer = DynamicMessage::decode(method.output(), bytes).unwrap();
                    assert_eq!(answer.unknown_fields().count(), 0, "{answer:?}");
                    implemented.insert(method.full_name().to_owned());
                }
                Err(status) if status.code() == Code::Unimplemented => {
                    assert_refused(&status, Code::Unimplemented, Reason::NotImplemented);
                    assert!(status.message().contains(method.name()), "{status:?}");
                }
                Err(status) => {
                    // What it names is not there, or it has another's key: the caller's mistake,
                    // and said to be one.
                    let reason = assert_ours(&status);
                    let caller_is_wrong = matches!(
                        status.code(),
                        Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition
                    );
                    assert!(
                        caller_is_wrong,
                        "{}: {reason}: {status:?}",
                        method.full_name()
                    );
                    implemented.insert(method.full_name().to_owned());
                }
            }
        }
        for method in [
            "heddle.v1.HookService.RegisterHook",
            "heddle.v1.HookService.DeregisterHook",
            "heddle.v1.HookService.ListHooks",
            "heddle.v1.HookService.GetHookEventSchema",
            "heddle.v1.HookService.RespondToHook",
            "heddle.local.v1.HookRunService.FireHookEvent",
            "heddle.local.v1.HookRunService.TryHook",
            "heddle.v1.OperationLogQueryService.QueryOperations",
            "heddle.v1.OperationLogQueryService.StreamOperations",
            "heddle.local.v1.DaemonService.GetStatus",
            "heddle.local.v1.DaemonService.Shutdown",
            "grpc.health.v1.Health.Check",
            "grpc.health.v1.Health.Watch",
        ] {
            assert!(
                implemented.contains(method),
                "{method} not among {implemented:?}"
            );
        }
        assert!(daemon.wait().success(), "Shutdown was the last call");
    }
}

#[tokio::test]
async fn health_is_serving_for_the_whole_and_for_each_service() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut client = HealthClient::new(channel);
    let of = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    for service in SERVICES.iter().copied().chain([""]) {
        let answer = client.check(of(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
        let mut watch = client.watch(of(service)).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving, "{service:?}");
    }
    // The standard's own words: clients of health checks know this one.
    let status = client.check(of("nope")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}
