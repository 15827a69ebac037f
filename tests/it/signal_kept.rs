//! Signals of captures, once each: of transactions, over restarts, and until the state is dropped.

use heddle_agent::grpc_local_impl::proto::v1::{
    AbortTransactionRequest, BeginTransactionRequest, CaptureThreadRequest,
    CommitTransactionRequest, transaction_service_client::TransactionServiceClient,
};
use rusqlite::Connection;
use tonic::Request;

use crate::{
    harness::TestRepo,
    signal_updates::{by, next, subscribe, symbol, with},
    signals::{CACHE, FILE, Scene, write},
    states::{capture, threads},
};

fn within<T>(message: T, id: &str) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("heddle-transaction-id", id.parse().unwrap());
    request
}

#[tokio::test]
async fn captures_of_a_transaction_have_their_signals_once_it_is_committed() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let mut transactions = TransactionServiceClient::new(scene.channel.clone());
    let mut stream = subscribe(&scene.channel).await;
    let mut begin = async || {
        let begun = transactions
            .begin_transaction(BeginTransactionRequest::default())
            .await;
        begun.unwrap().into_inner().transaction_id
    };
    let capture = async |id: &str, name: &str| {
        write(&scene.repo, &[(FILE, &with(name))]);
        let request = within(CaptureThreadRequest::default(), id);
        let answer = threads(&scene.channel).capture_thread(request).await;
        answer.unwrap().into_inner().state_id
    };
    let aborted = begin().await;
    capture(&aborted, "never").await;
    let mut client = TransactionServiceClient::new(scene.channel.clone());
    let abort = AbortTransactionRequest {
        transaction_id: aborted,
        ..Default::default()
    };
    client.abort_transaction(abort).await.unwrap();
    let committed = begin().await;
    let states = [
        capture(&committed, "one").await,
        capture(&committed, "two").await,
    ];
    let commit = CommitTransactionRequest {
        transaction_id: committed,
        ..Default::default()
    };
    client.commit_transaction(commit).await.unwrap();
    for state in states {
        let update = next(&mut stream).await.unwrap();
        assert_eq!(update.state_id, state);
        assert_eq!(update.signals.len(), 1);
    }
}

/// The database of a daemon that has stopped.
fn database(repo: &TestRepo) -> Connection {
    Connection::open(repo.store_dir().join("heddle.db")).unwrap()
}

#[tokio::test]
async fn what_a_daemon_did_not_get_to_is_done_by_the_next() {
    let mut scene = Scene::with(&[(FILE, CACHE)]).await;
    let mut stream = subscribe(&scene.channel).await;
    let state = scene.capture(&[(FILE, &with("swap"))], "").await;
    let gone = scene.capture(&[("a.txt", "a")], "").await;
    for _ in 0..2 {
        next(&mut stream).await.unwrap();
    }
    drop(stream);
    assert!(scene.daemon.stop().success());
    // As a daemon leaves it that was killed before it began; and one whose state nobody can read.
    let changes = database(&scene.repo);
    let forget = "DELETE FROM operation_symbol; DELETE FROM operation_signal;
         UPDATE operation SET symbols = NULL, signal_kinds = NULL;
         INSERT INTO signal_pending (seq, state_id)
             SELECT seq, state_id FROM operation WHERE verb = 'snapshot';
         DELETE FROM state_signal;";
    changes.execute_batch(forget).unwrap();
    let lost = "UPDATE signal_pending SET state_id = zeroblob(20) WHERE state_id = ?1";
    assert_eq!(changes.execute(lost, [&gone]).unwrap(), 1);
    drop(changes);
    scene.daemon = scene.repo.serve();
    let channel = scene.repo.channel().await;
    let mut hits = by(&channel, symbol("Cache::swap")).await;
    assert_eq!(next(&mut hits).await.unwrap().state_id, state);
    // What cannot be computed blocks nobody.
    write(&scene.repo, &[(FILE, &with("turn"))]);
    let after = capture(&channel, "").await.unwrap().state_id;
    let hit = next(&mut hits).await.unwrap();
    assert_eq!((hit.state_id, hit.symbols.len()), (after, 2));
    scene.daemon.wait_for_line("a capture has no signals");
    assert!(scene.daemon.stop().success());
    let count = "SELECT (SELECT count(*) FROM signal_pending), (SELECT count(*) FROM state_signal)";
    let both = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let counts: (i64, i64) = database(&scene.repo).query_row(count, [], both).unwrap();
    assert_eq!(counts, (0, 2));
}

#[tokio::test]
async fn signals_are_dropped_with_their_state() {
    let mut scene = Scene::with(&[(FILE, CACHE)]).await;
    let mut stream = subscribe(&scene.channel).await;
    for text in ["1", "2", "3"] {
        scene.capture(&[("a.txt", text)], "").await;
        next(&mut stream).await.unwrap();
        scene
            .repo
            .git(&["commit", "-q", "-m", "mine", "--allow-empty"]);
    }
    scene.capture(&[("a.txt", "4")], "").await;
    next(&mut stream).await.unwrap();
    drop(stream);
    scene
        .repo
        .heddle(["gc", "--keep-chains", "1", "--keep-days", "0"])
        .ok();
    assert!(scene.daemon.stop().success());
    let count = "SELECT count(*) FROM state_signal";
    let kept: i64 = database(&scene.repo)
        .query_row(count, [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 2);
}
