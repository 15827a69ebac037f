//! What must hold before a state is merged, as `config.toml` has it; who may sign what; and the
//! discussions on the page of a review.

use std::fs;

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        ReviewKind, ReviewPayload, resolve_discussion_request as resolve,
    },
};
use nix::sys::signal::Signal;
use tonic::{Request, transport::Channel};

use crate::{
    discussions::{CACHE, commit, dismissed, open, opening, settle},
    harness::{Daemon, TestRepo},
    review_page::{page, page_of},
    rpc::assert_blames,
    signing::{Draft, Key, reviews},
};

pub fn require(repo: &TestRepo, lines: &str) {
    fs::create_dir_all(repo.store_dir()).unwrap();
    let text = format!("[review]\nrequired = [{lines}]\n");
    fs::write(repo.store_dir().join("config.toml"), text).unwrap();
}

/// A repository with a change of two files, in which so much is required.
fn with_change(lines: &str) -> (TestRepo, Vec<u8>) {
    let repo = TestRepo::new();
    require(&repo, lines);
    fs::write(repo.path("cache.rs"), CACHE).unwrap();
    fs::write(repo.path("README"), "about the cache\n").unwrap();
    let state = commit(&repo, "a cache");
    (repo, state)
}

/// Signs as somebody.
async fn by(channel: &Channel, who: &str, draft: &Draft, key: &Key, agent: bool) {
    let mut client = reviews(channel);
    fn named<R>(request: R, who: &str, agent: bool) -> Request<R> {
        let mut request = Request::new(request);
        let metadata = request.metadata_mut();
        metadata.insert("heddle-actor-name", who.parse().unwrap());
        let email = format!("{who}@example.com");
        metadata.insert("heddle-actor-email", email.parse().unwrap());
        if agent {
            metadata.insert("heddle-agent", "maker/model".parse().unwrap());
        }
        request
    }
    match draft.word {
        "sign" | "hold" | "reject" => {
            let request = named(draft.judged(key), who, agent);
            client.record_verdict(request).await.unwrap();
        }
        "file_reviewed" | "risk_signal_ack" => {
            let request = named(draft.checked(key), who, agent);
            client.record_check_ack(request).await.unwrap();
        }
        _ => {
            let request = named(draft.signed(key), who, agent);
            client.sign_state(request).await.unwrap();
        }
    }
}

async fn says(channel: &Channel, who: &str, word: &'static str, state: &[u8], key: &Key) {
    let draft = Draft {
        word,
        ..Draft::read(state)
    };
    by(channel, who, &draft, key, false).await;
}

/// What is required: `+` where it holds, `-` where not, and how that is known.
fn required(page: &ReviewPayload) -> Vec<String> {
    let all = page.merge_requirements.iter();
    all.map(|it| format!("{}{}", if it.satisfied { '+' } else { '-' }, it.description))
        .collect()
}

#[tokio::test]
async fn reviews_count_by_people_and_not_by_keys_or_names() {
    let (repo, state) = with_change("\"2 read\", \"1 agent_preview\"");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let wanted = async |reads: &str, previews: &str| {
        let found = required(&page(&channel, &state).await);
        let wanted = [
            format!(
                "{} signatures of kind read for the whole change, by different people: {} so far",
                &reads[..2],
                &reads[3..]
            ),
            format!(
                "{} signature of kind agent_preview for the whole change: {} so far",
                &previews[..2],
                &previews[3..]
            ),
        ];
        assert_eq!(found, wanted);
    };
    wanted("-2 none", "-1 none").await;
    let (one, other, third) = (Key::ed25519(), Key::p256(true), Key::ed25519());
    // Of part of the change, and of another state.
    let part = Draft {
        symbols: Some(vec![("cache.rs", "Cache")]),
        ..Draft::read(&state)
    };
    by(&channel, "ada", &part, &one, false).await;
    let before = page(&channel, &state).await.parent_state;
    says(&channel, "eve", "read", &before, &third).await;
    wanted("-2 none", "-1 none").await;
    says(&channel, "ada", "read", &state, &one).await;
    wanted("-2 1", "-1 none").await;
    // The same person with another key, and the same key under another name.
    says(&channel, "Ada", "read", &state, &other).await;
    says(&channel, "bob", "read", &state, &other).await;
    wanted("-2 1", "-1 none").await;
    says(&channel, "eve", "read", &state, &third).await;
    says(&channel, "eve", "agent_preview", &state, &third).await;
    wanted("+2 2", "+1 1").await;
    // Who turns out to be two of them is one.
    says(&channel, "eve", "read", &state, &one).await;
    wanted("-2 1", "+1 1").await;
}

