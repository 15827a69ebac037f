//! Discussions where histories, names and answers are not the usual ones.

use std::fs;

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        BeginTransactionRequest, ListDiscussionsByStateRequest, ResolveDiscussionRequest,
        resolve_discussion_request as resolve,
        transaction_service_client::TransactionServiceClient,
    },
};
use tonic::{Code, Request, transport::Channel};

use crate::{
    discussions::{
        CACHE, at, client, commit, dismissed, listed, open, opening, reply, seen, settle,
    },
    harness::TestRepo,
    rpc::{assert_blames, assert_refused},
    states::captured,
};

fn prune(repo: &TestRepo) {
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.git(&["gc", "-q", "--prune=now"]);
}

#[tokio::test]
async fn g10_a_discussion_of_a_commit_that_was_pruned_hides_no_other() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.rs"), CACHE).unwrap();
    commit(&repo, "a");
    let daemon = repo.serve();
    let channel = repo.channel().await;
    let mut ids = vec![
        open(&channel, opening("a.rs", "Cache::get"))
            .await
            .unwrap()
            .id,
    ];
    repo.git(&["commit", "-q", "--amend", "-m", "again"]);
    ids.push(open(&channel, opening("a.rs", "Cache")).await.unwrap().id);
    drop((channel, daemon));
    prune(&repo);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    assert_eq!(listed(&channel, "open").await, ids);
    let found = seen(&at(&channel, &ids[0], &[]).await);
    assert_eq!(found, "a.rs Cache::get changed");
    reply(&channel, &ids[0], "still here").await.unwrap();
}

#[tokio::test]
async fn a_discussion_is_followed_where_a_shallow_clone_ends() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.py"), "def f():\n    return 1\n").unwrap();
    commit(&repo, "a");
    let head = repo.git(&["rev-parse", "HEAD"]);
    fs::write(repo.path(".git/shallow"), head).unwrap();
    prune(&repo);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = open(&channel, opening("a.py", "f")).await.unwrap().id;
    for number in 2..5 {
        let text = format!("def f():\n    return {number}\n");
        fs::write(repo.path("a.py"), text).unwrap();
        captured(&channel, "").await;
    }
    assert_eq!(seen(&at(&channel, &id, &[]).await), "a.py f changed");
}

#[tokio::test]
async fn a_discussion_of_a_branch_is_followed_into_its_merge() {
    let repo = TestRepo::new();
    let write = |text: &str| fs::write(repo.path("a.py"), text).unwrap();
    write("def f():\n    return 1\n");
    commit(&repo, "base");
    repo.git(&["branch", "-m", "trunk"]);
    repo.git(&["checkout", "-qb", "topic"]);
    write("def f():\n    return 1 + 1\n");
    commit(&repo, "edit");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = open(&channel, opening("a.py", "f")).await.unwrap().id;
    write("def g():\n    return 1 + 1\n");
    commit(&repo, "rename");
    write("def g():\n    return 1 + 1 + 1\n");
    let topic = commit(&repo, "edit again");
    assert_eq!(seen(&at(&channel, &id, &topic).await), "a.py g changed");
    repo.git(&["checkout", "-q", "trunk"]);
    fs::write(repo.path("b.py"), "").unwrap();
    let beside = commit(&repo, "beside");
    assert_eq!(seen(&at(&channel, &id, &beside).await), "a.py f changed");
    repo.git(&["merge", "-q", "--no-edit", "topic"]);
    fs::write(repo.path("b.py"), "\n").unwrap();
    let merged = commit(&repo, "after the merge");
    assert_eq!(seen(&at(&channel, &id, &merged).await), "a.py g changed");
}

#[tokio::test]
async fn a_symbol_is_looked_for_in_its_own_file_first_however_much_changed() {
    let repo = TestRepo::new();
    fs::write(repo.path("z.py"), "def f():\n    return 'here'\n").unwrap();
    commit(&repo, "a");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = open(&channel, opening("z.py", "f")).await.unwrap().id;
    fs::write(repo.path("z.py"), "def g():\n    return 'here'\n").unwrap();
    for number in 0..600 {
        fs::write(repo.path(format!("a{number}.py")), "").unwrap();
    }
    let state = commit(&repo, "much");
    assert_eq!(seen(&at(&channel, &id, &state).await), "z.py g");
}

#[tokio::test]
async fn a_submodule_that_is_named_like_a_file_is_none() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.js"), "function f() { return 1; }\n").unwrap();
    commit(&repo, "a");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = open(&channel, opening("a.js", "f")).await.unwrap().id;
    fs::write(repo.path("a.js"), "").unwrap();
    repo.git(&["add", "a.js"]);
    let link = format!("160000,{},lib.js", "7".repeat(40));
    repo.git(&["update-index", "--add", "--cacheinfo", &link]);
    repo.git(&["commit", "-qm", "a submodule"]);
    assert_eq!(seen(&at(&channel, &id, &[]).await), "a.js f orphaned");
}

