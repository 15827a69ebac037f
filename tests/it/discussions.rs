//! Discussions: opened on a symbol, found again wherever that went, settled for good.

use std::fs;

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        AppendTurnRequest, BeginTransactionRequest, CommitTransactionRequest, Discussion,
        GetDiscussionRequest, ListDiscussionsByStateRequest, ListDiscussionsBySymbolRequest,
        OpenDiscussionRequest, PathSymbolRef, QueryOperationsRequest, ResolveDiscussionRequest,
        discussion_resolution::State, discussion_service_client::DiscussionServiceClient,
        resolve_discussion_request as resolve,
        transaction_service_client::TransactionServiceClient,
    },
};
use tonic::{Code, Request, Status, transport::Channel};
use uuid::Uuid;

use crate::{
    harness::TestRepo,
    rpc::{assert_blames, assert_refused, operations},
    states::{captured, hex},
};

pub type Client = DiscussionServiceClient<Channel>;

pub fn client(channel: &Channel) -> Client {
    DiscussionServiceClient::new(channel.clone())
}

pub fn place(file: &str, symbol: &str) -> Option<PathSymbolRef> {
    Some(PathSymbolRef {
        file: file.into(),
        symbol: symbol.into(),
    })
}

pub fn opening(file: &str, symbol: &str) -> OpenDiscussionRequest {
    OpenDiscussionRequest {
        anchor: place(file, symbol),
        body: "why?".into(),
        ..Default::default()
    }
}

pub async fn open(channel: &Channel, request: OpenDiscussionRequest) -> Result<Discussion, Status> {
    Ok(client(channel).open_discussion(request).await?.into_inner())
}

pub async fn reply(channel: &Channel, id: &str, body: &str) -> Result<Discussion, Status> {
    let request = AppendTurnRequest {
        discussion_id: id.into(),
        body: body.into(),
        ..Default::default()
    };
    Ok(client(channel).append_turn(request).await?.into_inner())
}

pub async fn settle(
    channel: &Channel,
    id: &str,
    how: resolve::Resolution,
) -> Result<Discussion, Status> {
    let request = ResolveDiscussionRequest {
        discussion_id: id.into(),
        resolution: Some(how),
        ..Default::default()
    };
    let mut client = client(channel);
    Ok(client.resolve_discussion(request).await?.into_inner())
}

pub fn dismissed(reason: &str) -> resolve::Resolution {
    resolve::Resolution::Dismissed(resolve::ResolveDismissed {
        reason: reason.into(),
    })
}

pub async fn at(channel: &Channel, id: &str, state: &[u8]) -> Discussion {
    let request = GetDiscussionRequest {
        discussion_id: id.into(),
        state_id: state.to_vec(),
        ..Default::default()
    };
    let found = client(channel).get_discussion(request).await;
    found.unwrap().into_inner()
}

pub async fn listed(channel: &Channel, status: &str) -> Vec<String> {
    let request = ListDiscussionsByStateRequest {
        status: status.into(),
        ..Default::default()
    };
    let found = client(channel).list_by_state(request).await.unwrap();
    let found = found.into_inner().discussions.into_iter();
    found.map(|it| it.id).collect()
}

/// `file symbol`, and what is said of it.
pub fn seen(discussion: &Discussion) -> String {
    let anchor = discussion.anchor.as_ref().unwrap();
    let mut seen = format!("{} {}", anchor.file, anchor.symbol);
    if discussion.body_changed_since_open {
        seen += " changed";
    }
    if discussion.orphaned {
        seen += " orphaned";
    }
    seen
}

