//! Live subscribers: what they are told and asked, and every way in which they can answer or not.

use std::time::{Duration, Instant};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{RespondToHookRequest, SubscribeHookEventsRequest},
};
use tonic::Code;
use uuid::Uuid;

use crate::{
    harness::TestRepo,
    listening::{
        change, gate, listen, listen_for, next, payload, register, respond, respond_as,
        start_thread, try_capture, veto,
    },
    rpc::{assert_blames, assert_refused, hooks},
    states::{capture, hex},
};

/// Captures in the background.
fn capturing(
    repo: &TestRepo,
    channel: &tonic::transport::Channel,
    text: &str,
) -> tokio::task::JoinHandle<Result<(), tonic::Status>> {
    change(repo, text);
    let channel = channel.clone();
    tokio::spawn(async move { capture(&channel, "").await.map(drop) })
}

#[tokio::test]
async fn each_subscriber_is_asked_with_an_id_of_its_own_and_one_veto_is_enough() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let minute = Duration::from_secs(60);
    let mut one = listen_for(&channel, &["pre_capture"], minute).await;
    let mut other = listen_for(&channel, &[], minute).await;

    let call = capturing(&repo, &channel, "1");
    let (first, second) = (next(&mut one).await, next(&mut other).await);
    assert_ne!(first.hook_event_id, second.hook_event_id);
    assert_eq!(first.event_name, "pre_capture");
    assert_eq!(payload(&first), payload(&second));
    assert_eq!(payload(&first)["changed_paths"][0], "changed");
    assert!(first.emitted_at.is_some());
    assert!(respond(&channel, &first, "").await);
    assert!(!call.is_finished(), "the other has not answered");
    assert!(respond(&channel, &second, "").await);
    call.await.unwrap().unwrap();

    // The one that says nothing is not waited for when the other says no.
    let notice = next(&mut other).await;
    assert_eq!(notice.event_name, "post_capture");
    let call = capturing(&repo, &channel, "2");
    let (_silent, second) = (next(&mut one).await, next(&mut other).await);
    let began = Instant::now();
    assert!(respond(&channel, &second, "not now").await);
    let (hook, reason) = veto(call.await.unwrap());
    assert!(hook.starts_with("subscriber (pid "), "{hook}");
    assert_eq!(reason, "not now");
    assert!(began.elapsed() < minute / 2);
}

#[tokio::test]
async fn each_id_is_answered_once_and_what_is_late_or_unknown_does_not_count() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut stream = listen(&channel, &["pre_capture"]).await;
    let call = capturing(&repo, &channel, "1");
    let event = next(&mut stream).await;
    assert!(respond(&channel, &event, "").await);
    assert!(!respond(&channel, &event, "too late").await, "repeated");
    call.await.unwrap().unwrap();
    for id in [
        Uuid::new_v4().to_string(),
        String::new(),
        "../../etc".into(),
    ] {
        let request = RespondToHookRequest {
            hook_event_id: id,
            abort: "no".into(),
            ..Default::default()
        };
        assert!(!respond_as(&channel, request).await.unwrap());
    }

    // Silent for the configured 2 s: it passes, and an answer comes late.
    let call = capturing(&repo, &channel, "2");
    let event = next(&mut stream).await;
    let began = Instant::now();
    call.await.unwrap().unwrap();
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(1_500), "{waited:?}");
    assert!(!respond(&channel, &event, "too late").await, "late");
}

#[tokio::test]
async fn g3_an_answer_with_a_key_is_the_same_answer_when_it_is_sent_again() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let mut stream = listen(&channel, &["pre_capture"]).await;
    let call = capturing(&repo, &channel, "1");
    let event = next(&mut stream).await;
    let request = RespondToHookRequest {
        hook_event_id: event.hook_event_id.clone(),
        abort: "no".into(),
        client_operation_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    assert!(respond_as(&channel, request.clone()).await.unwrap());
    veto(call.await.unwrap());
    assert!(respond_as(&channel, request.clone()).await.unwrap());
    assert!(
        !respond(&channel, &event, "no").await,
        "without the key it is another"
    );
    daemon.crash();
    let _again = repo.serve();
    assert!(respond_as(&repo.channel().await, request).await.unwrap());
}

