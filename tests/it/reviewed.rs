//! What a review of threads and captures found: each of these lost or mixed up something once.

use std::{fs, process::Command};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::{
        local::PreviewRestoreRequest,
        v1::{CaptureThreadRequest, CompleteThreadRequest, StartThreadRequest, ThreadSummary},
    },
};
use tonic::{Code, transport::Channel};
use uuid::Uuid;

use crate::{
    harness::{TestRepo, run},
    rpc::assert_refused,
    states::{
        capture, captured, content, current_thread, hex, restore, threads, to, to_state, worktrees,
    },
};
use heddle_agent::grpc_local_impl::proto::local::restore_target::Target;

async fn start(channel: &Channel, request: StartThreadRequest) -> ThreadSummary {
    threads(channel)
        .start_thread(request)
        .await
        .unwrap()
        .into_inner()
}

fn named(name: &str) -> StartThreadRequest {
    StartThreadRequest {
        name: name.into(),
        ..Default::default()
    }
}

/// Every state that was acknowledged is still there after Git has removed what nothing refers to.
#[track_caller]
fn all_kept(repo: &TestRepo, states: &[String]) {
    repo.git(&["gc", "-q", "--prune=now"]);
    for state in states {
        repo.git(&["cat-file", "-e", &format!("{state}^{{tree}}")]);
    }
    assert_eq!(repo.git(&["fsck", "--strict", "--no-dangling"]), "");
}

#[tokio::test]
async fn branches_that_follow_each_other_as_file_and_folder_keep_their_captures() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut states = Vec::new();
    let mut n = 0;
    for branch in ["a", "a/1", "a", "a/1/2", "a%2F1"] {
        repo.git(&["checkout", "-q", "main"]);
        for other in ["a", "a/1", "a/1/2"] {
            let _ = run(repo.command("git").args(["branch", "-D", other]));
        }
        repo.git(&["checkout", "-q", "-b", branch]);
        for _ in 0..2 {
            n += 1;
            fs::write(repo.path("file"), n.to_string()).unwrap();
            states.push(captured(&channel, "").await);
            repo.git(&["commit", "-q", "--allow-empty", "-m", "mine"]);
        }
        repo.git(&["stash", "-qu"]);
    }
    repo.git(&["stash", "clear"]);
    all_kept(&repo, &states);
}

#[tokio::test]
async fn a_branch_that_cannot_be_beside_a_started_thread_is_refused_and_loses_nothing() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    start(&channel, named("x")).await;
    repo.git(&["checkout", "-q", "-b", "x/y"]);
    fs::write(repo.path("file"), "1").unwrap();
    let refused = capture(&channel, "").await.unwrap_err();
    assert_refused(&refused, Code::AlreadyExists, Reason::ThreadExists);
    assert!(
        refused.message().contains("rename the branch"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_worktree_that_is_gone_is_not_mistaken_for_the_one_around_it() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let inside = repo.path("wt");
    let path = inside.to_str().unwrap().to_owned();
    start(
        &channel,
        StartThreadRequest {
            path: path.clone(),
            ..named("iso")
        },
    )
    .await;
    repo.git(&["worktree", "remove", "--force", &path]);
    fs::create_dir(&inside).unwrap();
    let request = CaptureThreadRequest {
        name: "iso".into(),
        ..Default::default()
    };
    let refused = threads(&channel).capture_thread(request).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::WorktreeGone);
}

#[tokio::test]
async fn a_path_that_is_used_again_is_the_new_threads() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let path = repo.around().join("wt").to_str().unwrap().to_owned();
    let at = |name| StartThreadRequest {
        path: path.clone(),
        ..named(name)
    };
    start(&channel, at("alpha")).await;
    repo.git(&["worktree", "remove", "--force", &path]);
    start(&channel, at("zeta")).await;
    fs::write(format!("{path}/new"), "x").unwrap();
    let request = CaptureThreadRequest {
        repo_path: path.clone(),
        ..Default::default()
    };
    let answer = threads(&channel).capture_thread(request).await.unwrap();
    assert_eq!(answer.into_inner().thread, "zeta");
}

#[tokio::test]
async fn revisions_are_those_of_the_callers_worktree() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let linked = repo.around().join("linked");
    repo.git(&[
        "worktree",
        "add",
        "-q",
        "-b",
        "side",
        linked.to_str().unwrap(),
    ]);
    let in_linked = |args: &[&str]| {
        let mut git: Command = repo.command("git");
        run(git.current_dir(&linked).args(args)).ok()
    };
    in_linked(&["commit", "-q", "--allow-empty", "-m", "there"]);
    let head = in_linked(&["rev-parse", "HEAD"]);
    let from_head = StartThreadRequest {
        repo_path: linked.to_str().unwrap().into(),
        from_state: "HEAD".into(),
        ..named("fix")
    };
    let started = start(&channel, from_head).await;
    assert_eq!(hex(started.base_state()), head.trim());
}

