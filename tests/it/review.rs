//! Signing states through the socket: what every algorithm signs is recorded, what is altered is not,
//! and each bad request is told what is wrong with it.

use std::collections::BTreeSet;

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        CheckKind, GetReviewPayloadRequest, GetReviewProgressRequest, ListSignaturesRequest,
        PathSymbolRef, QueryOperationsRequest, ReviewKind, ReviewScope, ReviewSignature,
        SignStateRequest, Verdict, review_scope,
    },
};
use tonic::{Code, Request, transport::Channel};

use crate::{
    harness::TestRepo,
    rpc::{assert_blames, assert_refused, operations},
    signing::{Draft, Key, at, check, judge, now, progress, reviews, sign, signatures},
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

fn verdict_draft(state: &[u8]) -> Draft {
    Draft {
        word: "sign",
        ..Draft::read(state)
    }
}

#[tokio::test]
async fn each_bad_request_is_told_what_is_wrong_with_it() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let state = state(&repo, &channel).await;
    let key = Key::ed25519();
    let draft = Draft::read(&state);
    let good = || draft.signed(&key);
    let nul = || "a\0b".to_owned();
    let symbols = |symbols: Vec<PathSymbolRef>| {
        let scope = review_scope::Scope::Symbols(review_scope::SymbolList { symbols });
        Some(ReviewScope { scope: Some(scope) })
    };
    let one = |file: &str, symbol: &str| PathSymbolRef {
        file: file.into(),
        symbol: symbol.into(),
    };
    let weak = Key::ssh(&repo.around(), "other");
    use Reason::{
        AlgorithmUnknown, InvalidField, KeyInvalid, NotAState, SignatureInvalid,
        SignedAtOutOfRange, StateUnknown,
    };
    type Change<'a> = Box<dyn Fn(&mut SignStateRequest) + 'a>;
    let bad: Vec<(Reason, &str, Change<'_>)> = vec![
        (InvalidField, "kind", Box::new(|it| it.kind = 0)),
        (InvalidField, "kind", Box::new(|it| it.kind = 9)),
        (InvalidField, "scope", Box::new(|it| it.scope = None)),
        (
            InvalidField,
            "scope",
            Box::new(|it| it.scope = Some(ReviewScope { scope: None })),
        ),
        (
            InvalidField,
            "scope.symbols.symbols",
            Box::new(|it| it.scope = symbols(vec![])),
        ),
        (
            InvalidField,
            "scope.symbols.symbols",
            Box::new(|it| it.scope = symbols(vec![one("a", "b"); 1_001])),
        ),
        (
            InvalidField,
            "scope.symbols.symbols",
            Box::new(|it| it.scope = symbols(vec![one(&"a".repeat(4_000), ""); 40])),
        ),
        (
            InvalidField,
            "scope.symbols.symbols[1].file",
            Box::new(|it| it.scope = symbols(vec![one("a", "b"), one("", "b")])),
        ),
        (
            InvalidField,
            "scope.symbols.symbols[0].file",
            Box::new(|it| it.scope = symbols(vec![one(&nul(), "b")])),
        ),
        (
            InvalidField,
            "scope.symbols.symbols[0].symbol",
            Box::new(|it| it.scope = symbols(vec![one("a", &nul())])),
        ),
        (
            InvalidField,
            "justification",
            Box::new(|it| it.justification = nul()),
        ),
        (
            InvalidField,
            "justification",
            Box::new(|it| it.justification = "x".repeat(1024 * 1024)),
        ),
        (
            InvalidField,
            "signed_at",
            Box::new(|it| it.signed_at = None),
        ),
        (
            InvalidField,
            "signed_at",
            Box::new(|it| it.signed_at.as_mut().unwrap().nanos = -1),
        ),
        (
            SignedAtOutOfRange,
            "signed_at",
            Box::new(|it| it.signed_at = at(now() - 600)),
        ),
        (
            SignedAtOutOfRange,
            "signed_at",
            Box::new(|it| it.signed_at = at(now() + 600)),
        ),
        (
            SignedAtOutOfRange,
            "signed_at",
            Box::new(|it| it.signed_at = at(i64::MIN)),
        ),
        (
            AlgorithmUnknown,
            "algorithm",
            Box::new(|it| it.algorithm = String::new()),
        ),
        (
            AlgorithmUnknown,
            "algorithm",
            Box::new(|it| it.algorithm = "Ed25519".into()),
        ),
        (
            KeyInvalid,
            "public_key",
            Box::new(|it| it.public_key.clear()),
        ),
        (
            KeyInvalid,
            "public_key",
            Box::new(|it| it.public_key.push(0)),
        ),
        (
            KeyInvalid,
            "public_key",
            Box::new(|it| it.algorithm = "p256".into()),
        ),
        (
            KeyInvalid,
            "public_key",
            Box::new(|it| it.algorithm = "rsa".into()),
        ),
        (
            KeyInvalid,
            "public_key",
            Box::new(|it| it.algorithm = "sshsig".into()),
        ),
        (
            SignatureInvalid,
            "signature",
            Box::new(|it| it.signature.clear()),
        ),
        (
            SignatureInvalid,
            "signature",
            Box::new(|it| it.signature.push(0)),
        ),
        (
            SignatureInvalid,
            "signature",
            Box::new(|it| it.signature = vec![1; 20_000]),
        ),
        (
            SignatureInvalid,
            "signature",
            Box::new(|it| {
                it.algorithm = "sshsig".into();
                it.public_key = weak.public();
            }),
        ),
        (NotAState, "state_id", Box::new(|it| it.state_id.clear())),
        (NotAState, "state_id", Box::new(|it| it.state_id.push(0))),
        (
            NotAState,
            "state_id",
            Box::new(|it| it.state_id = vec![1; 32]),
        ),
        (
            StateUnknown,
            "state_id",
            Box::new(|it| it.state_id = vec![1; 20]),
        ),
    ];
    for (reason, field, change) in bad {
        let mut asked = good();
        change(&mut asked);
        let status = sign(&channel, asked).await.unwrap_err();
        assert_blames(&status, reason, field);
    }
    let tree = repo.git(&["rev-parse", "HEAD^{tree}"]);
    let mut asked = good();
    asked.state_id = hex_bytes(tree.trim());
    let status = sign(&channel, asked).await.unwrap_err();
    assert_blames(&status, NotAState, "state_id");

    let mut asked = Draft {
        word: "risk_signal_ack",
        ..draft.clone()
    }
    .checked(&key);
    for (check_ref, kind, field) in [
        ("", 1, "check_ref"),
        ("a\0", 1, "check_ref"),
        ("a", 0, "check_kind"),
    ] {
        asked.check_ref = check_ref.into();
        asked.check_kind = kind;
        let status = check(&channel, asked.clone()).await.unwrap_err();
        assert_blames(&status, InvalidField, field);
    }
    asked.check_kind = 1;
    asked.acked_at = at(now() - 600);
    let status = check(&channel, asked).await.unwrap_err();
    assert_blames(&status, SignedAtOutOfRange, "acked_at");
    let mut asked = verdict_draft(&state).judged(&key);
    asked.reason = nul();
    let status = judge(&channel, asked).await.unwrap_err();
    assert_blames(&status, InvalidField, "reason");
    assert_eq!(signatures(&channel, &state).await, []);
}

