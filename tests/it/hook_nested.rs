//! Hooks that call the daemon back: they are known by their token, do not wait for themselves, and
//! do not go on for ever.

use std::{fs, path::Path};

use heddle_agent::{failure::Reason, grpc_local_impl::proto::v1::*};
use tonic::{Code, Request};

use crate::{
    harness::{HEDDLE, TestRepo, eventually},
    listening::{change, gate, on, register, start_thread, try_capture, veto},
    rpc::{assert_blames, assert_refused},
    states::{captured, threads},
};

/// A hook that starts a thread, and shows what it was answered.
fn starts(name: &str) -> String {
    // There is no noun for threads on this command line in every build: the wire is called.
    format!("{HEDDLE} hook run pre_merge > ../said 2>&1 && echo {name} >> ../said")
}

#[tokio::test]
async fn a_hook_that_calls_the_daemon_back_is_answered() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    register(&channel, gate("outer", &starts("done"))).await;
    let inner = on(
        "inner",
        "echo $HEDDLE_HOOK_TOKEN > ../token",
        &["pre_merge"],
    );
    register(&channel, inner).await;
    try_capture(&repo, &channel, "1").await.unwrap();
    let said = fs::read_to_string(repo.around().join("said")).unwrap();
    assert_eq!(said, "done\n");
    let token = fs::read_to_string(repo.around().join("token")).unwrap();
    assert_eq!(token.split('.').count(), 2, "two hooks deep: {token}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_the_thread_that_waits_for_the_hook_is_refused_and_others_are_not() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let wait = "echo $HEDDLE_HOOK_TOKEN > ../token; while [ ! -e ../go ]; do sleep 0.01; done";
    register(&channel, gate("wait", wait)).await;
    change(&repo, "1");
    let mut transactions =
        transaction_service_client::TransactionServiceClient::new(channel.clone());
    let begun = transactions
        .begin_transaction(BeginTransactionRequest::default())
        .await
        .unwrap()
        .into_inner();
    let outer = tokio::spawn({
        let channel = channel.clone();
        async move { captured(&channel, "").await }
    });
    let token = eventually("the hook runs", || {
        let token = fs::read_to_string(repo.around().join("token")).ok()?;
        token.strip_suffix('\n').map(str::to_owned)
    });
    macro_rules! nested {
        ($request:expr) => {{
            let mut request = Request::new($request);
            let token = token.parse().unwrap();
            request.metadata_mut().insert("heddle-hook-token", token);
            request
        }};
    }
    let refused = |status: tonic::Status| {
        assert_refused(&status, Code::FailedPrecondition, Reason::HookReentrant);
        assert!(status.message().contains("`wait`"), "{status:?}");
        assert!(status.message().contains("`main`"), "{status:?}");
    };
    let capture = CaptureThreadRequest::default();
    refused(
        threads(&channel)
            .capture_thread(nested!(capture))
            .await
            .unwrap_err(),
    );
    let complete = CompleteThreadRequest::default();
    refused(
        threads(&channel)
            .complete_thread(nested!(complete))
            .await
            .unwrap_err(),
    );
    let restore = crate::states::to_state("HEAD");
    let mut worktrees = crate::states::worktrees(&channel);
    refused(worktrees.restore_state(nested!(restore)).await.unwrap_err());

    let commit = CommitTransactionRequest {
        transaction_id: begun.transaction_id,
        ..Default::default()
    };
    refused(
        transactions
            .commit_transaction(nested!(commit))
            .await
            .unwrap_err(),
    );

    let start = StartThreadRequest {
        name: "other".into(),
        ..Default::default()
    };
    threads(&channel)
        .start_thread(nested!(start))
        .await
        .unwrap();
    fs::write(repo.around().join("go"), "").unwrap();
    outer.await.unwrap();
    // The token means nothing any more: what is not known is not refused.
    change(&repo, "2");
    let capture = CaptureThreadRequest::default();
    threads(&channel)
        .capture_thread(nested!(capture))
        .await
        .unwrap();
}

#[tokio::test]
async fn hooks_run_four_deep_and_not_five() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let again = format!("echo x >> ../depth; exec {HEDDLE} hook run pre_merge");
    register(&channel, on("again", &again, &["pre_capture", "pre_merge"])).await;
    let (_, reason) = veto(try_capture(&repo, &channel, "1").await);
    assert!(reason.contains("HOOK_TOO_DEEP"), "{reason}");
    let depth = fs::read_to_string(repo.around().join("depth")).unwrap();
    assert_eq!(depth.lines().count(), 4);
}

#[tokio::test]
async fn a_notice_that_causes_itself_ends() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let again = format!("{HEDDLE} hook run post_merge 2>> ../said; echo x >> ../depth");
    register(&channel, on("again", &again, &["post_merge"])).await;
    repo.heddle(["hook", "run", "post_merge"]).ok();
    let said = |name: &str| fs::read_to_string(repo.around().join(name)).unwrap_or_default();
    eventually("the fourth is refused", || {
        said("said").contains("HOOK_TOO_DEEP").then_some(())
    });
    eventually("it has ended", || {
        (said("depth").lines().count() == 4).then_some(())
    });
}

#[tokio::test]
async fn what_is_no_token_is_refused_and_one_of_another_daemon_is_not() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let with = |token: &str| {
        let mut request = Request::new(crate::rpc::hook("x"));
        let token = token.parse().unwrap();
        request.metadata_mut().insert("heddle-hook-token", token);
        request
    };
    let mut hooks = crate::rpc::hooks(&channel);
    let other = uuid::Uuid::new_v4().to_string();
    hooks.register_hook(with(&other)).await.unwrap();
    let refused = hooks.register_hook(with("root")).await.unwrap_err();
    assert_blames(&refused, Reason::InvalidField, "heddle-hook-token");
    let deep = vec![other; 5].join(".");
    let refused = hooks.register_hook(with(&deep)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::HookTooDeep);
}

#[tokio::test]
async fn a_daemon_that_a_hook_starts_outlives_it() {
    let repo = TestRepo::new();
    let other = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let elsewhere = format!(
        "{HEDDLE} --repo {} hook list",
        Path::new(other.root()).display()
    );
    register(
        &channel,
        on("elsewhere", &elsewhere, &["pre_thread_create"]),
    )
    .await;
    start_thread(&channel, "x").await.unwrap();
    let pid = other
        .holder()
        .expect("a daemon serves the other repository");
    assert!(heddle_agent::local_daemon::pid_alive(pid));
    crate::rpc::hook_names(&other.channel().await).await;
}
