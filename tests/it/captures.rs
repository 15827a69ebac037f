//! Captures through the socket: a state is a Git commit with the worktree's tree; nothing of Git's
//! changes by it (G9).

use std::fs;

use heddle_agent::{failure::Reason, grpc_local_impl::proto::v1::CaptureThreadRequest};
use tonic::{Code, Request};
use uuid::Uuid;

use crate::{
    harness::{TestRepo, run},
    rpc::{assert_blames, assert_refused, operations},
    states::{GitView, capture, captured, current_thread, hex, threads},
};

#[tokio::test]
async fn a_capture_is_a_commit_with_the_worktrees_tree() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("new"), "new\n").unwrap();
    let head = repo.git(&["rev-parse", "HEAD"]);
    let mut request = Request::new(CaptureThreadRequest {
        intent: "Try something\n\nIn two paragraphs.".into(),
        confidence: Some(0.75),
        ..Default::default()
    });
    let metadata = request.metadata_mut();
    metadata.insert("heddle-actor-name", "Ada".parse().unwrap());
    metadata.insert("heddle-actor-email", "ada@example.org".parse().unwrap());
    metadata.insert("heddle-agent", "example/model-1".parse().unwrap());
    let answer = threads(&channel).capture_thread(request).await;
    let first = answer.unwrap().into_inner();
    assert_eq!(first.thread, "main");
    assert_eq!(first.coordination_status, "active");
    assert_eq!((first.unchanged, first.changed_paths), (false, 1));
    assert_eq!(hex(&first.parent_state), head.trim());
    let state = hex(&first.state_id);
    let commit = repo.git(&["cat-file", "commit", &state]);
    assert!(commit.contains(&format!("parent {head}")), "{commit}");
    assert!(commit.contains("author Ada <ada@example.org> "), "{commit}");
    assert!(commit.contains("\nchange-id "), "{commit}");
    let message = repo.git(&["log", "-1", "--format=%B", &state]);
    assert_eq!(
        message.trim(),
        "Try something\n\nIn two paragraphs.\n\nHeddle-Thread: main\nHeddle-Agent: example/model-1\nHeddle-Confidence: 0.75"
    );
    let names = repo.git(&["ls-tree", "-r", "--name-only", &state]);
    assert_eq!(names, "README\nnew\n");
    let thread = repo.git(&["rev-parse", "refs/heddle/threads/main"]);
    assert_eq!(thread.trim(), state);

    fs::write(repo.path("new"), "newer\n").unwrap();
    let second = capture(&channel, "").await.unwrap();
    assert_eq!(hex(&second.parent_state), state, "the tip of the chain");
    let log = operations(&channel, Default::default()).await;
    let told: Vec<_> = log
        .iter()
        .map(|o| (o.verb.as_str(), o.summary.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("snapshot", "Try something"),
            ("snapshot", "captured 1 path changed")
        ]
    );
    assert_eq!(log[0].agent, "example/model-1");
    assert_eq!(hex(&log[0].state_id), state);
}

#[tokio::test]
async fn what_did_not_change_is_the_same_state() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let head = repo.git(&["rev-parse", "HEAD"]);
    let unchanged = capture(&channel, "nothing").await.unwrap();
    assert!(unchanged.unchanged);
    assert_eq!(hex(&unchanged.state_id), head.trim());
    fs::write(repo.path("new"), "x").unwrap();
    let first = captured(&channel, "one").await;
    let again = capture(&channel, "again").await.unwrap();
    assert!(again.unchanged);
    assert_eq!(hex(&again.state_id), first);
    assert_eq!(operations(&channel, Default::default()).await.len(), 1);
    // Taken up by the next daemon.
    drop(_daemon);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    assert_eq!(captured(&channel, "still").await, first);
}

#[tokio::test]
async fn a_commit_of_the_users_ends_the_chain_and_its_tip_is_kept() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("a"), "1").unwrap();
    captured(&channel, "one").await;
    fs::write(repo.path("a"), "2").unwrap();
    let tip = captured(&channel, "two").await;
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "mine"]);
    let head = repo.git(&["rev-parse", "HEAD"]).trim().to_owned();
    let thread = current_thread(&channel).await;
    assert_eq!(hex(thread.current_state()), head);
    fs::write(repo.path("a"), "3").unwrap();
    let next = capture(&channel, "three").await.unwrap();
    assert_eq!(hex(&next.parent_state), head);
    let kept = repo.git(&["rev-parse", "refs/heddle/kept/main/1"]);
    assert_eq!(kept.trim(), tip);
}

#[tokio::test]
async fn g9_captures_leave_git_as_it_is() {
    let repo = TestRepo::new();
    fs::write(repo.path("staged"), "staged").unwrap();
    repo.git(&["add", "staged"]);
    fs::write(repo.path("staged"), "and changed").unwrap();
    fs::write(repo.path("untracked"), "x").unwrap();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let before = GitView::of(&repo);
    for round in 0..5 {
        fs::write(repo.path("untracked"), format!("{round}")).unwrap();
        captured(&channel, "").await;
    }
    assert_eq!(GitView::of(&repo), before);
    assert_eq!(repo.git(&["fsck", "--strict", "--no-dangling"]), "");
}