pub fn commit(repo: &TestRepo, message: &str) -> Vec<u8> {
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", message]);
    let id = repo.git(&["rev-parse", "HEAD"]);
    let id = id.trim();
    (0..id.len() / 2)
        .map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

pub const CACHE: &str = "\
pub struct Cache { entries: Vec<u8> }

impl Cache {
    /// The one at a place.
    pub fn get(&self, at: usize) -> Option<u8> {
        let found = self.entries.get(at);
        found.copied()
    }

    pub fn put(&mut self, value: u8) {
        self.entries.push(value);
    }
}
";

#[tokio::test]
async fn a_discussion_follows_its_symbol_through_edits_renames_moves_deletions_and_reverts() {
    let repo = TestRepo::new();
    fs::create_dir(repo.path("src")).unwrap();
    let write = |file: &str, text: &str| fs::write(repo.path(file), text).unwrap();
    write("src/cache.rs", CACHE);
    write("src/other.rs", "pub fn other() {}\n");
    let opened = commit(&repo, "a cache");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let discussion = open(&channel, opening("src/cache.rs", "Cache::get"))
        .await
        .unwrap();
    assert_eq!(discussion.opened_against_state, opened);
    let id = &discussion.id;

    let mut expected = vec![(opened, "src/cache.rs Cache::get".to_owned())];
    let mut step = |message: &str, then: &str| {
        expected.push((commit(&repo, message), then.to_owned()));
    };
    // Above it, and how it is laid out.
    let text = format!(
        "//! Moved down.\n\n{}",
        CACHE.replace("(at);", "(\n            at,\n        );")
    );
    write("src/cache.rs", &text.replace("at,\n", "at\n"));
    step("layout", "src/cache.rs Cache::get");
    let text = CACHE.replace("get(at);", "get(at + 1);");
    write("src/cache.rs", &text);
    step("edit", "src/cache.rs Cache::get changed");
    let text = text.replace("fn get", "fn fetch");
    write("src/cache.rs", &text);
    step("rename it", "src/cache.rs Cache::fetch changed");
    repo.git(&["mv", "src/cache.rs", "src/store.rs"]);
    step("rename its file", "src/store.rs Cache::fetch changed");
    repo.git(&["mv", "src/store.rs", "src/stored.rs"]);
    let edited = text.replace("get(at + 1);", "get(at + 2);");
    write("src/stored.rs", &edited);
    step(
        "rename its file and edit it",
        "src/stored.rs Cache::fetch changed",
    );
    let (before, rest) = edited.split_once("    /// The one").unwrap();
    let (method, rest) = rest.split_once("\n\n").unwrap();
    let method = format!("    /// The one{method}\n");
    let without = format!("{before}{rest}");
    write("src/stored.rs", &without);
    let other = format!("pub fn other() {{}}\n\nimpl Cache {{\n{method}}}\n");
    write("src/other.rs", &other);
    step("move it", "src/other.rs Cache::fetch changed");
    write("src/other.rs", "pub fn other() {}\n");
    step("delete it", "src/other.rs Cache::fetch changed orphaned");
    write("src/other.rs", "pub fn another() {}\n");
    step(
        "while it is gone",
        "src/other.rs Cache::fetch changed orphaned",
    );
    write("src/other.rs", &other.replace("at + 2", "at"));
    step("bring it back as it was", "src/other.rs Cache::fetch");

    for round in 0..2 {
        for (state, then) in expected.iter().rev() {
            let found = at(&channel, id, state).await;
            assert_eq!(seen(&found), *then, "{round}: at {}", hex(state));
            assert_eq!(found.opened_on, place("src/cache.rs", "Cache::get"));
        }
    }
    // Opened on the newest state, and looked at from older ones, it goes back the same way.
    let back = open(&channel, opening("src/other.rs", "Cache::fetch"))
        .await
        .unwrap();
    let there = |number: usize| expected[number].0.clone();
    assert_eq!(
        seen(&at(&channel, &back.id, &there(6)).await),
        "src/other.rs Cache::fetch changed"
    );
    let found = at(&channel, &back.id, &there(5)).await;
    assert_eq!(seen(&found), "src/stored.rs Cache::fetch changed");
}

#[tokio::test]
async fn captures_and_branches_are_states_like_others() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.py"), "def f():\n    return 1\n").unwrap();
    let base = commit(&repo, "base");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("a.py"), "def f():\n    return 2\n").unwrap();
    captured(&channel, "").await;
    let discussion = open(&channel, opening("a.py", "f")).await.unwrap();
    let id = &discussion.id;
    assert_ne!(discussion.opened_against_state, base);
    assert_eq!(seen(&at(&channel, id, &base).await), "a.py f changed");
    // The commit stands beside the capture, and not upon it.
    let committed = commit(&repo, "the same");
    assert_eq!(seen(&at(&channel, id, &committed).await), "a.py f");
    repo.git(&["checkout", "-q", "--orphan", "elsewhere"]);
    fs::rename(repo.path("a.py"), repo.path("b.py")).unwrap();
    let elsewhere = commit(&repo, "without a common history");
    assert_eq!(seen(&at(&channel, id, &elsewhere).await), "b.py f");
}

