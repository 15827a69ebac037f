//! Calls about hooks for tests: registering commands, listening live, answering gates.

use std::{
    fs,
    time::{Duration, Instant},
};

use heddle_agent::grpc_local_impl::proto::v1::{
    DeregisterHookRequest, HookEvent, RegisterHookRequest, RespondToHookRequest,
    StartThreadRequest, SubscribeHookEventsRequest,
};
use serde_json::Value;
use tonic::{Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    harness::{DEADLINE, TestRepo},
    rpc::hooks,
    states::{capture, threads},
};

/// A command that is asked about captures.
pub fn gate(name: &str, command: &str) -> RegisterHookRequest {
    on(name, command, &["pre_capture"])
}

/// A command for these events.
pub fn on(name: &str, command: &str, events: &[&str]) -> RegisterHookRequest {
    RegisterHookRequest {
        name: name.into(),
        command: command.into(),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        ..Default::default()
    }
}

/// Registers a command.
pub async fn register(channel: &Channel, request: RegisterHookRequest) {
    hooks(channel).register_hook(request).await.unwrap();
}

/// Changes a file, so that there is something to capture.
pub fn change(repo: &TestRepo, text: &str) {
    fs::write(repo.path("changed"), text).unwrap();
}

/// Changes a file and captures; answers whether it passed.
pub async fn try_capture(repo: &TestRepo, channel: &Channel, text: &str) -> Result<(), Status> {
    change(repo, text);
    capture(channel, text).await.map(drop)
}

/// Starts a thread.
pub async fn start_thread(channel: &Channel, name: &str) -> Result<(), Status> {
    let request = StartThreadRequest {
        name: name.into(),
        ..Default::default()
    };
    threads(channel).start_thread(request).await.map(drop)
}

/// What a veto says: the hook's name and its reason, as programs are told them.
#[track_caller]
pub fn veto(outcome: Result<(), Status>) -> (String, String) {
    let status = outcome.expect_err("it passed");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "HOOK_VETOED", "{status:?}");
    let (hook, reason) = (&info.metadata["hook"], &info.metadata["hook_reason"]);
    for told in [hook, reason] {
        assert!(status.message().contains(told.as_str()), "{status:?}");
    }
    (hook.clone(), reason.clone())
}

/// Captures with this hook alone: the reason that it vetoes with; `None` where it passes.
pub async fn outcome(repo: &TestRepo, hook: RegisterHookRequest) -> Option<String> {
    let channel = repo.channel().await;
    let name = hook.name.clone();
    register(&channel, hook).await;
    let tried = try_capture(repo, &channel, &format!("{:?}", Instant::now())).await;
    let request = DeregisterHookRequest {
        name: name.clone(),
        ..Default::default()
    };
    hooks(&channel).deregister_hook(request).await.unwrap();
    tried.is_err().then(|| {
        let (hook, reason) = veto(tried);
        assert_eq!(hook, name);
        reason
    })
}

/// Listens to these events.
pub async fn listen(channel: &Channel, events: &[&str]) -> Streaming<HookEvent> {
    listen_for(channel, events, Duration::ZERO).await
}

/// The same, and is waited for so long.
pub async fn listen_for(
    channel: &Channel,
    events: &[&str],
    timeout: Duration,
) -> Streaming<HookEvent> {
    let request = SubscribeHookEventsRequest {
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        timeout_ms: timeout.as_millis() as u32,
        ..Default::default()
    };
    let stream = hooks(channel).subscribe_hook_events(request).await;
    stream.unwrap().into_inner()
}

/// The next event, which must come.
pub async fn next(stream: &mut Streaming<HookEvent>) -> HookEvent {
    let next = tokio::time::timeout(DEADLINE, stream.message()).await;
    next.expect("no event").unwrap().expect("the stream ended")
}

/// An event's payload.
pub fn payload(event: &HookEvent) -> Value {
    serde_json::from_str(&event.payload_json).unwrap()
}

/// Answers a gate; tells whether it counted.
pub async fn respond(channel: &Channel, event: &HookEvent, abort: &str) -> bool {
    respond_as(
        channel,
        RespondToHookRequest {
            hook_event_id: event.hook_event_id.clone(),
            abort: abort.into(),
            ..Default::default()
        },
    )
    .await
    .unwrap()
}

/// Answers as it is said.
pub async fn respond_as(channel: &Channel, request: RespondToHookRequest) -> Result<bool, Status> {
    let answer = hooks(channel).respond_to_hook(request).await?;
    Ok(answer.into_inner().accepted)
}
