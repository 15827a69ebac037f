//! Signals of what changed near an annotation, wherever that went, and of states of every shape.

use std::fs;

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        ComputeStateSignalsRequest, resolve_discussion_request as resolve,
    },
};
use tonic::{Code, transport::Channel};

use crate::{
    discussions::{commit, open, opening, settle},
    rpc::{assert_blames, assert_refused},
    signals::{CACHE, FILE, Scene, client, compute, of_kind, places, write},
};

/// Lets an annotation be made on a symbol.
pub async fn annotate(channel: &Channel, symbol: &str, kind: i32, content: &str) {
    let discussion = open(channel, opening(FILE, symbol)).await.unwrap();
    let into = resolve::ResolveIntoAnnotation {
        kind,
        content: content.into(),
        tags: Vec::new(),
    };
    let how = resolve::Resolution::IntoAnnotation(into);
    settle(channel, &discussion.id, how).await.unwrap();
}

#[tokio::test]
async fn invariant_adjacency_is_what_changed_near_an_annotation() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    annotate(&scene.channel, "Cache::push", 2, "rows are never dropped").await;
    let near = async |text: &str, files: &[(&str, &str)]| {
        let files: Vec<_> = files.iter().copied().chain([(FILE, text)]).collect();
        let found = scene.signals(&files, "").await;
        of_kind(&found, "invariant_adjacency")
    };
    // Itself; then what calls it; then what lies beside it; then what has nothing to do with it.
    let changed = CACHE.replace("rows.push(row);", "rows.clear();\n        rows.push(row);");
    let found = near(&changed, &[]).await;
    assert_eq!(
        places(&found),
        ["invariant_adjacency src/cache.rs:Cache::push 18-22"]
    );
    for said in ["its body changed", "“rows are never dropped”", "invariant"] {
        assert!(found[0].reason.contains(said), "{}", found[0].reason);
    }
    let caller = "pub fn fill(cache: &Cache) {\n    cache.push(2);\n}\n";
    let found = near(&changed, &[("src/fill.rs", caller)]).await;
    assert_eq!(places(&found), ["invariant_adjacency src/fill.rs:fill 1-3"]);
    assert!(found[0].reason.contains("which calls it"), "{found:?}");
    let beside = changed.replace("rows.last().copied()", "rows.last().cloned()");
    let found = near(&beside, &[]).await;
    assert_eq!(
        places(&found),
        ["invariant_adjacency src/cache.rs:Cache::last 13-16"]
    );
    let other = "pub fn other(stack: &mut Stack) {\n    stack.push(2);\n}\n";
    let found = near(&beside, &[("src/other.rs", other)]).await;
    assert_eq!(places(&found), [""; 0]);
    // Where it went, and where it is gone.
    fs::rename(scene.repo.path(FILE), scene.repo.path("src/rows.rs")).unwrap();
    scene.capture(&[], "").await;
    let edited = beside.replace("rows.clear();", "rows.truncate(1);");
    let found = scene.signals(&[("src/rows.rs", &edited)], "").await;
    assert_eq!(
        places(&of_kind(&found, "invariant_adjacency")),
        ["invariant_adjacency src/rows.rs:Cache::push 18-22"]
    );
    let (before, rest) = edited.split_once("    pub fn push").unwrap();
    let rest = rest.split_once("    pub fn sort").unwrap().1;
    let without = format!("{before}    pub fn sort{rest}");
    let found = scene.signals(&[("src/rows.rs", &without)], "").await;
    let found = of_kind(&found, "invariant_adjacency");
    assert_eq!(
        places(&found),
        ["invariant_adjacency src/rows.rs:Cache::push"]
    );
    assert!(found[0].reason.contains("removed"), "{found:?}");
}

#[tokio::test]
async fn a_rationale_holds_nothing_and_raises_nothing() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    annotate(&scene.channel, "Cache::push", 3, "it was asked for").await;
    let changed = CACHE.replace("rows.push(row);", "rows.push(row + 1);");
    let found = scene.signals(&[(FILE, &changed)], "").await;
    assert_eq!(places(&of_kind(&found, "invariant_adjacency")), [""; 0]);
}

#[tokio::test]
async fn states_without_a_parent_merges_and_other_priors_have_their_signals() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let repo = &scene.repo;
    // Against nothing, all of it is new: that no test reaches some of it is all there is to say.
    let unreached = "pub fn lonely() {\n    work();\n}\n";
    repo.git(&["checkout", "-q", "--orphan", "alone"]);
    write(repo, &[("src/lonely.rs", unreached)]);
    let root = commit(repo, "self-flag: a root");
    let found = places(&scene.of(&root).await);
    assert_eq!(
        found,
        [
            "self_flagged_uncertainty ",
            "test_reachability src/lonely.rs:lonely 1-3"
        ]
    );
    // The current state, and the same compared with itself.
    let current = compute(&scene.channel, &[], &[]).await.unwrap();
    assert_eq!(places(&current.signals), found);
    let same = compute(&scene.channel, &root, &root).await.unwrap();
    assert_eq!(places(&same.signals), ["self_flagged_uncertainty "]);
    // A merge brings in what its first parent does not have.
    repo.git(&["checkout", "-q", "main"]);
    write(repo, &[("more.txt", "more")]);
    let base = commit(repo, "more");
    let merge = [
        "merge",
        "-q",
        "--no-commit",
        "--allow-unrelated-histories",
        "alone",
    ];
    repo.git(&merge);
    let merge = commit(repo, "both");
    assert_eq!(
        places(&scene.of(&merge).await),
        ["test_reachability src/lonely.rs:lonely 1-3"]
    );
    let other = compute(&scene.channel, &merge, &root).await.unwrap();
    assert_eq!(places(&other.signals), [""; 0]);
    let back = compute(&scene.channel, &base, &merge).await.unwrap();
    assert_eq!(places(&back.signals), [""; 0]);
    for (state, prior, reason, field) in [
        (vec![7; 20], vec![], Reason::StateUnknown, "state_id"),
        (merge, vec![7; 20], Reason::StateUnknown, "prior_state_id"),
        (vec![1; 3], vec![], Reason::NotAState, "state_id"),
    ] {
        let status = compute(&scene.channel, &state, &prior).await.unwrap_err();
        assert_blames(&status, reason, field);
    }
    let request = ComputeStateSignalsRequest {
        repo_path: "/elsewhere".into(),
        ..Default::default()
    };
    let status = client(&scene.channel).compute_state_signals(request).await;
    let status = status.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::RepositoryMismatch);
}

#[tokio::test]
async fn invariant_adjacency_of_a_type_is_what_changed_in_it() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    annotate(&scene.channel, "Cache", 2, "rows stay sorted").await;
    let changed = CACHE.replace("rows.push(row);", "rows.clear();\n        rows.push(row);");
    let found = scene.signals(&[(FILE, &changed)], "").await;
    let found = of_kind(&found, "invariant_adjacency");
    assert_eq!(
        places(&found),
        ["invariant_adjacency src/cache.rs:Cache::push 18-22"]
    );
    assert!(found[0].reason.contains("changed in it"), "{found:?}");
}
