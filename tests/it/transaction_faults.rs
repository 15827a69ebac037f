//! Transactions where something comes between: a full disk, Git's garbage collection, the user.

use std::{fs, path::Path};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        AbortTransactionRequest, BeginTransactionRequest, CaptureThreadRequest,
        CaptureThreadResponse, CommitTransactionRequest, CommitTransactionResponse,
        DeregisterHookRequest, GetTransactionStatusRequest, RegisterHookRequest,
        StartThreadRequest, transaction_service_client::TransactionServiceClient,
    },
};
use tonic::{Code, Request, Status, transport::Channel};
use uuid::Uuid;

use crate::{
    fault::{ImageDisk, MemoryDisk, fill, free, register, stored},
    harness::TestRepo,
    rpc::{assert_refused, hook, hook_names, hooks},
    states::{captured, content, hex, threads},
};

/// A transaction that is open.
struct Txn {
    client: TransactionServiceClient<Channel>,
    channel: Channel,
    id: String,
}

impl Txn {
    async fn begin(channel: &Channel) -> Self {
        let mut client = TransactionServiceClient::new(channel.clone());
        let begun = client.begin_transaction(BeginTransactionRequest::default());
        let id = begun.await.unwrap().into_inner().transaction_id;
        Self::joined(channel, id)
    }

    fn joined(channel: &Channel, id: String) -> Self {
        Self {
            client: TransactionServiceClient::new(channel.clone()),
            channel: channel.clone(),
            id,
        }
    }

    fn within<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let id = self.id.parse().unwrap();
        request.metadata_mut().insert("heddle-transaction-id", id);
        request
    }

    async fn capture(&self) -> Result<CaptureThreadResponse, Status> {
        let request = self.within(CaptureThreadRequest::default());
        let captured = threads(&self.channel).capture_thread(request).await?;
        Ok(captured.into_inner())
    }

    async fn register(&self, name: &str) {
        let request = self.within(hook(name));
        hooks(&self.channel).register_hook(request).await.unwrap();
    }

    async fn commit(&mut self, key: Uuid) -> Result<CommitTransactionResponse, Status> {
        let mut request = Request::new(CommitTransactionRequest {
            transaction_id: self.id.clone(),
            client_operation_id: key.to_string(),
            ..Default::default()
        });
        let agent = key.to_string().parse().unwrap();
        request.metadata_mut().insert("heddle-agent", agent);
        Ok(self.client.commit_transaction(request).await?.into_inner())
    }

    async fn abort(&mut self, rewind_worktree: bool) {
        let request = AbortTransactionRequest {
            transaction_id: self.id.clone(),
            rewind_worktree,
            ..Default::default()
        };
        let answer = self.client.abort_transaction(request).await.unwrap();
        assert!(answer.into_inner().aborted);
    }

    async fn status(&mut self) -> (String, u32) {
        let request = GetTransactionStatusRequest {
            transaction_id: self.id.clone(),
            ..Default::default()
        };
        let answer = self.client.get_transaction_status(request).await.unwrap();
        let answer = answer.into_inner();
        (answer.state, answer.buffered_ops)
    }
}

/// Drops all that no ref keeps.
fn gc(repo: &TestRepo) {
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.git(&["gc", "-q", "--prune=now"]);
}

