//! Signing states through the socket: what every algorithm signs is recorded, and what is altered is
//! not.

use std::collections::BTreeSet;

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        CheckKind, PathSymbolRef, QueryOperationsRequest, ReviewKind, ReviewScope, ReviewSignature,
        SignStateRequest, Verdict, review_scope,
    },
};
use tonic::{Code, transport::Channel};

use crate::{
    harness::TestRepo,
    rpc::{assert_blames, operations},
    signing::{Draft, Key, check, judge, progress, sign, signatures},
    states::capture,
};

/// A captured state with something in it.
pub async fn state(repo: &TestRepo, channel: &Channel) -> Vec<u8> {
    let content = uuid::Uuid::new_v4().to_string();
    std::fs::write(repo.path("work"), content).unwrap();
    capture(channel, "").await.unwrap().state_id
}

fn keys(repo: &TestRepo) -> Vec<Key> {
    vec![
        Key::ed25519(),
        Key::p256(false),
        Key::p256(true),
        Key::rsa(&repo.around(), 2048),
        Key::ssh(&repo.around(), "ssh"),
    ]
}

fn in_symbols(draft: Draft) -> Draft {
    Draft {
        symbols: Some(vec![("src/a.rs", "Cache::get"), ("src/é", "")]),
        ..draft
    }
}

#[tokio::test]
async fn what_each_algorithm_signs_is_recorded_and_listed_in_its_order() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let state = state(&repo, &channel).await;
    let mut given = Vec::new();
    let mut checks = Vec::new();
    for key in keys(&repo) {
        let draft = in_symbols(Draft {
            text: format!("by {}", key.algorithm()),
            ..Draft::read(&state)
        });
        let asked = draft.signed(&key);
        let answer = sign(&channel, asked.clone()).await.unwrap();
        assert_eq!(answer.state_id, state);
        given.push(ReviewSignature {
            signature_id: answer.signature_id,
            kind: ReviewKind::Read.into(),
            justification: asked.justification,
            scope: asked.scope,
            signed_at: asked.signed_at,
            algorithm: asked.algorithm,
            public_key: asked.public_key,
            signature: asked.signature,
            actor_name: "Ada".into(),
            actor_email: "ada@example.com".into(),
            ..Default::default()
        });
        let asked = Draft {
            word: "hold",
            symbols: None,
            ..draft.clone()
        }
        .judged(&key);
        let answer = judge(&channel, asked.clone()).await.unwrap();
        given.push(ReviewSignature {
            signature_id: answer.signature_id,
            verdict: Verdict::Hold.into(),
            reason: asked.reason,
            scope: asked.scope,
            signed_at: asked.signed_at,
            algorithm: asked.algorithm,
            public_key: asked.public_key,
            signature: asked.signature,
            actor_name: "Ada".into(),
            actor_email: "ada@example.com".into(),
            ..Default::default()
        });
        let asked = Draft {
            word: "file_reviewed",
            ..draft
        }
        .checked(&key);
        let ack = check(&channel, asked.clone()).await.unwrap().ack.unwrap();
        assert_eq!(ack.check_kind(), CheckKind::FileReviewed);
        assert_eq!((&ack.check_ref, ack.acked), (&asked.check_ref, true));
        assert_eq!(
            (&ack.public_key, &ack.signature),
            (&asked.public_key, &asked.signature)
        );
        checks.push(ack);
    }
    let ids: BTreeSet<_> = given.iter().map(|one| &one.signature_id).collect();
    assert_eq!(ids.len(), given.len());
    assert_eq!(signatures(&channel, &state).await, given);
    // The state is the current one.
    assert_eq!(signatures(&channel, &[]).await, given);
    let found = progress(&channel, Default::default()).await.unwrap();
    assert_eq!((found.acks, found.next_page_token.as_str()), (checks, ""));

    let query = QueryOperationsRequest {
        symbol: "Cache::get".into(),
        ..Default::default()
    };
    let log = operations(&channel, query).await;
    let expected = (
        log.len(),
        log[0].verb.as_str(),
        &log[0].state_id,
        log[0].thread.as_str(),
    );
    assert_eq!(expected, (5, "review_sign", &state, "main"));
    let others = QueryOperationsRequest {
        verbs: vec!["review_verdict".into(), "review_check".into()],
        ..Default::default()
    };
    assert_eq!(operations(&channel, others).await.len(), 10);
}