pub fn hex_bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

#[tokio::test]
async fn weak_rsa_keys_and_those_in_another_encoding_are_refused() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let draft = Draft::read(&repo_head(&repo));
    let rsa = Key::rsa(&repo.around(), 2048);
    let mut asked = draft.signed(&rsa);
    // A modulus of 1024 bits, and the exponent 65537.
    let modulus: Vec<u8> = [&[0x02, 0x81, 0x81, 0x00, 0x80][..], &[1; 127]].concat();
    let inside = [&modulus[..], &[0x02, 0x03, 1, 0, 1]].concat();
    asked.public_key = [&[0x30, 0x81, inside.len() as u8][..], &inside].concat();
    let status = sign(&channel, asked.clone()).await.unwrap_err();
    assert_blames(&status, Reason::KeyInvalid, "public_key");
    assert!(status.message().contains("1024 bits"), "{status:?}");
    // With an AlgorithmIdentifier around it.
    asked.public_key = [
        &[0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09][..],
        &rsa.public(),
    ]
    .concat();
    let status = sign(&channel, asked).await.unwrap_err();
    assert_blames(&status, Reason::KeyInvalid, "public_key");
    assert!(status.message().contains("PKCS#1"), "{status:?}");
}

#[tokio::test]
async fn checks_are_paged_and_new_ones_move_no_page() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let state = state(&repo, &channel).await;
    let key = Key::ed25519();
    let tick = |name: &str, acked: bool| {
        let draft = Draft {
            word: "file_reviewed",
            text: name.into(),
            acked,
            ..Draft::read(&state)
        };
        draft.checked(&key)
    };
    for name in ["a", "b", "c", "d", "e"] {
        check(&channel, tick(name, true)).await.unwrap();
    }
    let mut by_other = Request::new(tick("a", true));
    by_other
        .metadata_mut()
        .insert("heddle-actor-name", "Bea".parse().unwrap());
    reviews(&channel).record_check_ack(by_other).await.unwrap();
    let page = |token: &str, actor: &str| GetReviewProgressRequest {
        state_id: state.clone(),
        actor_name: actor.into(),
        limit: 2,
        page_token: token.into(),
        ..Default::default()
    };
    let mut seen = Vec::new();
    let mut token = String::new();
    let mut tokens = Vec::new();
    loop {
        let found = progress(&channel, page(&token, "Ada")).await.unwrap();
        let refs = found
            .acks
            .iter()
            .map(|ack| (ack.check_ref.clone(), ack.acked));
        seen.push(refs.collect::<Vec<_>>());
        if seen.len() == 1 {
            // One on a page that was read, one on a page to come, and a new one.
            check(&channel, tick("a", false)).await.unwrap();
            check(&channel, tick("c", false)).await.unwrap();
            check(&channel, tick("f", true)).await.unwrap();
        }
        token = found.next_page_token;
        if token.is_empty() {
            break;
        }
        tokens.push(token.clone());
    }
    let named = |refs: &[(&str, bool)]| {
        let refs = refs
            .iter()
            .map(|(name, acked)| ((*name).to_owned(), *acked));
        refs.collect::<Vec<_>>()
    };
    assert_eq!(
        seen,
        [
            named(&[("a", true), ("b", true)]),
            named(&[("c", false), ("d", true)]),
            named(&[("e", true), ("f", true)]),
        ]
    );
    let all = progress(
        &channel,
        GetReviewProgressRequest {
            limit: 0,
            ..page("", "")
        },
    )
    .await;
    let all = all.unwrap();
    assert_eq!((all.acks.len(), all.next_page_token.as_str()), (7, ""));
    assert!(!all.acks[0].acked, "the last word counts");

    let elsewhere = GetReviewProgressRequest {
        state_id: repo_head(&repo),
        ..page(&tokens[0], "Ada")
    };
    let more = format!("{}0", tokens[0]);
    for request in [
        page("x", "Ada"),
        page("1", "Ada"),
        page(&more, "Ada"),
        page(&tokens[0].replacen('2', "3", 1), "Ada"),
        page(&tokens[0], "Bea"),
        page(&tokens[0], ""),
        elsewhere,
    ] {
        let status = progress(&channel, request).await.unwrap_err();
        assert_blames(&status, Reason::InvalidField, "page_token");
    }
}

