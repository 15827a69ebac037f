//! What becomes of a capture's signals after it was answered: they are kept, added to the operation
//! log, streamed, told to hooks and counted.

use std::fs;

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        GetRepoSignalHealthRequest, OperationHit, QueryOperationsRequest, RepoSignalHealthReport,
        SignalUpdate, StreamOperationsRequest, SubscribeSignalUpdatesRequest,
    },
};
use nix::sys::signal::Signal;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::{
    harness::{DEADLINE, eventually},
    listening::{gate, listen, next as next_event, on, payload, register},
    rpc::{assert_blames, log, operations},
    signals::{CACHE, FILE, Scene, client, places},
    states::hex,
};

/// A method that no test reaches, of this name.
pub fn with(name: &str) -> String {
    let method =
        format!("    pub fn {name}(&self) {{\n        self.rows.lock().{name}_all();\n    }}\n\n");
    CACHE.replace("    pub fn sort", &format!("{method}    pub fn sort"))
}

pub async fn subscribe(channel: &Channel) -> Streaming<SignalUpdate> {
    let request = SubscribeSignalUpdatesRequest::default();
    let answer = client(channel).subscribe_signal_updates(request).await;
    answer.unwrap().into_inner()
}

/// The next of a stream, which must come.
pub async fn next<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let next = tokio::time::timeout(DEADLINE, stream.message()).await;
    Ok(next.expect("nothing came")?.expect("the stream ended"))
}

pub async fn by(channel: &Channel, query: QueryOperationsRequest) -> Streaming<OperationHit> {
    let request = StreamOperationsRequest {
        query: Some(query),
        ..Default::default()
    };
    log(channel)
        .stream_operations(request)
        .await
        .unwrap()
        .into_inner()
}

pub fn symbol(symbol: &str) -> QueryOperationsRequest {
    QueryOperationsRequest {
        symbol: symbol.into(),
        ..Default::default()
    }
}

fn kind(kind: &str) -> QueryOperationsRequest {
    QueryOperationsRequest {
        signal_kind: kind.into(),
        ..Default::default()
    }
}

async fn health(channel: &Channel, window: u32) -> Result<RepoSignalHealthReport, Status> {
    let request = GetRepoSignalHealthRequest {
        window_states: window,
        ..Default::default()
    };
    Ok(client(channel)
        .get_repo_signal_health(request)
        .await?
        .into_inner())
}

#[tokio::test]
async fn a_stream_delivers_the_signals_of_each_capture_from_then_on() {
    let mut scene = Scene::with(&[(FILE, CACHE)]).await;
    let mut early = subscribe(&scene.channel).await;
    scene.capture(&[("a.txt", "before")], "").await;
    next(&mut early).await.unwrap();
    let mut stream = subscribe(&scene.channel).await;
    let state = scene
        .capture(&[(FILE, &with("swap"))], "self-flag: odd")
        .await;
    let update = next(&mut stream).await.unwrap();
    assert_eq!(update.state_id, state);
    assert_eq!(
        places(&update.signals),
        [
            "self_flagged_uncertainty ",
            "test_reachability src/cache.rs:Cache::swap 23-25"
        ]
    );
    assert!(update.signals[0].computed_at.is_some());
    // One without a signal is told of as well; what changes nothing is no capture.
    let quiet = scene.capture(&[("a.txt", "a")], "").await;
    scene.capture(&[], "").await;
    let update = next(&mut stream).await.unwrap();
    assert_eq!((update.state_id, update.signals.len()), (quiet, 0));
    // A slow one lags, and gets everything.
    let mut states = Vec::new();
    for n in 0..30 {
        states.push(scene.capture(&[("a.txt", &format!("{n}"))], "").await);
    }
    for state in states {
        assert_eq!(next(&mut stream).await.unwrap().state_id, state);
    }
    scene.daemon.signal(Signal::SIGTERM);
    let ended = next(&mut stream).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(scene.daemon.wait().success());
}