/// Commits a transaction in a repository on a small disk at `disk`, when that is full.
async fn commit_on_a_full_disk(disk: &Path) {
    let repo = TestRepo::empty_in(disk, "repo");
    fs::write(repo.path("file"), "one").unwrap();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut txn = Txn::begin(&channel).await;
    fs::write(repo.path("file"), "two").unwrap();
    let captured = txn.capture().await.unwrap();
    txn.register("of the transaction").await;
    let refs = repo.git(&["for-each-ref", "refs/heddle"]);
    fill(disk);
    let mut written = 0;
    while register(&channel, Uuid::new_v4(), "before").await.is_ok() {
        written += 1;
        assert!(written < 100_000, "the disk is not full");
    }
    let (before, key) = (hook_names(&channel).await, Uuid::new_v4());
    for _ in 0..3 {
        let failed = txn.commit(key).await.unwrap_err();
        assert_refused(&failed, Code::ResourceExhausted, Reason::StoreFull);
        assert!(failed.message().contains("free some space"), "{failed:?}");
        assert!(
            !failed.message().contains("no longer applies"),
            "{failed:?}"
        );
    }
    let said = repo.heddle(["txn", "commit", &txn.id]).fails_with(1);
    assert!(
        said.contains("full") && said.contains("STORE_FULL"),
        "{said}"
    );
    assert_eq!(txn.status().await, ("active".to_owned(), 2));
    assert_eq!(hook_names(&channel).await, before);
    assert_eq!(repo.git(&["for-each-ref", "refs/heddle"]), refs);
    assert_eq!(stored(&repo.store_dir()).effects(key), 0);

    free(disk);
    let done = txn.commit(key).await.unwrap();
    assert_eq!((&done.state_id, done.op_count), (&captured.state_id, 2));
    assert_eq!(txn.commit(key).await.unwrap(), done);
    assert_eq!(stored(&repo.store_dir()).effects(key), 1);
    let tip = repo.git(&["rev-parse", "refs/heddle/threads/main"]);
    assert_eq!(tip.trim(), hex(&captured.state_id));
    let names = hook_names(&channel).await;
    assert!(
        names.contains(&"of the transaction".to_owned()),
        "{names:?}"
    );
    assert_eq!(txn.status().await, ("committed".to_owned(), 2));
}

#[tokio::test]
async fn g10_a_commit_on_a_full_disk_says_so_and_is_made_once_there_is_room() {
    if let Some(disk) = MemoryDisk::new("g10_a_commit_on_a_full_disk", "4m") {
        commit_on_a_full_disk(disk.path()).await;
    }
}

#[tokio::test]
async fn g10_a_commit_on_a_full_ext4_says_so_and_is_made_once_there_is_room() {
    if let Some(disk) = ImageDisk::new("g10_a_commit_on_a_full_ext4") {
        commit_on_a_full_disk(disk.path()).await;
    }
}

#[tokio::test]
async fn a_removal_that_was_answered_otherwise_is_a_conflict() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for (there, said) in [(true, "none any more"), (false, "one now")] {
        let remove = || DeregisterHookRequest {
            name: "lint".into(),
            ..Default::default()
        };
        if there {
            hooks(&channel).register_hook(hook("lint")).await.unwrap();
        }
        let mut txn = Txn::begin(&channel).await;
        txn.register("first").await;
        let request = txn.within(remove());
        let answer = hooks(&channel).deregister_hook(request).await.unwrap();
        assert_eq!(answer.into_inner().deleted, there);
        // Somebody else is quicker.
        if there {
            hooks(&channel).deregister_hook(remove()).await.unwrap();
        } else {
            hooks(&channel).register_hook(hook("lint")).await.unwrap();
        }
        let failed = txn.commit(Uuid::new_v4()).await.unwrap_err();
        assert_refused(&failed, Code::Aborted, Reason::TransactionConflict);
        for part in ["call 2", "DeregisterHook", "`lint`", said] {
            assert!(failed.message().contains(part), "{failed:?}");
        }
        let left: &[&str] = if there { &[] } else { &["lint"] };
        assert_eq!(hook_names(&channel).await, left);
        assert_eq!(txn.status().await, ("active".to_owned(), 2));
        txn.abort(false).await;
    }
}

#[tokio::test]
async fn nobody_is_asked_about_a_call_that_comes_too_late() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut txn = Txn::begin(&channel).await;
    fs::write(repo.path("a"), "1").unwrap();
    let key = Uuid::new_v4();
    let capture = || CaptureThreadRequest {
        client_operation_id: key.to_string(),
        ..Default::default()
    };
    let first = threads(&channel)
        .capture_thread(txn.within(capture()))
        .await;
    let first = first.unwrap().into_inner();
    txn.commit(Uuid::new_v4()).await.unwrap();
    let asked = repo.around().join("asked");
    let gate = RegisterHookRequest {
        command: format!("echo asked >> {}", asked.display()),
        ..hook("gate")
    };
    hooks(&channel).register_hook(gate).await.unwrap();
    fs::write(repo.path("a"), "2").unwrap();
    let late = txn.capture().await.unwrap_err();
    assert_refused(
        &late,
        Code::FailedPrecondition,
        Reason::TransactionNotActive,
    );
    assert!(!asked.exists(), "a gate was asked in vain");
    // What it has taken is answered all the same.
    let again = threads(&channel)
        .capture_thread(txn.within(capture()))
        .await;
    assert_eq!(again.unwrap().into_inner(), first);
    captured(&channel, "").await;
    assert!(asked.exists());
}