#[tokio::test]
async fn a_file_is_an_anchor_as_well() {
    let repo = TestRepo::new();
    fs::write(repo.path("notes.txt"), "one\ntwo\nthree\n").unwrap();
    commit(&repo, "notes");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let discussion = open(&channel, opening("notes.txt", "")).await.unwrap();
    repo.git(&["mv", "notes.txt", "NOTES"]);
    let moved = commit(&repo, "move");
    assert_eq!(seen(&at(&channel, &discussion.id, &moved).await), "NOTES ");
    fs::write(repo.path("NOTES"), "one\ntwo\nthree\nfour\n").unwrap();
    let changed = commit(&repo, "change");
    assert_eq!(
        seen(&at(&channel, &discussion.id, &changed).await),
        "NOTES  changed"
    );
}

#[tokio::test]
async fn listings_have_what_the_status_and_the_symbol_say() {
    let repo = TestRepo::new();
    fs::write(
        repo.path("a.go"),
        "package a\n\nfunc F() {}\n\nfunc G() { F() }\n",
    )
    .unwrap();
    commit(&repo, "a");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    assert!(listed(&channel, "").await.is_empty());
    let mut ids = Vec::new();
    for symbol in ["F", "G", "G"] {
        ids.push(open(&channel, opening("a.go", symbol)).await.unwrap().id);
    }
    settle(&channel, &ids[2], dismissed("no matter"))
        .await
        .unwrap();
    fs::write(repo.path("a.go"), "package a\n\nfunc Moved() {}\n").unwrap();
    commit(&repo, "b");
    assert_eq!(listed(&channel, "all").await, ids);
    assert_eq!(listed(&channel, "open").await, ids[..2]);
    assert_eq!(listed(&channel, "resolved").await, ids[2..]);
    assert_eq!(listed(&channel, "orphaned").await, [&*ids[1], &*ids[2]]);
    let by_symbol = async |symbol: &str| {
        let request = ListDiscussionsBySymbolRequest {
            anchor: place("a.go", symbol),
            ..Default::default()
        };
        let found = client(&channel).list_by_symbol(request).await.unwrap();
        let found = found.into_inner().discussions.into_iter();
        found.map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(by_symbol("Moved").await, ids[..1]);
    assert_eq!(by_symbol("F").await, ids[..1]);
    assert_eq!(by_symbol("G").await, ids[1..]);
    assert!(by_symbol("H").await.is_empty());
}

#[tokio::test]
async fn a_discussion_is_resolved_in_one_of_three_ways_and_for_good() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.c"), "int f(void) { return 1; }\n").unwrap();
    let state = commit(&repo, "a");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let annotation = resolve::Resolution::IntoAnnotation(resolve::ResolveIntoAnnotation {
        kind: 2,
        content: "never less than one".into(),
        tags: vec!["range".into()],
    });
    let edit = resolve::Resolution::ByEdit(resolve::ResolveByEdit {
        state_id: state.clone(),
    });
    for how in [annotation, edit, dismissed("as it should be")] {
        let id = open(&channel, opening("a.c", "f")).await.unwrap().id;
        reply(&channel, &id, "because").await.unwrap();
        let resolved = settle(&channel, &id, how.clone()).await.unwrap();
        match (
            resolved
                .resolution
                .as_ref()
                .unwrap()
                .state
                .as_ref()
                .unwrap(),
            &how,
        ) {
            (State::IntoAnnotation(into), resolve::Resolution::IntoAnnotation(_)) => {
                assert_eq!(into.annotation_id, resolved.resolved_annotation_id);
                Uuid::try_parse(&into.annotation_id).unwrap();
            }
            (State::ByEdit(by), resolve::Resolution::ByEdit(_)) => assert_eq!(by.state_id, state),
            (State::Dismissed(why), resolve::Resolution::Dismissed(_)) => {
                assert_eq!(why.reason, "as it should be");
            }
            (other, _) => panic!("{other:?}"),
        }
        let again = settle(&channel, &id, how).await.unwrap_err();
        assert_refused(&again, Code::FailedPrecondition, Reason::DiscussionResolved);
        let late = reply(&channel, &id, "but").await.unwrap_err();
        assert_refused(&late, Code::FailedPrecondition, Reason::DiscussionResolved);
        assert_eq!(at(&channel, &id, &[]).await, resolved);
    }
}

