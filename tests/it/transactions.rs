//! Transactions through the socket: calls are buffered, answered for good, and applied all together
//! or not at all.

use std::{fs, time::Duration};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::{
        local::{
            GetStatusRequest, ListTransactionsRequest, ShutdownRequest, Transaction,
            daemon_service_client::DaemonServiceClient, restore_target::Target,
            transaction_list_service_client::TransactionListServiceClient,
        },
        v1::{
            AbortTransactionRequest, BeginTransactionRequest, CaptureThreadRequest,
            CaptureThreadResponse, CommitTransactionRequest, CommitTransactionResponse,
            CompleteThreadRequest, GetTransactionStatusRequest, Hook, ListThreadsRequest,
            RegisterHookRequest, StartThreadRequest, TransactionStatus,
            transaction_service_client::TransactionServiceClient,
        },
    },
};
use tonic::{Code, Request, Status, transport::Channel};
use uuid::Uuid;

use crate::{
    harness::{Daemon, TestRepo},
    rpc::{assert_blames, assert_refused, hook, hook_names, hooks, operations},
    states::{GitView, captured, content, current_thread, hex, restore, threads, to, worktrees},
};

type Transactions = TransactionServiceClient<Channel>;

fn transactions(channel: &Channel) -> Transactions {
    TransactionServiceClient::new(channel.clone())
}

fn key() -> String {
    Uuid::new_v4().to_string()
}

/// A request that joins a transaction.
fn within<T>(id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("heddle-transaction-id", id.parse().unwrap());
    request
}

async fn begin(channel: &Channel) -> String {
    begin_on(channel, "").await.unwrap()
}

async fn begin_on(channel: &Channel, thread: &str) -> Result<String, Status> {
    let request = BeginTransactionRequest {
        thread: thread.into(),
        message: "several things at once".into(),
        ..Default::default()
    };
    let begun = transactions(channel).begin_transaction(request).await?;
    Ok(begun.into_inner().transaction_id)
}

async fn commit(channel: &Channel, id: &str) -> Result<CommitTransactionResponse, Status> {
    let request = CommitTransactionRequest {
        transaction_id: id.into(),
        ..Default::default()
    };
    Ok(transactions(channel)
        .commit_transaction(request)
        .await?
        .into_inner())
}

async fn abort(channel: &Channel, id: &str, rewind_worktree: bool) -> Result<bool, Status> {
    let request = AbortTransactionRequest {
        transaction_id: id.into(),
        reason: "thought better of it".into(),
        rewind_worktree,
        ..Default::default()
    };
    let answer = transactions(channel).abort_transaction(request).await?;
    Ok(answer.into_inner().aborted)
}

async fn status(channel: &Channel, id: &str) -> Result<TransactionStatus, Status> {
    let request = GetTransactionStatusRequest {
        transaction_id: id.into(),
        ..Default::default()
    };
    Ok(transactions(channel)
        .get_transaction_status(request)
        .await?
        .into_inner())
}

async fn listed(channel: &Channel, include_ended: bool) -> Vec<Transaction> {
    let mut client = TransactionListServiceClient::new(channel.clone());
    let request = ListTransactionsRequest {
        include_ended,
        ..Default::default()
    };
    client
        .list_transactions(request)
        .await
        .unwrap()
        .into_inner()
        .transactions
}

async fn register(channel: &Channel, id: &str, name: &str) -> Result<Hook, Status> {
    let request = RegisterHookRequest {
        client_operation_id: key(),
        ..hook(name)
    };
    Ok(hooks(channel)
        .register_hook(within(id, request))
        .await?
        .into_inner())
}

async fn capture_in(channel: &Channel, id: &str) -> Result<CaptureThreadResponse, Status> {
    let request = CaptureThreadRequest {
        client_operation_id: key(),
        ..Default::default()
    };
    let answer = threads(channel).capture_thread(within(id, request)).await?;
    Ok(answer.into_inner())
}