#[tokio::test]
async fn a_capture_that_meets_a_commit_waits_and_comes_after_it() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for round in 0..20 {
        let mut txn = Txn::begin(&channel).await;
        fs::write(repo.path("a"), format!("{round} in it")).unwrap();
        let inside = txn.capture().await.unwrap().state_id;
        fs::write(repo.path("a"), format!("{round} beside it")).unwrap();
        let (committed, beside) = tokio::join!(
            txn.commit(Uuid::new_v4()),
            crate::states::capture(&channel, "")
        );
        let beside = beside.unwrap();
        match committed {
            Ok(_) => assert_eq!(beside.parent_state, inside),
            Err(failed) => {
                assert_refused(&failed, Code::Aborted, Reason::ThreadMoved);
                txn.abort(false).await;
            }
        }
    }
}

#[tokio::test]
async fn g9_no_other_worktree_is_rewound_in_place_of_one_that_is_gone() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    // Inside the main one, which is where its path leads when it is gone.
    let nested = repo.path("nested");
    let request = StartThreadRequest {
        name: "side".into(),
        path: nested.to_str().unwrap().into(),
        ..Default::default()
    };
    threads(&channel).start_thread(request).await.unwrap();
    let begin = BeginTransactionRequest {
        repo_path: nested.to_str().unwrap().into(),
        ..Default::default()
    };
    let mut client = TransactionServiceClient::new(channel.clone());
    let begun = client.begin_transaction(begin).await.unwrap();
    let mut txn = Txn::joined(&channel, begun.into_inner().transaction_id);
    fs::remove_dir_all(&nested).unwrap();
    fs::write(repo.path("README"), "mine").unwrap();
    let before = content(repo.root());
    let rewind = AbortTransactionRequest {
        transaction_id: txn.id.clone(),
        rewind_worktree: true,
        ..Default::default()
    };
    let refused = txn.client.abort_transaction(rewind).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::WorktreeGone);
    assert!(refused.message().contains("nested"), "{refused:?}");
    assert_eq!(content(repo.root()), before);
    let refused = txn.commit(Uuid::new_v4()).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::WorktreeGone);
    txn.abort(false).await;
}

#[tokio::test]
async fn a_commit_leads_to_the_state_that_the_thread_has() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("a"), "1").unwrap();
    captured(&channel, "").await;
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "mine"]);
    let mut txn = Txn::begin(&channel).await;
    txn.register("one").await;
    let done = txn.commit(Uuid::new_v4()).await.unwrap();
    let head = repo.git(&["rev-parse", "HEAD"]);
    assert_eq!(hex(&done.state_id), head.trim());
}

#[tokio::test]
async fn what_is_buffered_outlives_gits_garbage_collection() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("mine"), "never captured").unwrap();
    let before = content(repo.root());
    let txn = Txn::begin(&channel).await;
    gc(&repo);
    let mut states = Vec::new();
    for n in 0..3 {
        fs::write(repo.path("a"), format!("{n}")).unwrap();
        states.push(txn.capture().await.unwrap().state_id);
        gc(&repo);
    }
    daemon.crash();
    gc(&repo);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut txn = Txn::joined(&channel, txn.id);
    let done = txn.commit(Uuid::new_v4()).await.unwrap();
    assert_eq!(done.state_id, states[2]);
    gc(&repo);
    for (n, state) in states.iter().enumerate() {
        let kept = repo.git(&["show", &format!("{}:a", hex(state))]);
        assert_eq!(kept, n.to_string());
    }
    assert_eq!(repo.git(&["fsck", "--strict", "--no-dangling"]), "");
    // And what an abort goes back to.
    fs::remove_file(repo.path("a")).unwrap();
    let mut txn = Txn::begin(&channel).await;
    fs::write(repo.path("mine"), "changed").unwrap();
    fs::write(repo.path("new"), "").unwrap();
    txn.capture().await.unwrap();
    gc(&repo);
    txn.abort(true).await;
    assert_eq!(content(repo.root()), before);
}

