//! Threads through the socket: started, listed, completed, watched.

use std::fs;

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        CaptureThreadRequest, CompleteThreadRequest, GetThreadRequest, ListThreadsRequest,
        StartThreadRequest, WatchThreadsRequest, thread_state::Kind,
    },
};

use crate::{
    harness::TestRepo,
    rpc::assert_blames,
    states::{capture, captured, hex, threads},
};

fn start(name: &str) -> StartThreadRequest {
    StartThreadRequest {
        name: name.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_thread_with_a_path_has_a_worktree_of_its_own() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("a"), "1").unwrap();
    let base = captured(&channel, "").await;
    let path = repo.around().join("fix");
    let started = threads(&channel)
        .start_thread(StartThreadRequest {
            path: path.to_str().unwrap().into(),
            provider: "example".into(),
            model: "model-1".into(),
            ..start("fix")
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(hex(started.base_state()), base);
    assert_eq!(
        (started.provider(), started.model()),
        ("example", "model-1")
    );
    assert_eq!(
        (started.is_isolated, started.parent_thread()),
        (true, "main")
    );
    assert_eq!(started.thread_state_typed(), Kind::ThreadStateDraft);
    assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "1");
    assert_eq!(
        repo.git(&["branch", "--list"]),
        "* main\n",
        "detached, no branch"
    );
    // It is captured there, from wherever the caller stands.
    fs::write(path.join("a"), "2").unwrap();
    let request = CaptureThreadRequest {
        name: "fix".into(),
        ..Default::default()
    };
    let state = threads(&channel)
        .capture_thread(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (state.thread.as_str(), hex(&state.parent_state)),
        ("fix", base)
    );
    let listed = threads(&channel)
        .list_threads(ListThreadsRequest::default())
        .await;
    let listed = listed.unwrap().into_inner().threads;
    let names: Vec<_> = listed
        .iter()
        .map(|t| (t.name.as_str(), t.is_current))
        .collect();
    assert_eq!(names, [("fix", false), ("main", true)]);
    assert_eq!(listed[1].child_threads, ["fix"]);
    assert_eq!(hex(listed[0].current_state()), hex(&state.state_id));
}

#[tokio::test]
async fn names_follow_gits_rules_and_the_error_says_which() {
    let repo = TestRepo::new();
    repo.git(&["branch", "taken"]);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for (name, rule) in [
        ("", "is empty"),
        ("a b", "allows in no name"),
        ("a..b", ".."),
        (".a", "."),
        ("a.lock", ".lock"),
        ("a/", "slash"),
        ("@", "current commit"),
    ] {
        let refused = threads(&channel)
            .start_thread(start(name))
            .await
            .unwrap_err();
        assert_blames(&refused, Reason::ThreadNameInvalid, "name");
        assert!(
            refused.message().contains(rule),
            "{name}: {}",
            refused.message()
        );
    }
    threads(&channel).start_thread(start("a/b")).await.unwrap();
    for name in ["a/b", "a", "a/b/c", "taken"] {
        let refused = threads(&channel)
            .start_thread(start(name))
            .await
            .unwrap_err();
        assert_blames(&refused, Reason::ThreadExists, "name");
    }
}

#[tokio::test]
async fn a_completed_thread_says_so() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    threads(&channel).start_thread(start("fix")).await.unwrap();
    let complete = CompleteThreadRequest {
        name: "fix".into(),
        ..Default::default()
    };
    let done = threads(&channel)
        .complete_thread(complete.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(done.coordination_status, "complete");
    threads(&channel).complete_thread(complete).await.unwrap();
    let unknown = GetThreadRequest {
        name: "nobody".into(),
        ..Default::default()
    };
    let refused = threads(&channel).get_thread(unknown).await.unwrap_err();
    assert_blames(&refused, Reason::ThreadUnknown, "name");
}

#[tokio::test]
async fn a_watch_resumes_and_neither_misses_nor_repeats() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let watch = async |after| {
        let channel = repo.channel().await;
        let request = WatchThreadsRequest {
            after_event_id: after,
            ..Default::default()
        };
        threads(&channel)
            .watch_threads(request)
            .await
            .unwrap()
            .into_inner()
    };
    let mut events = watch(0).await;
    threads(&channel).start_thread(start("fix")).await.unwrap();
    let first = events.message().await.unwrap().unwrap();
    assert_eq!(
        (first.thread.as_str(), first.event_type.as_str()),
        ("fix", "thread_create")
    );
    assert_eq!(first.summary.unwrap().name, "fix");
    fs::write(repo.path("a"), "1").unwrap();
    let state = capture(&channel, "").await.unwrap().state_id;
    let second = events.message().await.unwrap().unwrap();
    assert_eq!(
        (second.thread.as_str(), second.event_type.as_str()),
        ("main", "snapshot")
    );
    assert_eq!(second.summary.unwrap().current_state(), state);
    daemon.crash();
    assert!(events.message().await.is_err());
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("a"), "2").unwrap();
    captured(&channel, "").await;
    let mut events = watch(second.event_id).await;
    let third = events.message().await.unwrap().unwrap();
    assert_eq!(third.event_id, second.event_id + 1);
}