#[tokio::test]
async fn what_cannot_be_discussed_is_refused_with_what_is_there_instead() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.rs"), CACHE).unwrap();
    fs::write(repo.path("data.bin"), [0, 1, 2]).unwrap();
    commit(&repo, "a");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let ok = opening("a.rs", "Cache::get");
    let cases = [
        (
            Reason::AnchorUnknown,
            "anchor.symbol",
            opening("a.rs", "Cache::gets"),
        ),
        (
            Reason::AnchorUnknown,
            "anchor.symbol",
            opening("data.bin", "f"),
        ),
        (Reason::AnchorUnknown, "anchor.file", opening("b.rs", "f")),
        (Reason::PathInvalid, "anchor.file", opening("../a.rs", "f")),
        (Reason::PathInvalid, "anchor.file", opening("", "f")),
        (
            Reason::InvalidField,
            "anchor",
            OpenDiscussionRequest {
                anchor: None,
                ..ok.clone()
            },
        ),
        (
            Reason::InvalidField,
            "body",
            OpenDiscussionRequest {
                body: " \n".into(),
                ..ok.clone()
            },
        ),
        (
            Reason::InvalidField,
            "body",
            OpenDiscussionRequest {
                body: "x".repeat(1 << 20),
                ..ok.clone()
            },
        ),
        (
            Reason::InvalidField,
            "visibility",
            OpenDiscussionRequest {
                visibility: "team:".into(),
                ..ok.clone()
            },
        ),
        (
            Reason::ThreadNameInvalid,
            "thread_ref",
            OpenDiscussionRequest {
                thread_ref: "a..b".into(),
                ..ok.clone()
            },
        ),
        (
            Reason::StateUnknown,
            "state_id",
            OpenDiscussionRequest {
                state_id: vec![7; 20],
                ..ok.clone()
            },
        ),
        (
            Reason::NotAState,
            "state_id",
            OpenDiscussionRequest {
                state_id: vec![7; 5],
                ..ok.clone()
            },
        ),
    ];
    for (reason, field, request) in cases {
        let refused = open(&channel, request).await.unwrap_err();
        assert_blames(&refused, reason, field);
        assert!(refused.message().len() < 400, "{}", refused.message());
    }
    let near = open(&channel, opening("a.rs", "get")).await.unwrap_err();
    assert!(
        near.message().contains("`Cache::get`"),
        "{}",
        near.message()
    );
    assert!(listed(&channel, "").await.is_empty());

    let unknown = reply(&channel, &Uuid::new_v4().to_string(), "x")
        .await
        .unwrap_err();
    assert_refused(&unknown, Code::NotFound, Reason::DiscussionUnknown);
    let no_id = reply(&channel, "../x", "x").await.unwrap_err();
    assert_blames(&no_id, Reason::InvalidField, "discussion_id");
    let request = ListDiscussionsByStateRequest {
        status: "half".into(),
        ..Default::default()
    };
    let refused = client(&channel).list_by_state(request).await.unwrap_err();
    assert_blames(&refused, Reason::InvalidField, "status");
    let id = open(&channel, ok).await.unwrap().id;
    let request = ResolveDiscussionRequest {
        discussion_id: id.clone(),
        ..Default::default()
    };
    let refused = client(&channel)
        .resolve_discussion(request)
        .await
        .unwrap_err();
    assert_blames(&refused, Reason::InvalidField, "resolution");
    let unsaid = resolve::Resolution::IntoAnnotation(resolve::ResolveIntoAnnotation {
        content: "x".into(),
        ..Default::default()
    });
    let refused = settle(&channel, &id, unsaid).await.unwrap_err();
    assert_blames(&refused, Reason::InvalidField, "into_annotation.kind");
    let refused = settle(&channel, &id, dismissed("")).await.unwrap_err();
    assert_blames(&refused, Reason::InvalidField, "dismissed.reason");
}

#[tokio::test]
async fn g8_a_discussion_that_is_full_takes_no_more() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.rs"), CACHE).unwrap();
    commit(&repo, "a");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let id = open(&channel, opening("a.rs", "Cache")).await.unwrap().id;
    let page = "x".repeat(64 * 1024);
    for _ in 0..15 {
        reply(&channel, &id, &page).await.unwrap();
    }
    let refused = reply(&channel, &id, &page).await.unwrap_err();
    assert_refused(&refused, Code::ResourceExhausted, Reason::DiscussionFull);
    assert_eq!(at(&channel, &id, &[]).await.turns.len(), 16);
}