async fn verbs(channel: &Channel) -> Vec<String> {
    let log = operations(channel, Default::default()).await;
    log.into_iter().map(|operation| operation.verb).collect()
}

#[tokio::test]
async fn buffered_calls_are_seen_only_after_the_commit_and_then_all_of_them() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let git = GitView::of(&repo);
    let id = begin(&channel).await;
    register(&channel, &id, "one").await.unwrap();
    fs::write(repo.path("a"), "1").unwrap();
    let first = capture_in(&channel, &id).await.unwrap();
    fs::write(repo.path("a"), "2").unwrap();
    let second = capture_in(&channel, &id).await.unwrap();
    assert_eq!(
        second.parent_state, first.state_id,
        "it builds upon the one before"
    );
    let start = StartThreadRequest {
        name: "fix".into(),
        ..Default::default()
    };
    threads(&channel)
        .start_thread(within(&id, start))
        .await
        .unwrap();
    let complete = CompleteThreadRequest {
        name: "fix".into(),
        ..Default::default()
    };
    threads(&channel)
        .complete_thread(within(&id, complete))
        .await
        .unwrap();

    assert!(hook_names(&channel).await.is_empty());
    let all = threads(&channel)
        .list_threads(ListThreadsRequest::default())
        .await;
    assert_eq!(all.unwrap().into_inner().threads.len(), 1);
    let head = repo.git(&["rev-parse", "HEAD"]);
    assert_eq!(
        hex(current_thread(&channel).await.current_state()),
        head.trim()
    );
    assert_eq!(verbs(&channel).await, ["transaction_begin"]);
    let stands = status(&channel, &id).await.unwrap();
    assert_eq!((stands.state.as_str(), stands.buffered_ops), ("active", 5));
    let kept = repo.git(&["rev-parse", &format!("refs/heddle/transactions/{id}")]);
    assert_eq!(kept.trim(), hex(&second.state_id), "kept from git gc");

    let done = commit(&channel, &id).await.unwrap();
    assert_eq!(
        (done.state_id.clone(), done.op_count),
        (second.state_id.clone(), 5)
    );
    assert_eq!(hook_names(&channel).await, ["one"]);
    assert_eq!(
        current_thread(&channel).await.current_state(),
        second.state_id
    );
    assert_eq!(
        verbs(&channel).await,
        [
            "transaction_begin",
            "hook_register",
            "snapshot",
            "snapshot",
            "thread_create",
            "thread_complete",
            "transaction_commit"
        ]
    );
    let refs = repo.git(&["for-each-ref", "--format=%(refname)", "refs/heddle"]);
    assert_eq!(refs, "refs/heddle/threads/fix\nrefs/heddle/threads/main\n");
    let stands = status(&channel, &id).await.unwrap();
    assert_eq!(
        (stands.state.as_str(), stands.buffered_ops),
        ("committed", 5)
    );
    // What was committed can be undone, step by step.
    restore(&channel, to(Target::Undo(1))).await.unwrap();
    assert_eq!(fs::read_to_string(repo.path("a")).unwrap(), "1");
    restore(&channel, to(Target::Redo(1))).await.unwrap();
    assert_eq!(GitView::of(&repo).without_status(), git.without_status());
}

