//! What becomes of what was signed: once and for all (G3), in transactions, after a crash at any step,
//! and when old chains are dropped.

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        AbortTransactionRequest, BeginTransactionRequest, CommitTransactionRequest,
        QueryOperationsRequest, SignStateRequest, SignStateResponse,
        transaction_service_client::TransactionServiceClient,
    },
};
use tonic::{Request, Status, transport::Channel};
use uuid::Uuid;

use crate::{
    fault::{Act, Fault, kinds, stored},
    harness::{Daemon, TestRepo},
    review::{hex_bytes, repo_head, state},
    rpc::{assert_blames, assert_refused, operations},
    signing::{Draft, Key, check, judge, progress, reviews, sign, signatures},
    states::hex,
    upkeep::{amiss, chains, check as check_repository, collect, is_there, keep, kept},
};

/// More steps than a call has: a walk that gets here does not end.
const TOO_MANY: u32 = 500;

fn keyed(asked: &SignStateRequest, key: Uuid) -> SignStateRequest {
    SignStateRequest {
        client_operation_id: key.to_string(),
        ..asked.clone()
    }
}

#[tokio::test]
async fn g3_a_retried_statement_is_recorded_once_and_answered_the_same() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let state = state(&repo, &channel).await;
    let signer = Key::ed25519();
    let asked = Draft::read(&state).signed(&signer);
    let key = Uuid::new_v4();
    let first = sign(&channel, keyed(&asked, key)).await.unwrap();
    assert_eq!(sign(&channel, keyed(&asked, key)).await.unwrap(), first);
    // At once, and each of them new.
    let other = Uuid::new_v4();
    let both = tokio::join!(
        sign(&channel, keyed(&asked, other)),
        sign(&channel, keyed(&asked, other))
    );
    let second = both.0.unwrap();
    assert_eq!(both.1.unwrap(), second);
    assert_ne!(second, first);
    // What is refused may be tried again.
    let third = Uuid::new_v4();
    let mut bad = keyed(&asked, third);
    bad.signature[0] ^= 1;
    let status = sign(&channel, bad).await.unwrap_err();
    assert_blames(&status, Reason::SignatureInvalid, "signature");
    let changed = sign(&channel, keyed(&asked, third)).await.unwrap();
    let status = sign(
        &channel,
        SignStateRequest {
            justification: "x".into(),
            ..keyed(&asked, third)
        },
    );
    assert_blames(
        &status.await.unwrap_err(),
        Reason::OperationIdReused,
        "client_operation_id",
    );
    let mut other = Draft {
        word: "sign",
        ..Draft::read(&state)
    }
    .judged(&signer);
    other.client_operation_id = third.to_string();
    let status = judge(&channel, other).await.unwrap_err();
    assert_blames(&status, Reason::OperationIdReused, "client_operation_id");

    daemon.crash();
    let _again = repo.serve();
    let channel = repo.channel().await;
    assert_eq!(sign(&channel, keyed(&asked, key)).await.unwrap(), first);
    let listed = signatures(&channel, &state).await;
    let ids: Vec<_> = listed.into_iter().map(|one| one.signature_id).collect();
    assert_eq!(
        ids,
        [
            first.signature_id,
            second.signature_id,
            changed.signature_id
        ]
    );
}

#[tokio::test]
async fn two_who_sign_at_once_are_both_recorded() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let state = state(&repo, &channel).await;
    let (ours, theirs) = (Key::ed25519(), Key::p256(true));
    let calls = (0..20).map(|number| {
        let key = if number % 2 == 0 { &ours } else { &theirs };
        let draft = Draft {
            text: format!("{number}"),
            ..Draft::read(&state)
        };
        sign(&channel, draft.signed(key))
    });
    let answers = futures_util::future::join_all(calls).await;
    let mut ids: Vec<_> = answers
        .into_iter()
        .map(|one| one.unwrap().signature_id)
        .collect();
    let listed = signatures(&channel, &state).await;
    let mut found: Vec<_> = listed.into_iter().map(|one| one.signature_id).collect();
    ids.sort();
    found.sort();
    assert_eq!(ids, found);
}

