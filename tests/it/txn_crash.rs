//! A crash at every step of a commit of a transaction, of its beginning and of its abort (G3): after
//! the next start all of it is there or nothing, the transaction is active or ended accordingly, a
//! retry with its key has one effect and one answer, and Git is content.

use std::fs;

use heddle_agent::grpc_local_impl::proto::v1::{
    AbortTransactionRequest, BeginTransactionRequest, CaptureThreadRequest,
    CommitTransactionRequest, GetTransactionStatusRequest, StartThreadRequest,
    transaction_service_client::TransactionServiceClient,
};
use prost::Message;
use tonic::{Request, Status, transport::Channel};
use uuid::Uuid;

use crate::{
    fault::{Act, Fault, kinds, stored},
    harness::{Daemon, TestRepo, run},
    rpc::{hook, hook_names, hooks},
    scenes::in_memory,
    states::{content, hex, threads},
};

/// More steps than any call has: a walk that gets here does not end.
const TOO_MANY: u32 = 1000;

/// What ends, or begins, at the step.
#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Begin,
    Commit,
    Rewind,
}

fn within<T>(id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("heddle-transaction-id", id.parse().unwrap());
    request
}

async fn call(channel: &Channel, asked: Asked, id: &str, key: Uuid) -> Result<Vec<u8>, Status> {
    let mut client = TransactionServiceClient::new(channel.clone());
    let (transaction_id, client_operation_id) = (id.to_owned(), key.to_string());
    Ok(match asked {
        Asked::Begin => {
            let request = BeginTransactionRequest {
                client_operation_id,
                ..Default::default()
            };
            let answer = client.begin_transaction(request).await?;
            answer.into_inner().encode_to_vec()
        }
        Asked::Commit => {
            let request = CommitTransactionRequest {
                transaction_id,
                client_operation_id,
                ..Default::default()
            };
            let answer = client.commit_transaction(request).await?;
            answer.into_inner().encode_to_vec()
        }
        Asked::Rewind => {
            let request = AbortTransactionRequest {
                transaction_id,
                client_operation_id,
                rewind_worktree: true,
                ..Default::default()
            };
            let answer = client.abort_transaction(request).await?;
            answer.into_inner().encode_to_vec()
        }
    })
}

/// Two captures, two hooks and another thread, buffered; answers the transaction and its last state.
async fn buffered(repo: &TestRepo, channel: &Channel) -> (String, String) {
    let mut client = TransactionServiceClient::new(channel.clone());
    let begun = client.begin_transaction(BeginTransactionRequest::default());
    let id = begun.await.unwrap().into_inner().transaction_id;
    let mut last = String::new();
    for name in ["one", "two"] {
        fs::write(repo.path(name), name).unwrap();
        let captured = within(&id, CaptureThreadRequest::default());
        let captured = threads(channel).capture_thread(captured).await.unwrap();
        last = hex(&captured.into_inner().state_id);
        let registered = within(&id, hook(name));
        hooks(channel).register_hook(registered).await.unwrap();
    }
    let start = StartThreadRequest {
        name: "fix".into(),
        ..Default::default()
    };
    threads(channel)
        .start_thread(within(&id, start))
        .await
        .unwrap();
    (id, last)
}

/// Checks, after a start, that all of the call is there or nothing of it.
async fn check(repo: &TestRepo, asked: Asked, id: &str, last: &str, done: bool, when: &str) {
    let channel = repo.channel().await;
    let refs = repo.git(&["for-each-ref", "--format=%(refname)", "refs/heddle"]);
    if asked != Asked::Begin {
        let mut client = TransactionServiceClient::new(channel.clone());
        let request = GetTransactionStatusRequest {
            transaction_id: id.into(),
            ..Default::default()
        };
        let answer = client.get_transaction_status(request).await;
        let state = answer.unwrap().into_inner().state;
        let expected = match asked {
            _ if !done => "active",
            Asked::Commit => "committed",
            _ => "aborted",
        };
        assert_eq!(state, expected, "{when}");
        let held = format!("refs/heddle/transactions/{id}");
        assert_eq!(refs.contains(&held), !done, "{when}: {refs}");
    }
    let committed = done && asked == Asked::Commit;
    let names = hook_names(&channel).await;
    assert_eq!(names.len(), if committed { 2 } else { 0 }, "{when}");
    let there = refs.contains("refs/heddle/threads/fix");
    assert_eq!(there, committed, "{when}: {refs}");
    if committed {
        let tip = repo.git(&["rev-parse", "refs/heddle/threads/main"]);
        assert_eq!(tip.trim(), last, "{when}");
    }
    let rewound = done && asked == Asked::Rewind;
    let files = content(repo.root());
    let left = asked != Asked::Begin && !rewound;
    assert_eq!(files.contains_key("two"), left, "{when}");
    assert_eq!(
        repo.git(&["fsck", "--strict", "--no-dangling"]),
        "",
        "{when}"
    );
}

