//! Each bad request to sign is told what is wrong with it, and nothing of it is recorded.

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{PathSymbolRef, ReviewScope, SignStateRequest, review_scope},
};

use crate::{
    harness::TestRepo,
    review::{hex_bytes, repo_head, state, verdict_draft},
    rpc::assert_blames,
    signing::{Draft, Key, at, check, judge, now, sign, signatures},
};

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