#[tokio::test]
async fn g3_answers_are_final_and_retries_have_one_effect() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let id = begin(&channel).await;
    fs::write(repo.path("a"), "1").unwrap();
    let capture = CaptureThreadRequest {
        client_operation_id: key(),
        ..Default::default()
    };
    let first = threads(&channel)
        .capture_thread(within(&id, capture.clone()))
        .await;
    let first = first.unwrap().into_inner();
    daemon.crash();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let again = threads(&channel)
        .capture_thread(within(&id, capture.clone()))
        .await;
    assert_eq!(again.unwrap().into_inner(), first);
    assert_eq!(status(&channel, &id).await.unwrap().buffered_ops, 1);
    // The same key without the transaction is another call.
    let other = threads(&channel)
        .capture_thread(capture.clone())
        .await
        .unwrap_err();
    assert_refused(&other, Code::FailedPrecondition, Reason::OperationIdReused);
    let request = CommitTransactionRequest {
        transaction_id: id.clone(),
        client_operation_id: key(),
        ..Default::default()
    };
    let done = transactions(&channel)
        .commit_transaction(request.clone())
        .await;
    let done = done.unwrap().into_inner();
    daemon.crash();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let again = transactions(&channel).commit_transaction(request).await;
    assert_eq!(again.unwrap().into_inner(), done);
    let again = threads(&channel).capture_thread(within(&id, capture)).await;
    assert_eq!(again.unwrap().into_inner(), first);
    assert_eq!(
        verbs(&channel)
            .await
            .iter()
            .filter(|verb| *verb == "snapshot")
            .count(),
        1
    );
}

#[tokio::test]
async fn an_aborted_transaction_leaves_nothing_and_says_so() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = begin(&channel).await;
    fs::write(repo.path("a"), "1").unwrap();
    let capture = CaptureThreadRequest {
        client_operation_id: key(),
        ..Default::default()
    };
    threads(&channel)
        .capture_thread(within(&id, capture.clone()))
        .await
        .unwrap();
    assert!(abort(&channel, &id, false).await.unwrap());
    assert!(!abort(&channel, &id, false).await.unwrap(), "only once");
    let retried = threads(&channel)
        .capture_thread(within(&id, capture))
        .await
        .unwrap_err();
    assert_refused(
        &retried,
        Code::FailedPrecondition,
        Reason::TransactionAborted,
    );
    assert!(
        retried.message().contains("thought better of it"),
        "{retried:?}"
    );
    let late = commit(&channel, &id).await.unwrap_err();
    assert_refused(&late, Code::FailedPrecondition, Reason::TransactionAborted);
    assert_eq!(status(&channel, &id).await.unwrap().state, "aborted");
    assert_eq!(repo.git(&["for-each-ref", "refs/heddle"]), "");
    assert_eq!(
        fs::read_to_string(repo.path("a")).unwrap(),
        "1",
        "no file is touched"
    );
    assert_eq!(
        verbs(&channel).await,
        ["transaction_begin", "transaction_abort"]
    );
}

#[tokio::test]
async fn an_abort_can_rewind_the_worktree_and_loses_nothing() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    // Not captured yet when it begins.
    fs::write(repo.path("before"), "mine").unwrap();
    let before = content(repo.root());
    let id = begin(&channel).await;
    fs::write(repo.path("before"), "changed").unwrap();
    fs::write(repo.path("new"), "x").unwrap();
    capture_in(&channel, &id).await.unwrap();
    let after = content(repo.root());
    assert!(abort(&channel, &id, true).await.unwrap());
    assert_eq!(content(repo.root()), before);
    restore(&channel, to(Target::Undo(1))).await.unwrap();
    assert_eq!(content(repo.root()), after);
}

#[tokio::test]
async fn a_thread_that_moved_makes_the_commit_fail_and_the_transaction_stays() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = begin(&channel).await;
    register(&channel, &id, "one").await.unwrap();
    fs::write(repo.path("a"), "1").unwrap();
    captured(&channel, "not in the transaction").await;
    let failed = commit(&channel, &id).await.unwrap_err();
    assert_refused(&failed, Code::Aborted, Reason::ThreadMoved);
    assert!(hook_names(&channel).await.is_empty());
    assert_eq!(status(&channel, &id).await.unwrap().state, "active");
    assert!(abort(&channel, &id, false).await.unwrap());
    // A commit of the user's moves it as well.
    let id = begin(&channel).await;
    register(&channel, &id, "one").await.unwrap();
    repo.git(&["commit", "-q", "--allow-empty", "-m", "mine"]);
    let failed = commit(&channel, &id).await.unwrap_err();
    assert_refused(&failed, Code::Aborted, Reason::ThreadMoved);
    assert!(failed.message().contains("HEAD"), "{failed:?}");
}