#[tokio::test]
async fn g8_a_list_of_any_size_comes_in_answers_that_a_foreign_client_takes() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let state = state(&repo, &channel).await;
    let key = Key::ed25519();
    let mut given = Vec::new();
    for number in 0..60 {
        let draft = Draft {
            text: format!("{number:>65000}"),
            ..Draft::read(&state)
        };
        let answer = sign(&channel, draft.signed(&key)).await.unwrap();
        given.push(answer.signature_id);
    }
    let mut listed: Vec<String> = Vec::new();
    let mut answers = 0;
    loop {
        let request = ListSignaturesRequest {
            state_id: state.clone(),
            after_signature_id: listed.last().cloned().unwrap_or_default(),
            ..Default::default()
        };
        let answer = reviews(&channel)
            .list_signatures(request)
            .await
            .unwrap()
            .into_inner();
        listed.extend(answer.signatures.into_iter().map(|one| one.signature_id));
        answers += 1;
        if !answer.truncated {
            break;
        }
    }
    assert_eq!((listed, answers), (given, 2));
    for (after, state) in [("x", &state), (&*uuid::Uuid::new_v4().to_string(), &state)] {
        let request = ListSignaturesRequest {
            state_id: state.clone(),
            after_signature_id: after.into(),
            ..Default::default()
        };
        let status = reviews(&channel)
            .list_signatures(request)
            .await
            .unwrap_err();
        assert_blames(&status, Reason::InvalidField, "after_signature_id");
    }
}

#[tokio::test]
async fn lists_of_what_is_no_state_are_refused_and_of_a_new_repository_too() {
    let repo = TestRepo::empty_at("repo");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for (state_id, reason) in [
        (vec![], Reason::StateUnknown),
        (vec![1; 20], Reason::StateUnknown),
        (vec![1; 19], Reason::NotAState),
    ] {
        let request = ListSignaturesRequest {
            state_id: state_id.clone(),
            ..Default::default()
        };
        let status = reviews(&channel)
            .list_signatures(request)
            .await
            .unwrap_err();
        assert_blames(&status, reason, "state_id");
        let request = GetReviewProgressRequest {
            state_id,
            ..Default::default()
        };
        let status = progress(&channel, request).await.unwrap_err();
        assert_blames(&status, reason, "state_id");
    }
    let request = GetReviewPayloadRequest::default();
    let status = reviews(&channel).get_review_payload(request).await;
    let status = status.unwrap_err();
    assert_refused(&status, Code::Unimplemented, Reason::NotImplemented);
}