#[tokio::test]
async fn a_key_is_the_same_whether_ssh_wraps_it_or_not() {
    let (repo, state) = with_change("\"2 read\"");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let ssh = Key::ssh(&repo.around(), "id");
    says(&channel, "ada", "read", &state, &ssh).await;
    says(&channel, "bob", "read", &state, &ssh).await;
    let found = required(&page(&channel, &state).await);
    assert!(found[0].ends_with(": 1 so far"), "{found:?}");
}

#[tokio::test]
async fn the_last_verdict_of_each_counts() {
    let (repo, state) = with_change("\"1 sign\", \"no hold or reject\"");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let wanted = async |signs: &str, others: &str| {
        let found = required(&page(&channel, &state).await);
        let wanted = [
            format!(
                "{} verdict of kind sign for the whole change: {} so far",
                &signs[..2],
                &signs[3..]
            ),
            format!(
                "{}no verdict of hold or reject: {} so far",
                &others[..1],
                &others[1..]
            ),
        ];
        assert_eq!(found, wanted);
    };
    let (one, other) = (Key::ed25519(), Key::ed25519());
    wanted("-1 none", "+0 hold, 0 reject").await;
    says(&channel, "ada", "sign", &state, &one).await;
    wanted("+1 1", "+0 hold, 0 reject").await;
    let part = Draft {
        word: "hold",
        symbols: Some(vec![("cache.rs", "Cache")]),
        ..Draft::read(&state)
    };
    by(&channel, "bob", &part, &other, false).await;
    says(&channel, "bob", "reject", &state, &other).await;
    says(&channel, "ada", "hold", &state, &one).await;
    wanted("-1 none", "-1 hold, 1 reject").await;
    says(&channel, "ada", "sign", &state, &one).await;
    wanted("+1 1", "-0 hold, 1 reject").await;
    says(&channel, "bob", "sign", &state, &other).await;
    wanted("+1 2", "+0 hold, 0 reject").await;
    by(&channel, "bob", &part, &other, false).await;
    wanted("+1 2", "-1 hold, 0 reject").await;
}

#[tokio::test]
async fn every_file_is_to_be_ticked_off_and_a_tick_can_be_taken_back() {
    let (repo, state) = with_change("\"every file reviewed\", \"every signal acknowledged\"");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let key = Key::ed25519();
    let tick = async |file: &str, acked: bool| {
        let draft = Draft {
            word: "file_reviewed",
            text: file.into(),
            acked,
            ..Draft::read(&state)
        };
        by(&channel, "ada", &draft, &key, false).await;
        required(&page(&channel, &state).await)[0].clone()
    };
    let text =
        |mark: &str, read: u8| format!("{mark}every changed file reviewed: {read} of 2 so far");
    assert_eq!(tick("cache.rs", true).await, text("-", 1));
    assert_eq!(tick("elsewhere", true).await, text("-", 1));
    assert_eq!(tick("README", true).await, text("+", 2));
    assert_eq!(tick("cache.rs", false).await, text("-", 1));
}