#[tokio::test]
async fn a_threads_name_means_its_state_after_a_commit_of_the_users() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let path = repo.around().join("iso");
    let at = StartThreadRequest {
        path: path.to_str().unwrap().into(),
        ..named("iso")
    };
    start(&channel, at).await;
    let git = |args: &[&str]| {
        let mut git: Command = repo.command("git");
        run(git.current_dir(&path).args(args)).ok()
    };
    git(&["commit", "-q", "--allow-empty", "-m", "mine"]);
    let head = git(&["rev-parse", "HEAD"]).trim().to_owned();
    let from_name = StartThreadRequest {
        from_state: "iso".into(),
        ..named("next")
    };
    assert_eq!(hex(start(&channel, from_name).await.base_state()), head);
    let complete = CompleteThreadRequest {
        name: "iso".into(),
        ..Default::default()
    };
    let done = threads(&channel)
        .complete_thread(complete)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(hex(done.current_state()), head);
}

#[tokio::test]
async fn g3_a_retry_is_answered_although_its_worktree_is_gone() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let linked = repo.around().join("linked");
    let path = linked.to_str().unwrap().to_owned();
    repo.git(&["worktree", "add", "-q", "-b", "side", &path]);
    fs::write(linked.join("new"), "x").unwrap();
    let request = CaptureThreadRequest {
        repo_path: path.clone(),
        client_operation_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let first = threads(&channel)
        .capture_thread(request.clone())
        .await
        .unwrap();
    repo.git(&["worktree", "remove", "--force", &path]);
    daemon.crash();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let again = threads(&channel).capture_thread(request).await.unwrap();
    assert_eq!(again.into_inner(), first.into_inner());
}

#[tokio::test]
async fn a_moved_worktree_keeps_its_thread_and_its_steps() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let (old, new) = (repo.around().join("old"), repo.around().join("new"));
    let at = StartThreadRequest {
        path: old.to_str().unwrap().into(),
        ..named("iso")
    };
    start(&channel, at).await;
    let captured_at = async |root: &std::path::Path, text: &str| {
        fs::write(root.join("file"), text).unwrap();
        let request = CaptureThreadRequest {
            repo_path: root.to_str().unwrap().into(),
            ..Default::default()
        };
        threads(&channel)
            .capture_thread(request)
            .await
            .unwrap()
            .into_inner()
    };
    captured_at(&old, "1").await;
    captured_at(&old, "2").await;
    repo.git(&[
        "worktree",
        "move",
        old.to_str().unwrap(),
        new.to_str().unwrap(),
    ]);
    assert_eq!(captured_at(&new, "3").await.thread, "iso");
    let mut undo = to(Target::Undo(2));
    undo.repo_path = new.to_str().unwrap().into();
    restore(&channel, undo).await.unwrap();
    assert_eq!(fs::read_to_string(new.join("file")).unwrap(), "1");
}

#[tokio::test]
async fn configuration_that_came_later_holds_for_a_restore() {
    let repo = TestRepo::new();
    fs::write(repo.path(".gitattributes"), "*.up filter=up\n").unwrap();
    fs::write(repo.path("a.up"), "hello\n").unwrap();
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "with a filter"]);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::remove_file(repo.path("a.up")).unwrap();
    let without = captured(&channel, "").await;
    repo.git(&["config", "filter.up.smudge", "tr a-z A-Z"]);
    repo.git(&["config", "filter.up.clean", "tr A-Z a-z"]);
    restore(&channel, to_state("HEAD")).await.unwrap();
    assert_eq!(fs::read_to_string(repo.path("a.up")).unwrap(), "HELLO\n");
    restore(&channel, to_state(&without)).await.unwrap();
    assert!(!content(repo.root()).contains_key("a.up"));
}

#[tokio::test]
async fn g5_programs_that_the_repository_configures_are_not_run() {
    let repo = TestRepo::new();
    let ran = repo.around().join("ran");
    let hook = repo.path(".git/hooks/post-checkout");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let at = StartThreadRequest {
        path: repo.around().join("wt").to_str().unwrap().into(),
        ..named("iso")
    };
    start(&channel, at).await;
    assert!(!ran.exists());
}

#[tokio::test]
async fn pages_end_also_at_paths_that_are_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let repo = TestRepo::new();
    for name in [&b"aa\xff"[..], b"ab", b"ac"] {
        fs::write(repo.path(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let request = PreviewRestoreRequest {
        after_path: "\"aa\\377\"".into(),
        ..Default::default()
    };
    let told = worktrees(&channel)
        .preview_restore(request)
        .await
        .unwrap()
        .into_inner();
    let paths: Vec<_> = told.changes.into_iter().map(|change| change.path).collect();
    assert_eq!(paths, ["ab", "ac"]);
    assert_eq!(current_thread(&channel).await.name, "main");
}