#[tokio::test]
async fn g3_writers_at_once_lose_nothing_and_a_retry_says_nothing_twice() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.rs"), CACHE).unwrap();
    commit(&repo, "a");
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let id = open(&channel, opening("a.rs", "Cache")).await.unwrap().id;
    let mut said = vec!["why?".to_owned()];
    let mut writers = Vec::new();
    for writer in 0..8 {
        let (channel, id) = (channel.clone(), id.clone());
        said.extend((0..8).map(|turn| format!("{writer} {turn}")));
        writers.push(tokio::spawn(async move {
            for turn in 0..8 {
                let request = AppendTurnRequest {
                    discussion_id: id.clone(),
                    body: format!("{writer} {turn}"),
                    client_operation_id: Uuid::new_v4().to_string(),
                    ..Default::default()
                };
                let mut client = client(&channel);
                let first = client.append_turn(request.clone()).await.unwrap();
                let again = client.append_turn(request).await.unwrap();
                assert_eq!(first.into_inner(), again.into_inner());
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    drop(channel);
    daemon.crash();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let turns = at(&channel, &id, &[]).await.turns;
    let mut found: Vec<_> = turns.into_iter().map(|turn| turn.body).collect();
    found.sort();
    said.sort();
    assert_eq!(found, said);
    let query = QueryOperationsRequest {
        symbol: "Cache".into(),
        ..Default::default()
    };
    let hits = operations(&channel, query).await;
    let verbs: Vec<_> = hits.iter().map(|hit| &*hit.verb).collect();
    assert_eq!(verbs.len(), 65);
    assert_eq!(
        (verbs[0], verbs[1]),
        ("discussion_open", "discussion_append")
    );
}

#[tokio::test]
async fn a_transaction_opens_replies_to_and_resolves_at_its_commit() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.rs"), CACHE).unwrap();
    commit(&repo, "a");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut transactions = TransactionServiceClient::new(channel.clone());
    let begun = transactions.begin_transaction(BeginTransactionRequest::default());
    let transaction = begun.await.unwrap().into_inner().transaction_id;
    macro_rules! within {
        ($method:ident, $message:expr) => {{
            let mut request = Request::new($message);
            let id = transaction.parse().unwrap();
            request.metadata_mut().insert("heddle-transaction-id", id);
            client(&channel)
                .$method(request)
                .await
                .unwrap()
                .into_inner()
        }};
    }
    let id = within!(open_discussion, opening("a.rs", "Cache::put")).id;
    let append = AppendTurnRequest {
        discussion_id: id.clone(),
        body: "therefore".into(),
        ..Default::default()
    };
    assert_eq!(within!(append_turn, append).turns.len(), 2);
    let resolve = ResolveDiscussionRequest {
        discussion_id: id.clone(),
        resolution: Some(dismissed("settled")),
        ..Default::default()
    };
    let promised = within!(resolve_discussion, resolve);
    assert!(listed(&channel, "").await.is_empty());
    let commit = CommitTransactionRequest {
        transaction_id: transaction,
        ..Default::default()
    };
    transactions.commit_transaction(commit).await.unwrap();
    assert_eq!(at(&channel, &id, &[]).await, promised);
}

#[tokio::test]
async fn a_discussed_state_outlives_its_chain() {
    let repo = TestRepo::new();
    fs::write(repo.path("a.rs"), CACHE).unwrap();
    commit(&repo, "a");
    fs::create_dir_all(repo.store_dir()).unwrap();
    fs::write(
        repo.store_dir().join("config.toml"),
        "[captures]\nkeep_chains = 0\nkeep_days = 0\n",
    )
    .unwrap();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut states = Vec::new();
    for number in 0..2 {
        fs::write(repo.path("b.rs"), format!("fn b() {{ {number} }}\n")).unwrap();
        states.push(captured(&channel, "").await);
        if number == 0 {
            open(&channel, opening("b.rs", "b")).await.unwrap();
        }
        commit(&repo, "ends the chain");
    }
    fs::write(repo.path("b.rs"), "").unwrap();
    captured(&channel, "").await;
    repo.heddle(["gc"]).ok();
    let kept = repo.git(&["for-each-ref", "--format=%(objectname)", "refs/heddle/kept"]);
    assert_eq!(kept.lines().collect::<Vec<_>>(), [&*states[0]]);
}