#[tokio::test]
async fn a_call_that_no_longer_applies_is_named() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = begin(&channel).await;
    register(&channel, &id, "one").await.unwrap();
    let start = || StartThreadRequest {
        name: "fix".into(),
        ..Default::default()
    };
    threads(&channel)
        .start_thread(within(&id, start()))
        .await
        .unwrap();
    threads(&channel).start_thread(start()).await.unwrap();
    let failed = commit(&channel, &id).await.unwrap_err();
    assert_refused(&failed, Code::Aborted, Reason::TransactionConflict);
    assert!(failed.message().contains("call 2"), "{failed:?}");
    assert!(failed.message().contains("StartThread"), "{failed:?}");
    assert!(hook_names(&channel).await.is_empty(), "none of it");
    assert_eq!(status(&channel, &id).await.unwrap().buffered_ops, 2);
}

#[tokio::test]
async fn calls_out_of_turn_are_refused_with_the_reason() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for id in ["", "nothing", "../../x", "/etc/passwd"] {
        let refused = commit(&channel, id).await.unwrap_err();
        assert_blames(&refused, Reason::InvalidField, "transaction_id");
    }
    let unknown = Uuid::new_v4().to_string();
    let refused = commit(&channel, &unknown).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, Reason::TransactionUnknown);
    let refused = register(&channel, &unknown, "x").await.unwrap_err();
    assert_refused(&refused, Code::NotFound, Reason::TransactionUnknown);
    let refused = abort(&channel, &unknown, true).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, Reason::TransactionUnknown);
    let refused = register(&channel, "a-path/../x", "x").await.unwrap_err();
    assert_blames(&refused, Reason::InvalidField, "heddle-transaction-id");
    let refused = begin_on(&channel, "nobody").await.unwrap_err();
    assert_refused(&refused, Code::NotFound, Reason::ThreadUnknown);

    let id = begin(&channel).await;
    let refused = begin_on(&channel, "").await.unwrap_err();
    assert_refused(
        &refused,
        Code::FailedPrecondition,
        Reason::TransactionActive,
    );
    // Those that cannot be tried out and taken back.
    let begin_within = BeginTransactionRequest::default();
    let refused = transactions(&channel)
        .begin_transaction(within(&id, begin_within))
        .await;
    assert_refused(
        &refused.unwrap_err(),
        Code::FailedPrecondition,
        Reason::NotBufferable,
    );
    let restoring = to(Target::Undo(1));
    let refused = worktrees(&channel)
        .restore_state(within(&id, restoring))
        .await;
    assert!(refused.is_err());
    let start = StartThreadRequest {
        name: "fix".into(),
        path: repo.around().join("fix").to_str().unwrap().into(),
        ..Default::default()
    };
    let refused = threads(&channel)
        .start_thread(within(&id, start))
        .await
        .unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::NotBufferable);
    assert!(!repo.around().join("fix").exists());
    let mut daemon = DaemonServiceClient::new(channel.clone());
    assert!(
        daemon
            .shutdown(within(&id, ShutdownRequest::default()))
            .await
            .is_err()
    );
    daemon
        .get_status(GetStatusRequest::default())
        .await
        .unwrap();
    // Another thread than its own.
    let linked = repo.around().join("linked");
    repo.git(&[
        "worktree",
        "add",
        "-q",
        "-b",
        "side",
        linked.to_str().unwrap(),
    ]);
    let side = CaptureThreadRequest {
        repo_path: linked.to_str().unwrap().into(),
        ..Default::default()
    };
    let refused = threads(&channel)
        .capture_thread(within(&id, side))
        .await
        .unwrap_err();
    assert_refused(
        &refused,
        Code::FailedPrecondition,
        Reason::TransactionThread,
    );
    commit(&channel, &id).await.unwrap();
    for late in [
        commit(&channel, &id).await.unwrap_err(),
        abort(&channel, &id, false).await.unwrap_err(),
        abort(&channel, &id, true).await.unwrap_err(),
        register(&channel, &id, "late").await.unwrap_err(),
    ] {
        assert_refused(
            &late,
            Code::FailedPrecondition,
            Reason::TransactionNotActive,
        );
    }
}