#[tokio::test]
async fn nothing_is_captured_in_a_transaction_beside_a_commit_of_the_users() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut txn = Txn::begin(&channel).await;
    fs::write(repo.path("a"), "1").unwrap();
    let first = txn.capture().await.unwrap();
    repo.git(&["commit", "-q", "--allow-empty", "-m", "mine"]);
    fs::write(repo.path("a"), "2").unwrap();
    let refused = txn.capture().await.unwrap_err();
    assert_refused(&refused, Code::Aborted, Reason::ThreadMoved);
    for part in ["`main`", &*txn.id, "HEAD", "stays active"] {
        assert!(refused.message().contains(part), "{refused:?}");
    }
    // The user thinks better of it.
    repo.git(&["reset", "-q", "--soft", "HEAD~"]);
    gc(&repo);
    let second = txn.capture().await.unwrap();
    assert_eq!(second.parent_state, first.state_id);
    let done = txn.commit(Uuid::new_v4()).await.unwrap();
    assert_eq!((done.state_id, done.op_count), (second.state_id, 2));
    assert_eq!(repo.git(&["fsck", "--strict", "--no-dangling"]), "");
}

async fn start(txn: &Txn, name: &str, from: &str) -> Vec<u8> {
    let request = StartThreadRequest {
        name: name.into(),
        from_state: from.into(),
        ..Default::default()
    };
    let started = threads(&txn.channel)
        .start_thread(txn.within(request))
        .await;
    started.unwrap().into_inner().current_state().to_vec()
}

#[tokio::test]
async fn a_thread_starts_from_what_its_transaction_captured() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut txn = Txn::begin(&channel).await;
    fs::write(repo.path("a"), "1").unwrap();
    let first = txn.capture().await.unwrap().state_id;
    assert_eq!(start(&txn, "fix", "").await, first);
    fs::write(repo.path("a"), "2").unwrap();
    let second = txn.capture().await.unwrap().state_id;
    assert_eq!(start(&txn, "again", "").await, second);
    assert_eq!(start(&txn, "named", &hex(&first)).await, first);
    txn.commit(Uuid::new_v4()).await.unwrap();
    let refs = repo.git(&[
        "for-each-ref",
        "--format=%(refname:lstrip=3) %(objectname)",
        "refs/heddle",
    ]);
    let (first, second) = (hex(&first), hex(&second));
    let expected = format!("again {second}\nfix {first}\nmain {second}\nnamed {first}\n");
    assert_eq!(refs, expected);
}

#[tokio::test]
async fn g9_no_ref_leads_to_what_git_has_dropped_meanwhile() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut txn = Txn::begin(&channel).await;
    txn.register("one").await;
    let tree = repo.git(&["rev-parse", "HEAD^{tree}"]);
    let loose = repo.git(&["commit-tree", "-m", "on no branch", tree.trim()]);
    start(&txn, "fix", loose.trim()).await;
    gc(&repo);
    let failed = txn.commit(Uuid::new_v4()).await.unwrap_err();
    assert_refused(&failed, Code::Aborted, Reason::TransactionConflict);
    for part in ["call 2", "StartThread", loose.trim(), "stays active"] {
        assert!(failed.message().contains(part), "{failed:?}");
    }
    assert_eq!(txn.status().await, ("active".to_owned(), 2));
    assert!(hook_names(&channel).await.is_empty());
    let refs = repo.git(&["for-each-ref", "--format=%(refname)", "refs/heddle"]);
    assert!(!refs.contains("threads/fix"), "{refs}");
    txn.abort(false).await;
    assert_eq!(repo.git(&["fsck", "--strict"]), "");
}
