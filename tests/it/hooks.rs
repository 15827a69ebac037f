//! The registry of hooks and the schemas of their events. Bad input is in `wire`.

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        DeregisterHookRequest, GetHookEventSchemaRequest, Hook, HookEventSchema, ListHooksRequest,
        QueryOperationsRequest, RegisterHookRequest,
    },
};
use serde_json::Value;
use tonic::{Code, transport::Channel};

use crate::{
    harness::TestRepo,
    rpc::{assert_refused, hook, hook_names, hooks, operations},
};

async fn register(channel: &Channel, request: RegisterHookRequest) -> Hook {
    let answer = hooks(channel).register_hook(request).await;
    answer.unwrap().into_inner()
}

async fn deregister(channel: &Channel, name: &str) -> bool {
    let request = DeregisterHookRequest {
        name: name.into(),
        ..Default::default()
    };
    let answer = hooks(channel).deregister_hook(request).await;
    answer.unwrap().into_inner().deleted
}

async fn list(channel: &Channel) -> Vec<Hook> {
    let answer = hooks(channel).list_hooks(ListHooksRequest::default()).await;
    answer.unwrap().into_inner().hooks
}

async fn summaries(channel: &Channel) -> Vec<(String, String)> {
    let hits = operations(channel, QueryOperationsRequest::default()).await;
    hits.into_iter()
        .map(|hit| (hit.verb, hit.summary))
        .collect()
}

#[tokio::test]
async fn hooks_are_listed_in_the_order_of_registration_and_a_replaced_one_keeps_its_place() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    for name in ["c", "a", "b"] {
        register(&channel, hook(name)).await;
    }
    let replaced = Hook {
        name: "a".into(),
        command: "echo \"two\nlines\" \u{1b}[31m é".into(),
        events: vec!["post_merge".into(), "on_signal".into()],
        timeout_ms: 1_500,
        fail_open: true,
    };
    let request = RegisterHookRequest {
        name: replaced.name.clone(),
        command: replaced.command.clone(),
        // Named twice, kept once.
        events: ["post_merge", "on_signal", "post_merge"]
            .map(str::to_owned)
            .into(),
        timeout_ms: replaced.timeout_ms,
        fail_open: replaced.fail_open,
        ..Default::default()
    };
    assert_eq!(register(&channel, request).await, replaced);
    assert_eq!(hook_names(&channel).await, ["c", "a", "b"]);
    let before = list(&channel).await;
    assert_eq!(before[1], replaced);

    assert!(daemon.stop().success());
    let _again = repo.serve();
    let channel = repo.channel().await;
    assert_eq!(list(&channel).await, before);
    // One that comes back after it was removed is a new one.
    assert!(deregister(&channel, "c").await);
    register(&channel, hook("c")).await;
    assert_eq!(hook_names(&channel).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn no_events_means_every_event() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let request = RegisterHookRequest {
        events: Vec::new(),
        ..hook("all")
    };
    assert!(register(&channel, request).await.events.is_empty());
    assert_eq!(list(&channel).await[0].events, Vec::<String>::new());
    let (_, summary) = &summaries(&channel).await[0];
    assert_eq!(summary, "registered hook `all` for every event");
}

#[tokio::test]
async fn what_changed_nothing_is_not_in_the_log() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    assert!(!deregister(&channel, "absent").await);
    register(&channel, hook("there")).await;
    assert!(deregister(&channel, "there").await);
    assert!(!deregister(&channel, "there").await);
    let verbs: Vec<String> = summaries(&channel).await.into_iter().map(|s| s.0).collect();
    assert_eq!(verbs, ["hook_register", "hook_deregister"]);
}

#[tokio::test]
async fn g8_the_257th_hook_is_refused_and_a_replacement_is_not() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for n in 0..256 {
        register(&channel, hook(&format!("hook-{n}"))).await;
    }
    let status = hooks(&channel).register_hook(hook("one-more")).await;
    assert_refused(
        &status.unwrap_err(),
        Code::ResourceExhausted,
        Reason::TooManyHooks,
    );
    register(&channel, hook("hook-7")).await;
    assert_eq!(list(&channel).await.len(), 256);
    assert!(deregister(&channel, "hook-9").await);
    register(&channel, hook("one-more")).await;
}

async fn schemas(channel: &Channel, event: &str) -> Vec<HookEventSchema> {
    let request = GetHookEventSchemaRequest {
        event_name: event.into(),
    };
    let answer = hooks(channel).get_hook_event_schema(request).await;
    answer.unwrap().into_inner().schemas
}

#[tokio::test]
async fn every_event_has_schemas_of_its_payload_and_its_response() {
    let events: [(&str, bool, &[&str]); 10] = [
        (
            "pre_capture",
            true,
            &["thread", "intent", "base_state", "changed_paths"],
        ),
        ("pre_thread_create", true, &["name", "from_state"]),
        ("pre_merge", true, &["source", "target"]),
        ("pre_push", true, &["remote"]),
        ("on_conflict", true, &["conflicts"]),
        (
            "post_capture",
            false,
            &["thread", "state_id", "parent_state"],
        ),
        ("post_thread_create", false, &["name", "state_id"]),
        ("post_merge", false, &["state_id"]),
        ("post_push", false, &["remote"]),
        (
            "on_signal",
            false,
            &["state_id", "signal_kind", "anchor", "reason"],
        ),
    ];
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let all = schemas(&channel, "").await;
    assert_eq!(all.len(), events.len());
    for (event, is_gate, fields) in events {
        let found: Vec<_> = all.iter().filter(|s| s.event_name == event).collect();
        assert_eq!(schemas(&channel, event).await, [found[0].clone()]);
        assert!(found[0].schema_version >= 1);
        let payload = document(&found[0].payload_schema_json);
        let mut named: Vec<&str> = payload["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        // What the contract does not name comes behind, and need not be there.
        assert_eq!(&named[..fields.len()], fields, "{event}");
        let required = payload["required"].as_array().unwrap();
        named = required.iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(named, fields, "{event}");

        let response = document(&found[0].response_schema_json);
        let properties = response["properties"].as_object().unwrap();
        assert_eq!(properties.contains_key("abort"), is_gate, "{event}");
        assert_eq!(
            properties.contains_key("extra_signals"),
            event == "pre_capture"
        );
        // Empty output answers the same as an empty object, so nothing can be required.
        assert!(response.get("required").is_none(), "{event}");
    }
}

/// A schema of the draft that we say; every schema inside it has a type that there is.
fn document(text: &str) -> Value {
    let schema: Value = serde_json::from_str(text).unwrap();
    let draft = "https://json-schema.org/draft/2020-12/schema";
    assert_eq!(schema["$schema"], draft);
    check(&schema);
    schema
}

fn check(schema: &Value) {
    let kind = schema["type"]
        .as_str()
        .unwrap_or_else(|| panic!("{schema}"));
    assert!(
        ["object", "array", "string", "integer", "boolean"].contains(&kind),
        "{schema}"
    );
    let properties = schema.get("properties").and_then(Value::as_object);
    assert_eq!(properties.is_some(), kind == "object", "{schema}");
    properties
        .into_iter()
        .flatten()
        .for_each(|(_, inner)| check(inner));
    assert_eq!(schema.get("items").is_some(), kind == "array", "{schema}");
    schema.get("items").into_iter().for_each(check);
}