#[tokio::test]
async fn g8_a_transaction_holds_256_calls() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = begin(&channel).await;
    for n in 0..256 {
        register(&channel, &id, &format!("hook-{}", n % 8))
            .await
            .unwrap();
    }
    let refused = register(&channel, &id, "one more").await.unwrap_err();
    assert_refused(&refused, Code::ResourceExhausted, Reason::TransactionFull);
    assert_eq!(commit(&channel, &id).await.unwrap().op_count, 256);
    assert_eq!(hook_names(&channel).await.len(), 8);
}

#[tokio::test]
async fn one_that_is_left_alone_expires() {
    let repo = TestRepo::new();
    repo.heddle(["init"]).ok();
    let configured = |text: &str| fs::write(repo.store_dir().join("config.toml"), text).unwrap();
    configured("[transactions]\ntimeout = \"1s\"\n");
    let daemon: Daemon = repo.serve();
    let channel = repo.channel().await;
    let id = begin(&channel).await;
    let mut watching = crate::rpc::log(&channel)
        .stream_operations(
            heddle_agent::grpc_local_impl::proto::v1::StreamOperationsRequest::default(),
        )
        .await
        .unwrap()
        .into_inner();
    let expired = async {
        while let Some(operation) = watching.message().await.unwrap() {
            if operation.verb == "transaction_abort" {
                return operation;
            }
        }
        panic!("the stream ended");
    };
    let expired = tokio::time::timeout(Duration::from_secs(60), expired)
        .await
        .unwrap();
    assert!(expired.summary.contains("expired"), "{expired:?}");
    assert_eq!(status(&channel, &id).await.unwrap().state, "aborted");
    assert!(listed(&channel, false).await.is_empty());
    assert_eq!(listed(&channel, true).await[0].reason, "expired");
    drop(daemon);
}

#[tokio::test]
async fn many_at_once_on_different_threads() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for n in 0..8 {
        let start = StartThreadRequest {
            name: format!("t{n}"),
            path: repo.around().join(format!("t{n}")).to_str().unwrap().into(),
            ..Default::default()
        };
        threads(&channel).start_thread(start).await.unwrap();
    }
    let work = (0..8).map(|n| {
        let (channel, root) = (channel.clone(), repo.around().join(format!("t{n}")));
        async move {
            let id = begin_on(&channel, &format!("t{n}")).await.unwrap();
            for step in 0..5 {
                fs::write(root.join("file"), format!("{step}")).unwrap();
                let request = CaptureThreadRequest {
                    name: format!("t{n}"),
                    ..Default::default()
                };
                threads(&channel)
                    .capture_thread(within(&id, request))
                    .await
                    .unwrap();
            }
            if n % 2 == 0 {
                commit(&channel, &id).await.unwrap();
            } else {
                abort(&channel, &id, true).await.unwrap();
                assert!(!root.join("file").exists());
            }
        }
    });
    futures_util::future::join_all(work).await;
    let verbs = verbs(&channel).await;
    let count = |verb: &str| verbs.iter().filter(|v| *v == verb).count();
    // Those that were rewound were captured before.
    assert_eq!(
        (count("transaction_commit"), count("transaction_abort")),
        (4, 4)
    );
    assert_eq!((count("snapshot"), count("goto")), (4 * 5 + 4, 4));
}