#[tokio::test]
async fn g3_a_crash_at_any_step_of_signing_leaves_all_of_it_or_nothing() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("review_kept::g3_a_crash_at_any_step_of_signing", &repo) else {
        return;
    };
    let state = repo_head(&repo);
    let signer = Key::ed25519();
    let mut outcomes = [0, 0];
    let mut all = 0;
    for step in 1.. {
        assert!(step < TOO_MANY);
        let mut daemon = Daemon::spawn(fault.serve(&repo));
        daemon.wait_for_line("serving");
        let channel = repo.channel().await;
        let key = Uuid::new_v4();
        // The agent is only there to tell the calls apart.
        let preview = Draft {
            word: "agent_preview",
            ..Draft::read(&state)
        };
        let asked = keyed(&preview.signed(&signer), key);
        let call = async |channel: &Channel| -> Result<SignStateResponse, Status> {
            let mut request = Request::new(asked.clone());
            let metadata = request.metadata_mut();
            metadata.insert("heddle-agent", key.to_string().parse().unwrap());
            Ok(reviews(channel).sign_state(request).await?.into_inner())
        };
        fault.arm(Act::KillAfter, step, kinds::ALL);
        let answer = call(&channel).await;
        let hit = fault.hit();
        fault.disarm();
        if hit.is_none() {
            answer.unwrap();
            break;
        }
        if answer.is_err() {
            daemon.wait();
        } else {
            daemon.crash();
        }
        let effects = stored(&repo.store_dir()).effects(key);
        assert!(answer.is_err() || effects == 1, "{hit:?}");
        outcomes[effects as usize] += 1;

        let mut daemon = repo.serve();
        let channel = repo.channel().await;
        let before = signatures(&channel, &state).await.len();
        assert_eq!(before, all + effects as usize, "{hit:?}");
        let first = call(&channel).await.unwrap();
        assert_eq!(call(&channel).await.unwrap(), first);
        all += 1;
        let listed = signatures(&channel, &state).await;
        assert_eq!(listed.len(), all, "{hit:?}");
        assert_eq!(listed[all - 1].signature_id, first.signature_id, "{hit:?}");
        daemon.crash();
        assert_eq!(stored(&repo.store_dir()).effects(key), 1, "{hit:?}");
    }
    assert!(outcomes.iter().all(|&n| n > 0), "{outcomes:?}");
}

/// A transaction.
async fn begin(channel: &Channel) -> String {
    let mut client = TransactionServiceClient::new(channel.clone());
    let begun = client.begin_transaction(BeginTransactionRequest::default());
    begun.await.unwrap().into_inner().transaction_id
}

fn within<T>(id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("heddle-transaction-id", id.parse().unwrap());
    request
}