#[tokio::test]
async fn a_stream_that_filters_waits_until_the_symbols_and_signals_of_a_capture_are_known() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let channel = &scene.channel;
    let mut streams = Vec::new();
    for query in [
        symbol("Cache::swap"),
        symbol("src/cache.rs:Cache::swap"),
        kind("test_reachability"),
    ] {
        streams.push(by(channel, query).await);
    }
    let state = scene.capture(&[(FILE, &with("swap"))], "").await;
    // Others, which they pass over.
    scene.capture(&[("a.txt", "a")], "").await;
    for stream in &mut streams {
        let hit = next(stream).await.unwrap();
        assert_eq!(hit.state_id, state);
        assert_eq!(hit.symbols, ["src/cache.rs:Cache::swap"]);
        assert_eq!(hit.signal_kinds, ["test_reachability"]);
    }
    for query in [symbol("Cache::swap"), kind("test_reachability")] {
        let found = operations(channel, query).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].state_id, state);
    }
    let again = scene.capture(&[(FILE, CACHE)], "").await;
    for stream in &mut streams[..2] {
        assert_eq!(
            next(stream).await.unwrap().state_id,
            again,
            "it was removed"
        );
    }
}

#[tokio::test]
async fn hooks_are_told_of_the_visible_signals_of_a_capture() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let told = scene.repo.around().join("told");
    let command = format!("cat >> {0}; echo >> {0}", told.display());
    register(&scene.channel, on("note", &command, &["on_signal"])).await;
    let mut events = listen(&scene.channel, &["on_signal"]).await;
    let intent = "self-flag: one\nself-flag: `Cache::swap` two\nself-flag: `Cache::swap` three";
    let state = scene.capture(&[(FILE, &with("swap"))], intent).await;
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let event = payload(&next_event(&mut events).await);
        assert_eq!(event["state_id"], hex(&state));
        assert!(
            event["reason"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        kinds.push((event["signal_kind"].clone(), event["anchor"].clone()));
    }
    let flag = "self_flagged_uncertainty";
    assert_eq!(kinds[0], (flag.into(), serde_json::json!({})));
    let place = serde_json::json!({
        "file": FILE, "symbol": "Cache::swap", "start_line": 23, "end_line": 25
    });
    assert_eq!(kinds[1], (flag.into(), place));
    // The third of them is hidden, and so is that no test reaches it.
    let lines = || {
        fs::read_to_string(&told)
            .unwrap_or_default()
            .lines()
            .count()
    };
    eventually("two are told", || (lines() == 2).then_some(()));
    let other = scene.capture(&[(FILE, &with("other"))], "").await;
    let event = payload(&next_event(&mut events).await);
    assert_eq!(event["state_id"], hex(&other));
    assert_eq!(event["signal_kind"], "test_reachability");
}

#[tokio::test]
async fn a_hook_that_captures_whenever_it_is_told_of_a_signal_does_not_go_on_for_ever() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let heddle = env!("CARGO_BIN_EXE_heddle");
    let command = format!("echo x >> more.txt; {heddle} capture -m 'self-flag: again'");
    register(&scene.channel, on("again", &command, &["on_signal"])).await;
    let mut updates = subscribe(&scene.channel).await;
    scene.capture(&[], "").await;
    scene.capture(&[("a.txt", "a")], "self-flag: once").await;
    // Four hooks may be inside one another: a capture for each, after the first.
    for _ in 0..5 {
        let update = next(&mut updates).await.unwrap();
        assert_eq!(update.signals.len(), 1);
    }
    scene.capture(&[("a.txt", "b")], "").await;
    let update = next(&mut updates).await.unwrap();
    assert_eq!(update.signals.len(), 0, "one hook too many was told");
}