#[tokio::test]
async fn a_subscriber_that_goes_away_passes_at_once() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut stream = listen_for(&channel, &["pre_capture"], Duration::from_secs(600)).await;
    let call = capturing(&repo, &channel, "1");
    next(&mut stream).await;
    drop(stream);
    tokio::time::timeout(Duration::from_secs(30), call)
        .await
        .expect("it is waited for")
        .unwrap()
        .unwrap();
    try_capture(&repo, &channel, "2").await.unwrap();
}

#[tokio::test]
async fn commands_come_before_subscribers_who_are_not_asked_about_what_is_vetoed() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut stream = listen(&channel, &[]).await;
    register(&channel, gate("no", "exit 1")).await;
    veto(try_capture(&repo, &channel, "1").await);
    start_thread(&channel, "fine").await.unwrap();
    let event = next(&mut stream).await;
    assert_eq!(event.event_name, "pre_thread_create");
    assert_eq!(payload(&event)["name"], "fine");
}

#[tokio::test]
async fn a_subscriber_is_told_of_what_it_listens_to_with_the_ids_of_the_states() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut stream = listen(&channel, &["post_capture", "post_thread_create"]).await;
    change(&repo, "1");
    let captured = capture(&channel, "").await.unwrap();
    // Nothing changed, so nothing was captured.
    capture(&channel, "").await.unwrap();
    start_thread(&channel, "next").await.unwrap();
    let event = next(&mut stream).await;
    assert_eq!(event.event_name, "post_capture");
    let said = payload(&event);
    assert_eq!(said["thread"], "main");
    assert_eq!(said["state_id"], hex(&captured.state_id));
    assert_eq!(said["parent_state"], hex(&captured.parent_state));
    let event = next(&mut stream).await;
    assert_eq!(event.event_name, "post_thread_create");
    assert_eq!(payload(&event)["state_id"], hex(&captured.state_id));
}

#[tokio::test]
async fn what_cannot_be_asked_for_or_answered_is_refused() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let subscribe = async |request| {
        let answer = hooks(&channel).subscribe_hook_events(request).await;
        answer.map(drop).unwrap_err()
    };
    let request = SubscribeHookEventsRequest {
        events: vec!["pre_coffee".into()],
        ..Default::default()
    };
    assert_blames(
        &subscribe(request).await,
        Reason::HookEventUnknown,
        "events",
    );
    let request = SubscribeHookEventsRequest {
        timeout_ms: 600_001,
        ..Default::default()
    };
    assert_blames(
        &subscribe(request).await,
        Reason::InvalidField,
        "timeout_ms",
    );

    let mut stream = listen_for(&channel, &["pre_capture"], Duration::from_secs(60)).await;
    let call = capturing(&repo, &channel, "1");
    let event = next(&mut stream).await;
    let signals = |text: &str| RespondToHookRequest {
        hook_event_id: event.hook_event_id.clone(),
        extra_signals_json: text.into(),
        ..Default::default()
    };
    let long = format!("[{}]", " ".repeat(64 * 1024));
    for text in ["{", "{}", r#"[{"kind": "x"}]"#, long.as_str()] {
        let refused = respond_as(&channel, signals(text)).await.unwrap_err();
        assert_blames(&refused, Reason::InvalidField, "extra_signals_json");
    }
    let mut buffered = tonic::Request::new(signals(""));
    buffered
        .metadata_mut()
        .insert("heddle-transaction-id", "x".parse().unwrap());
    let refused = hooks(&channel).respond_to_hook(buffered).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, Reason::InvalidField);
    // None of that was the answer.
    let kept = signals(r#"[{"kind": "review", "reason": "look twice"}]"#);
    assert!(respond_as(&channel, kept).await.unwrap());
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn g7_a_stream_of_events_ends_with_unavailable_when_the_daemon_stops() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let mut stream = listen(&repo.channel().await, &[]).await;
    assert!(daemon.stop().success());
    let ended = stream.message().await.unwrap_err();
    assert_refused(&ended, Code::Unavailable, Reason::Draining);
}