/// Every request with one bit of one byte of these fields altered.
fn altered(asked: &SignStateRequest) -> Vec<(String, SignStateRequest)> {
    let mut all = Vec::new();
    let mut alter = |name: &str, length: usize, flip: &dyn Fn(&mut SignStateRequest, usize)| {
        for place in 0..length {
            let mut altered = asked.clone();
            flip(&mut altered, place);
            if altered != *asked {
                all.push((format!("byte {place} of {name}"), altered));
            }
        }
    };
    let text = |text: &mut String, place: usize| {
        let mut bytes = std::mem::take(text).into_bytes();
        bytes[place] ^= 1;
        *text = String::from_utf8(bytes).unwrap();
    };
    alter("signature", asked.signature.len(), &|it, at| {
        it.signature[at] ^= 1
    });
    alter("public_key", asked.public_key.len(), &|it, at| {
        it.public_key[at] ^= 1
    });
    alter("justification", asked.justification.len(), &|it, at| {
        text(&mut it.justification, at)
    });
    alter("kind", 2, &|it, at| it.kind = at as i32 + 2);
    alter("signed_at", 6, &|it, at| {
        it.signed_at.as_mut().unwrap().seconds += at as i64 - 3;
    });
    let symbol = |it: &mut SignStateRequest, change: &dyn Fn(&mut Vec<PathSymbolRef>)| {
        let scope = it.scope.as_mut().unwrap().scope.as_mut().unwrap();
        let review_scope::Scope::Symbols(list) = scope else {
            panic!("{scope:?}");
        };
        change(&mut list.symbols);
    };
    alter("the first file", "src/a.rs".len(), &|it, at| {
        symbol(it, &|symbols| text(&mut symbols[0].file, at));
    });
    alter("the first symbol", "Cache::get".len(), &|it, at| {
        symbol(it, &|symbols| text(&mut symbols[0].symbol, at));
    });
    alter("the order", 1, &|it, _| {
        symbol(it, &|symbols| symbols.reverse())
    });
    alter("the count", 1, &|it, _| {
        symbol(it, &|symbols| drop(symbols.pop()))
    });
    alter("the scope", 1, &|it, _| {
        it.scope = Some(ReviewScope {
            scope: Some(review_scope::Scope::WholeChange(
                review_scope::WholeChange {},
            )),
        });
    });
    alter("the text that is left out", 1, &|it, _| {
        it.justification.clear()
    });
    all
}

#[tokio::test]
async fn a_signature_that_is_altered_in_any_byte_is_refused() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let state = state(&repo, &channel).await;
    let mut reasons = BTreeSet::new();
    for key in keys(&repo) {
        let draft = in_symbols(Draft {
            text: "looks good".into(),
            ..Draft::read(&state)
        });
        let asked = draft.signed(&key);
        let comment = match &key {
            // A comment is no part of the key, nor is the end of a line.
            Key::Ssh { line, .. } => line.rfind(" a comment").unwrap(),
            _ => usize::MAX,
        };
        for (what, altered) in altered(&asked) {
            let is_comment = what.ends_with("public_key")
                && (0..comment).all(|at| altered.public_key.get(at) == asked.public_key.get(at))
                && comment < asked.public_key.len();
            if is_comment {
                continue;
            }
            let refused = sign(&channel, altered).await;
            let status = refused.expect_err(&format!("{}: {what}", key.algorithm()));
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
            reasons.insert(crate::harness::reason(&status));
        }
        // The bits of a point's sign, of a padding, of a leading zero.
        for bit in 0..8 {
            let mut altered = asked.clone();
            altered.signature[0] ^= 1 << bit;
            assert!(sign(&channel, altered).await.is_err());
        }
        let elsewhere = SignStateRequest {
            state_id: repo_head(&repo),
            ..asked.clone()
        };
        let status = sign(&channel, elsewhere).await.unwrap_err();
        assert_blames(&status, Reason::SignatureInvalid, "signature");
    }
    assert_eq!(
        reasons.into_iter().collect::<Vec<_>>(),
        ["KEY_INVALID", "SIGNATURE_INVALID"]
    );
    assert_eq!(
        signatures(&channel, &state).await,
        [],
        "nothing unverified is stored"
    );
    assert_eq!(signatures(&channel, &repo_head(&repo)).await, []);
}

pub fn repo_head(repo: &TestRepo) -> Vec<u8> {
    hex_bytes(repo.git(&["rev-parse", "HEAD"]).trim())
}

#[tokio::test]
async fn a_signature_of_another_sort_of_statement_is_refused() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let key = Key::ed25519();
    // A commit of the user's is a state as well.
    let state = repo_head(&repo);
    let read = Draft::read(&state);
    let verdict = Draft {
        word: "sign",
        ..read.clone()
    };
    let tick = Draft {
        word: "file_reviewed",
        text: "README".into(),
        ..read.clone()
    };
    let mut asked = verdict.judged(&key);
    asked.signature = key.sign(&read.payload());
    let status = judge(&channel, asked).await.unwrap_err();
    assert_blames(&status, Reason::SignatureInvalid, "signature");
    let mut asked = tick.checked(&key);
    asked.acked = false;
    let status = check(&channel, asked).await.unwrap_err();
    assert_blames(&status, Reason::SignatureInvalid, "signature");
    for verdict in [Verdict::Hold, Verdict::Reject] {
        let mut asked = verdict_draft(&state).judged(&key);
        asked.verdict = verdict.into();
        let status = judge(&channel, asked).await.unwrap_err();
        assert_blames(&status, Reason::SignatureInvalid, "signature");
    }
    sign(&channel, read.signed(&key)).await.unwrap();
    judge(&channel, verdict.judged(&key)).await.unwrap();
    check(&channel, tick.checked(&key)).await.unwrap();
}

pub fn verdict_draft(state: &[u8]) -> Draft {
    Draft {
        word: "sign",
        ..Draft::read(state)
    }
}

pub fn hex_bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}