#[tokio::test]
async fn g3_a_retried_capture_is_one() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("new"), "x").unwrap();
    let request = CaptureThreadRequest {
        intent: "once".into(),
        client_operation_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let first = threads(&channel).capture_thread(request.clone()).await;
    let first = first.unwrap().into_inner();
    fs::write(repo.path("new"), "y").unwrap();
    daemon.crash();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let again = threads(&channel).capture_thread(request).await;
    assert_eq!(again.unwrap().into_inner(), first);
    assert_eq!(operations(&channel, Default::default()).await.len(), 1);
}

#[tokio::test]
async fn many_at_once_make_one_chain() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let calls = (0..32).map(|n| {
        let (channel, path) = (channel.clone(), repo.path(format!("file-{n}")));
        async move {
            fs::write(path, "x").unwrap();
            capture(&channel, "").await.unwrap()
        }
    });
    let all = futures_util::future::join_all(calls).await;
    let fresh = all.iter().filter(|answer| !answer.unchanged).count();
    let chain = repo.git(&["rev-list", "HEAD..refs/heddle/threads/main"]);
    assert_eq!(chain.lines().count(), fresh);
    let names = repo.git(&["ls-tree", "--name-only", "refs/heddle/threads/main"]);
    assert_eq!(names.lines().count(), 33);
}

#[tokio::test]
async fn a_detached_worktree_keeps_its_thread_and_a_linked_one_has_its_own() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("a"), "1").unwrap();
    captured(&channel, "").await;
    repo.git(&["checkout", "-q", "--detach"]);
    fs::write(repo.path("a"), "2").unwrap();
    assert_eq!(capture(&channel, "").await.unwrap().thread, "main");

    let linked = repo.around().join("linked");
    repo.git(&[
        "worktree",
        "add",
        "-q",
        "--detach",
        linked.to_str().unwrap(),
    ]);
    fs::write(linked.join("only-there"), "x").unwrap();
    let request = CaptureThreadRequest {
        repo_path: linked.to_str().unwrap().into(),
        ..Default::default()
    };
    let answer = threads(&channel).capture_thread(request).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.thread, "detached/linked-linked");
    let names = repo.git(&["ls-tree", "--name-only", &hex(&answer.state_id)]);
    assert_eq!(names, "README\nonly-there\n");
}

#[tokio::test]
async fn an_empty_repository_has_its_first_state() {
    let repo = TestRepo::empty_at("empty");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("a"), "1").unwrap();
    let first = capture(&channel, "").await.unwrap();
    assert_eq!(
        (first.thread.as_str(), first.parent_state.len()),
        ("main", 0)
    );
    fs::write(repo.path("a"), "2").unwrap();
    let second = capture(&channel, "").await.unwrap();
    assert_eq!(second.parent_state, first.state_id);
}

#[tokio::test]
async fn bad_input_is_refused_with_the_reason() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let refused = async |request: CaptureThreadRequest| {
        threads(&channel).capture_thread(request).await.unwrap_err()
    };
    let named = |name: &str| CaptureThreadRequest {
        name: name.into(),
        ..Default::default()
    };
    for name in [
        "../../heads/main",
        "a..b",
        "a b",
        "x.lock",
        "/a",
        "a//b",
        "@{",
    ] {
        assert_blames(
            &refused(named(name)).await,
            Reason::ThreadNameInvalid,
            "name",
        );
    }
    assert_blames(
        &refused(named("nobody")).await,
        Reason::ThreadUnknown,
        "name",
    );
    let long = CaptureThreadRequest {
        intent: "x".repeat(65 * 1024),
        ..Default::default()
    };
    assert_blames(&refused(long).await, Reason::InvalidField, "intent");
    for confidence in [-0.1, 1.1, f32::NAN] {
        let request = CaptureThreadRequest {
            confidence: Some(confidence),
            ..Default::default()
        };
        assert_blames(&refused(request).await, Reason::InvalidField, "confidence");
    }
}

#[tokio::test]
async fn a_bare_repository_has_no_worktree_to_capture() {
    let repo = TestRepo::new();
    let bare = repo.around().join("bare.git");
    repo.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let said = run(repo
        .command(crate::harness::HEDDLE)
        .current_dir(&bare)
        .args(["agent", "address", "--start"]));
    said.ok();
    let channel = crate::harness::channel_at(bare.join(".heddle/sockets/grpc.sock"))
        .await
        .unwrap();
    let refused = capture(&channel, "").await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::NoWorktree);
    run(repo
        .command(crate::harness::HEDDLE)
        .current_dir(&bare)
        .args(["agent", "stop"]))
    .ok();
}