#[tokio::test]
async fn statements_in_a_transaction_are_verified_now_and_seen_when_it_is_committed() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let state = state(&repo, &channel).await;
    let key = Key::ed25519();
    let draft = Draft {
        text: "buffered".into(),
        ..Draft::read(&state)
    };
    let verdict = Draft {
        word: "reject",
        ..draft.clone()
    };
    let tick = Draft {
        word: "file_reviewed",
        text: "work".into(),
        ..draft.clone()
    };
    let id = begin(&channel).await;
    let mut client = reviews(&channel);
    let signed = client
        .sign_state(within(&id, draft.signed(&key)))
        .await
        .unwrap()
        .into_inner();
    client
        .record_verdict(within(&id, verdict.judged(&key)))
        .await
        .unwrap();
    let acked = client
        .record_check_ack(within(&id, tick.checked(&key)))
        .await;
    let acked = acked.unwrap().into_inner().ack.unwrap();
    let mut bad = draft.signed(&key);
    bad.justification.clear();
    let status = client.sign_state(within(&id, bad)).await.unwrap_err();
    assert_blames(&status, Reason::SignatureInvalid, "signature");
    assert_eq!(signatures(&channel, &state).await, []);

    // It outlives the daemon.
    daemon.crash();
    let _again = repo.serve();
    let channel = repo.channel().await;
    assert_eq!(signatures(&channel, &state).await, []);
    let commit = CommitTransactionRequest {
        transaction_id: id.clone(),
        ..Default::default()
    };
    let mut transactions = TransactionServiceClient::new(channel.clone());
    let done = transactions
        .commit_transaction(commit)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(done.op_count, 3);
    let listed = signatures(&channel, &state).await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].signature_id, signed.signature_id);
    assert_eq!(
        (listed[0].justification.as_str(), listed[1].reason.as_str()),
        ("buffered", "buffered")
    );
    assert_eq!(
        (&listed[0].public_key, listed[0].algorithm.as_str()),
        (&key.public(), "ed25519")
    );
    let found = progress(&channel, Default::default()).await.unwrap();
    assert_eq!(found.acks, [acked]);
    let verbs = operations(
        &channel,
        QueryOperationsRequest {
            limit: 4,
            ..Default::default()
        },
    )
    .await;
    let verbs: Vec<_> = verbs.iter().map(|one| one.verb.as_str()).collect();
    assert_eq!(
        verbs,
        [
            "review_sign",
            "review_verdict",
            "review_check",
            "transaction_commit"
        ]
    );

    let id = begin(&channel).await;
    reviews(&channel)
        .sign_state(within(&id, draft.signed(&key)))
        .await
        .unwrap();
    let abort = AbortTransactionRequest {
        transaction_id: id.clone(),
        ..Default::default()
    };
    transactions.abort_transaction(abort).await.unwrap();
    let status = reviews(&channel)
        .sign_state(within(&id, draft.signed(&key)))
        .await
        .unwrap_err();
    assert_refused(
        &status,
        heddle_agent::grpc_local_impl::code(Reason::TransactionAborted),
        Reason::TransactionAborted,
    );
    assert_eq!(signatures(&channel, &state).await.len(), 2);
}

#[tokio::test]
async fn a_chain_with_a_signed_state_stays() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let made = chains(&repo, &channel, 5).await;
    let key = Key::ed25519();
    let state = |chain: usize| hex_bytes(&made[chain][0]);
    sign(&channel, Draft::read(&state(0)).signed(&key))
        .await
        .unwrap();
    let tick = Draft {
        word: "file_reviewed",
        text: "work".into(),
        ..Draft::read(&state(1))
    };
    check(&channel, tick.checked(&key)).await.unwrap();
    // It is needed from when it is buffered.
    let id = begin(&channel).await;
    let verdict = Draft {
        word: "sign",
        ..Draft::read(&state(2))
    };
    reviews(&channel)
        .record_verdict(within(&id, verdict.judged(&key)))
        .await
        .unwrap();

    let said = repo
        .heddle(["gc", "--keep-chains", "1", "--keep-days", "0"])
        .ok();
    assert!(said.contains("dropped 1 chain"), "{said}");
    assert_eq!(kept(&repo), [1, 2, 3, 5]);
    repo.git(&["gc", "-q", "--prune=now"]);
    for (at, states) in made.iter().enumerate() {
        assert_eq!(is_there(&repo, &states[0]), at != 3, "{at}");
    }
    let abort = AbortTransactionRequest {
        transaction_id: id,
        ..Default::default()
    };
    let mut transactions = TransactionServiceClient::new(channel.clone());
    transactions.abort_transaction(abort).await.unwrap();
    let done = collect(&channel, keep(1)).await.unwrap();
    assert_eq!((done.dropped_chains, done.kept_chains), (1, 3));
    assert_eq!(kept(&repo), [1, 2, 5]);
    assert_eq!(signatures(&channel, &state(0)).await.len(), 1);
    assert_eq!(amiss(&check_repository(&channel, false).await), [""; 0]);
    let gone = sign(
        &channel,
        Draft::read(&hex_bytes(&"9".repeat(40))).signed(&key),
    )
    .await;
    assert_blames(&gone.unwrap_err(), Reason::StateUnknown, "state_id");
    assert_ne!(hex(&state(0)), hex(&state(1)));
}