#[tokio::test]
async fn g8_an_error_does_not_repeat_a_name_without_end() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.rs"), CACHE).unwrap();
    commit(&repo, "a");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let refused = open(&channel, opening("a.rs", &"é".repeat(1 << 19))).await;
    let refused = refused.unwrap_err();
    assert_blames(&refused, Reason::AnchorUnknown, "anchor.symbol");
    assert!(refused.message().len() < 2_000);
}

#[tokio::test]
async fn g8_who_speaks_counts_as_what_is_said() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.rs"), CACHE).unwrap();
    commit(&repo, "a");
    repo.git(&["config", "user.name", &"n".repeat(100_000)]);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = open(&channel, opening("a.rs", "Cache")).await.unwrap().id;
    for _ in 0..9 {
        reply(&channel, &id, "x").await.unwrap();
    }
    let refused = reply(&channel, &id, "x").await.unwrap_err();
    assert_refused(&refused, Code::ResourceExhausted, Reason::DiscussionFull);
}

async fn page(channel: &Channel, after: &str) -> Result<(Vec<String>, bool), tonic::Status> {
    let request = ListDiscussionsByStateRequest {
        after_id: after.into(),
        ..Default::default()
    };
    let page = client(channel).list_by_state(request).await?.into_inner();
    let ids = page.discussions.into_iter().map(|it| it.id).collect();
    Ok((ids, page.truncated))
}

#[tokio::test]
async fn g8_what_does_not_fit_one_answer_comes_in_the_next() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.rs"), CACHE).unwrap();
    commit(&repo, "a");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        let id = open(&channel, opening("a.rs", "Cache")).await.unwrap().id;
        for _ in 0..12 {
            reply(&channel, &id, &"x".repeat(64 * 1024)).await.unwrap();
        }
        ids.push(id);
    }
    let (mut found, mut truncated) = page(&channel, "").await.unwrap();
    assert!(truncated);
    while truncated {
        let next = page(&channel, found.last().unwrap()).await.unwrap();
        assert!(!next.0.is_empty());
        found.extend(next.0);
        truncated = next.1;
    }
    assert_eq!(found, ids);
    let refused = page(&channel, "x").await.unwrap_err();
    assert_blames(&refused, Reason::InvalidField, "after_id");
}

fn annotation() -> resolve::Resolution {
    resolve::Resolution::IntoAnnotation(resolve::ResolveIntoAnnotation {
        kind: 2,
        content: "never empty".into(),
        tags: Vec::new(),
    })
}

#[tokio::test]
async fn a_state_that_an_annotation_was_made_at_outlives_its_chain() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.rs"), CACHE).unwrap();
    commit(&repo, "a");
    fs::create_dir_all(repo.store_dir()).unwrap();
    let config = "[captures]\nkeep_chains = 0\nkeep_days = 0\n";
    fs::write(repo.store_dir().join("config.toml"), config).unwrap();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let [first, second] = [(); 2].map(|()| open(&channel, opening("a.rs", "Cache")));
    let (first, second) = (first.await.unwrap().id, second.await.unwrap().id);
    let (mut states, mut begun) = (Vec::new(), None);
    for number in 0..3 {
        if number == 1 {
            // It begins at another state than the one at which it resolves.
            let asked = BeginTransactionRequest::default();
            let mut transactions = TransactionServiceClient::new(channel.clone());
            let answer = transactions.begin_transaction(asked).await.unwrap();
            begun = Some(answer.into_inner());
        }
        fs::write(repo.path("b.rs"), format!("fn b() {{ {number} }}\n")).unwrap();
        states.push(captured(&channel, "").await);
        if number == 0 {
            settle(&channel, &first, annotation()).await.unwrap();
        }
        if number == 1 {
            let id = &begun.as_ref().unwrap().transaction_id;
            let mut request = Request::new(ResolveDiscussionRequest {
                discussion_id: second.clone(),
                resolution: Some(annotation()),
                ..Default::default()
            });
            let metadata = request.metadata_mut();
            metadata.insert("heddle-transaction-id", id.parse().unwrap());
            client(&channel).resolve_discussion(request).await.unwrap();
        }
        commit(&repo, "ends the chain");
    }
    fs::write(repo.path("b.rs"), "").unwrap();
    captured(&channel, "").await;
    repo.heddle(["gc"]).ok();
    let kept = repo.git(&["for-each-ref", "--format=%(objectname)", "refs/heddle/kept"]);
    let kept: Vec<_> = kept.lines().collect();
    for state in &states[..2] {
        assert!(kept.contains(&&**state), "{states:?}: {kept:?}");
    }
    assert!(!kept.contains(&&*states[2]));
}

#[tokio::test]
async fn a_branch_without_a_commit_keeps_nobody_from_speaking() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.rs"), CACHE).unwrap();
    let state = commit(&repo, "a");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = open(&channel, opening("a.rs", "Cache")).await.unwrap().id;
    repo.git(&["checkout", "-q", "--orphan", "new"]);
    reply(&channel, &id, "still here").await.unwrap();
    let nowhere = settle(&channel, &id, annotation()).await.unwrap_err();
    assert_refused(&nowhere, Code::NotFound, Reason::StateUnknown);
    settle(&channel, &id, dismissed("gone")).await.unwrap();
    assert_eq!(at(&channel, &id, &state).await.turns.len(), 2);
}