#[tokio::test]
async fn an_open_discussion_is_on_the_page_until_it_is_settled_wherever_its_symbol_goes() {
    let (repo, state) = with_change("\"no open discussion\"");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let seen = async |state: &[u8]| {
        let page = page(&channel, state).await;
        let found = page.discussions.iter().map(|it| {
            let anchor = it.anchor.as_ref().unwrap();
            let marks = [
                (it.body_changed_since_open, " changed"),
                (it.orphaned, " orphaned"),
            ];
            let marks = marks.iter().filter(|it| it.0).map(|it| it.1);
            format!(
                "{}:{}{}",
                anchor.file,
                anchor.symbol,
                marks.collect::<String>()
            )
        });
        (found.collect::<Vec<_>>(), required(&page).remove(0))
    };
    let none = || (vec![], "+no open discussion: none is open".to_owned());
    let open_ones = |found: &[&str]| {
        let all = found.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let count = all.len();
        (all, format!("-no open discussion: {count} so far"))
    };
    assert_eq!(seen(&state).await, none());
    let get = open(&channel, opening("cache.rs", "Cache::get"))
        .await
        .unwrap();
    let put = open(&channel, opening("cache.rs", "Cache::put"))
        .await
        .unwrap();
    let both = open_ones(&["cache.rs:Cache::get", "cache.rs:Cache::put"]);
    assert_eq!(seen(&state).await, both);

    // One is settled; the other changes, and goes with its file.
    settle(&channel, &put.id, dismissed("fine")).await.unwrap();
    fs::remove_file(repo.path("cache.rs")).unwrap();
    fs::write(
        repo.path("store.rs"),
        CACHE.replace("found.copied()", "found.map(|it| *it)"),
    )
    .unwrap();
    let moved = commit(&repo, "move it");
    let (found, open) = seen(&moved).await;
    assert!(
        found.contains(&"store.rs:Cache::get changed".to_owned()),
        "{found:?}"
    );
    assert_eq!(open, "-no open discussion: 1 so far");
    // Settled ones are on the page of the state that they were opened against.
    assert_eq!(seen(&state).await.0.len(), 2);

    // Whoever deletes the symbol does not get rid of what was asked about it.
    fs::write(repo.path("store.rs"), "pub struct Cache;\n").unwrap();
    commit(&repo, "drop it");
    fs::write(repo.path("README"), "something else\n").unwrap();
    let later = commit(&repo, "something else");
    assert_eq!(
        seen(&later).await,
        open_ones(&["store.rs:Cache::get changed orphaned"]).clone()
    );

    // On a line of work that never had it, nobody is asked about it.
    let before = page(&channel, &state).await.parent_state;
    assert_eq!(seen(&before).await, none());

    let by_edit = resolve::Resolution::ByEdit(resolve::ResolveByEdit {
        state_id: later.clone(),
    });
    settle(&channel, &get.id, by_edit).await.unwrap();
    let (found, open) = seen(&later).await;
    assert_eq!(
        (found.len(), open.as_str()),
        (1, "+no open discussion: none is open")
    );
}

#[tokio::test]
async fn nothing_is_required_where_nothing_says_so_and_it_is_read_again_on_sighup() {
    let (repo, state) = with_change("");
    let daemon = repo.serve();
    let channel = repo.channel().await;
    assert_eq!(required(&page(&channel, &state).await), [""; 0]);
    let read_again = |daemon: &Daemon| {
        daemon.signal(Signal::SIGHUP);
    };
    require(&repo, "\"no  open discussion\", \"3 agent_co_review\"");
    read_again(&daemon);
    daemon.wait_for_line("read config.toml again");
    let found = required(&page(&channel, &state).await);
    assert_eq!(found.len(), 2);
    assert!(
        found[1].starts_with("-3 signatures of kind agent_co_review"),
        "{found:?}"
    );
    require(&repo, "\"two reads\"");
    read_again(&daemon);
    let line = daemon.wait_for_line("the old settings stay");
    assert!(line.contains("config.toml"), "{line}");
    assert_eq!(required(&page(&channel, &state).await), found);
}

#[test]
fn what_cannot_be_required_is_refused_with_what_can() {
    for wrong in [
        "\"0 read\"",
        "\"2 look\"",
        "\"no discussion\"",
        "\"101 sign\"",
        "\"\"",
        "1",
    ] {
        let (repo, _) = with_change(wrong);
        let refused = repo.heddle(["agent", "serve"]).fails_with(1);
        assert!(refused.contains("config.toml"), "{refused}");
        if wrong != "1" {
            assert!(refused.contains("`no open discussion`"), "{refused}");
        }
    }
}

#[tokio::test]
async fn an_agent_may_not_say_that_a_person_read_it() {
    let (repo, state) = with_change("");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let kinds = |page: &ReviewPayload| {
        let footer = page.signing_footer.as_ref().unwrap();
        footer.available_kinds().collect::<Vec<_>>()
    };
    let all = [
        ReviewKind::Read,
        ReviewKind::AgentPreview,
        ReviewKind::AgentCoReview,
    ];
    assert_eq!(kinds(&page_of(&channel, &state).await.unwrap()), all);
    let mut request = Request::new(Default::default());
    request
        .metadata_mut()
        .insert("heddle-agent", "maker/model".parse().unwrap());
    let page = reviews(&channel).get_review_payload(request).await.unwrap();
    assert_eq!(kinds(&page.into_inner()), all[1..]);

    let key = Key::ed25519();
    let preview = Draft {
        word: "agent_preview",
        ..Draft::read(&state)
    };
    by(&channel, "ada", &preview, &key, true).await;
    let mut request = Request::new(Draft::read(&state).signed(&key));
    request
        .metadata_mut()
        .insert("heddle-agent", "maker/model".parse().unwrap());
    let refused = reviews(&channel).sign_state(request).await.unwrap_err();
    assert_blames(&refused, Reason::InvalidField, "kind");
}