#[tokio::test]
async fn signals_of_hooks_are_among_those_of_the_state() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let raise = r#"echo '{"extra_signals": [
        {"kind": "secret", "reason": "a key", "anchor": {"file": "a.txt", "start_line": 7}},
        {"kind": "novelty", "reason": "new"}]}'"#;
    register(&scene.channel, gate("scan", raise)).await;
    let mut stream = subscribe(&scene.channel).await;
    let files = [(FILE, &*with("swap")), ("a.txt", "a")];
    let state = scene.capture(&files, "").await;
    let found = scene.of(&state).await;
    // At its kind's place where it names one that is known, else after all others.
    assert_eq!(
        places(&found),
        [
            "novelty ",
            "test_reachability src/cache.rs:Cache::swap 23-25",
            "secret a.txt 7-7"
        ]
    );
    let by: Vec<_> = found.iter().map(|it| it.producer_module.as_str()).collect();
    assert_eq!(by, ["hook:scan", "test_reachability", "hook:scan"]);
    assert_eq!(found[2].reason, "a key");
    let update = next(&mut stream).await.unwrap();
    assert_eq!(places(&update.signals), places(&found));
    let hits = operations(&scene.channel, kind("secret")).await;
    assert_eq!(
        hits[0].signal_kinds,
        ["novelty", "test_reachability", "secret"]
    );
}

#[tokio::test]
async fn health_is_how_often_each_module_fired_and_warns_over_one_half() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let none = health(&scene.channel, 0).await.unwrap();
    assert_eq!((none.window_states, none.entries.len()), (0, 5));
    assert!(
        none.entries
            .iter()
            .all(|it| it.fire_rate == 0.0 && !it.warn)
    );
    let mut stream = subscribe(&scene.channel).await;
    for (text, intent) in [
        ("1", "self-flag: a"),
        ("2", "self-flag: b"),
        ("3", ""),
        ("4", "self-flag: c"),
        ("5", ""),
        ("6", ""),
    ] {
        scene.capture(&[("a.txt", text)], intent).await;
        next(&mut stream).await.unwrap();
    }
    let rate = async |window| {
        let report = health(&scene.channel, window).await.unwrap();
        let names: Vec<_> = report.entries.iter().map(|it| &*it.module_id).collect();
        assert_eq!(
            names,
            [
                "invariant_adjacency",
                "self_flagged_uncertainty",
                "pattern_deviation",
                "novelty",
                "test_reachability"
            ]
        );
        let entry = report.entries[1].clone();
        assert!(
            report
                .entries
                .iter()
                .all(|it| it.module_id == entry.module_id || !it.warn)
        );
        (report.window_states, entry.fire_rate, entry.warn)
    };
    assert_eq!(rate(0).await, (6, 0.5, false));
    assert_eq!(rate(2).await, (2, 0.0, false));
    assert_eq!(rate(1_000).await, (6, 0.5, false));
    scene.capture(&[("a.txt", "7")], "self-flag: d").await;
    next(&mut stream).await.unwrap();
    assert_eq!(rate(7).await, (7, 4.0 / 7.0, true));
    let refused = health(&scene.channel, 1_001).await.unwrap_err();
    assert_blames(&refused, Reason::InvalidField, "window_states");
}

#[tokio::test]
async fn g10_an_index_that_cannot_be_written_holds_up_no_capture_and_no_stream() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let mut updates = subscribe(&scene.channel).await;
    let mut filtered = by(&scene.channel, symbol("Cache::swap")).await;
    let index = scene.repo.store_dir().join("symbols.db");
    fs::remove_file(&index).ok();
    fs::create_dir(&index).unwrap();
    let state = scene
        .capture(&[(FILE, &with("swap"))], "self-flag: odd")
        .await;
    let update = next(&mut updates).await.unwrap();
    assert_eq!(update.state_id, state);
    assert_eq!(places(&update.signals), ["self_flagged_uncertainty "]);
    assert_eq!(next(&mut filtered).await.unwrap().state_id, state);
}
