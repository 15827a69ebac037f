//! Lists of what was signed: in order, in pages, and never larger than a client takes.

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{GetReviewProgressRequest, ListSignaturesRequest},
};
use tonic::Request;

use crate::{
    harness::TestRepo,
    review::{repo_head, state},
    rpc::assert_blames,
    signing::{Draft, Key, check, progress, reviews, sign},
};

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
}