async fn walk(test: &str, asked: Asked, act: Act, of: usize) {
    let repo = in_memory();
    fs::write(repo.path("base"), "base\n").unwrap();
    repo.git(&["config", "core.fsync", "none"]);
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "base"]);
    let (mut id, mut last) = (String::new(), String::new());
    let mut daemon = repo.serve();
    if asked != Asked::Begin {
        (id, last) = buffered(&repo, &repo.channel().await).await;
    }
    daemon.stop();
    let prepared = repo.around().join("prepared");
    run(repo.command("cp").arg("-a").args([repo.root(), &prepared])).ok();
    let control = tempfile::Builder::new().prefix("hdl").tempdir().unwrap();
    let Some(fault) = Fault::beside(test, control.path(), &repo.around()) else {
        return;
    };
    let mut done_before = [0, 0];
    for step in (1..).step_by(of) {
        assert!(step < TOO_MANY);
        fs::remove_dir_all(repo.root()).unwrap();
        let mut copy = std::process::Command::new("cp");
        run(copy.arg("-a").args([&prepared, repo.root()])).ok();
        let mut daemon = Daemon::spawn(fault.serve(&repo));
        daemon.wait_for_line("serving");
        let channel = repo.channel().await;
        let key = Uuid::new_v4();
        // A commit is one by what is written into the database; the others have files before that.
        let kinds = match asked {
            Asked::Commit => kinds::ALL,
            _ => kinds::LEAN,
        };
        fault.arm(act, step, kinds);
        let answer = call(&channel, asked, &id, key).await;
        drop(channel);
        let hit = fault.hit();
        fault.disarm();
        let Some(hit) = hit else {
            answer.unwrap();
            break;
        };
        if answer.is_err() {
            daemon.wait();
        } else {
            daemon.crash();
        }
        let when = format!("killed at step {step}, {hit:?}");
        let answers = |repo: &TestRepo| stored(&repo.store_dir()).answers.get(&key).copied();
        let done = answers(&repo).is_some();
        assert!(answer.is_err() || done, "{when}");
        done_before[usize::from(done)] += 1;
        let mut daemon = repo.serve();
        check(&repo, asked, &id, &last, done, &when).await;
        let channel = repo.channel().await;
        let first = call(&channel, asked, &id, key).await;
        let first = first.unwrap_or_else(|status| panic!("{when}: {status:?}"));
        if let Ok(answer) = answer {
            assert_eq!(answer, first, "{when}");
        }
        let again = call(&channel, asked, &id, key).await;
        assert_eq!(again.unwrap(), first, "{when}");
        assert_eq!(answers(&repo), Some(1), "{when}");
        let when = format!("retried after it was {when}");
        check(&repo, asked, &id, &last, true, &when).await;
        daemon.crash();
    }
    assert!(done_before.iter().all(|&n| n > 0), "{done_before:?}");
}

macro_rules! walks {
    ($($name:ident: $asked:ident, $act:ident, $of:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            walk(stringify!($name), Asked::$asked, Act::$act, $of).await;
        }
    )*};
}

walks! {
    g3_a_crash_at_any_step_of_a_begin_leaves_all_of_it_or_nothing: Begin, KillAfter, 1;
    g3_a_crash_at_any_step_of_a_commit_leaves_all_of_it_or_nothing: Commit, KillAfter, 1;
    g3_a_crash_before_any_step_of_a_commit_leaves_all_of_it_or_nothing: Commit, KillBefore, 3;
    g3_a_crash_at_any_step_of_an_abort_that_rewinds_leaves_all_of_it_or_nothing: Rewind, KillAfter, 2;
}
