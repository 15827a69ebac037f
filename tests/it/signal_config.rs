//! Signals as `config.toml` wants them, in a budget, the same whenever they are asked for, and of
//! changes that nobody would want to read.

use std::{ffi::OsStr, fs, io::Write, os::unix::ffi::OsStrExt, path::Path};

use nix::sys::signal::Signal;
use tonic::transport::Channel;

use crate::{
    harness::eventually,
    signal_states::annotate,
    signals::{CACHE, FILE, Scene, compute, places, write},
};

/// A change that every module has something to say of.
async fn with_all() -> (Scene, Vec<u8>) {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    annotate(&scene.channel, "Cache::push", 1, "rows are never dropped").await;
    let calls = (0..8).map(|n| format!("        self.raw_{n}();\n"));
    let method = format!(
        "    pub fn odd(&self) {{\n{}    }}\n\n    pub fn sort",
        calls.collect::<String>()
    );
    let text = CACHE.replace("    pub fn sort", &method);
    let state = scene.capture(&[(FILE, &text)], "self-flag: is it?").await;
    (scene, state)
}

fn kinds(places: &[String]) -> Vec<&str> {
    places
        .iter()
        .map(|it| it.split(' ').next().unwrap())
        .collect()
}

const ALL: [&str; 5] = [
    "invariant_adjacency",
    "self_flagged_uncertainty",
    "pattern_deviation",
    "novelty",
    "test_reachability",
];

#[tokio::test]
async fn the_same_state_has_the_same_signals_in_the_same_order_and_three_are_visible() {
    let (mut scene, state) = with_all().await;
    let found = scene.of(&state).await;
    assert_eq!(kinds(&places(&found)), ALL);
    // All but one are of one place, and one of each place is visible.
    let visible: Vec<bool> = found.iter().map(|it| it.visibility == "visible").collect();
    assert_eq!(visible, [true, true, false, false, false]);
    let flags = "self-flag: src/cache.rs:Cache::sort\nself-flag: src/cache.rs:Cache::last\n\
                 self-flag: src/cache.rs:Cache::push\nself-flag: src/cache.rs:Cache::push\n\
                 self-flag: src/cache.rs:Cache::first";
    let flagged = scene.capture(&[("a.txt", "a")], flags).await;
    let signals = scene.of(&flagged).await;
    let visible: Vec<bool> = signals
        .iter()
        .map(|it| it.visibility == "visible")
        .collect();
    assert_eq!(visible, [true, true, true, false, false], "{signals:#?}");
    for start in [false, true] {
        if start {
            assert!(scene.daemon.stop().success());
            scene.daemon = scene.repo.serve();
            scene.channel = scene.repo.channel().await;
        }
        let mut again = scene.of(&state).await;
        for (signal, before) in again.iter_mut().zip(&found) {
            signal.computed_at = before.computed_at;
        }
        assert_eq!(again, found);
    }
}

fn configure(scene: &Scene, text: &str) {
    fs::write(scene.repo.store_dir().join("config.toml"), text).unwrap();
    let before = scene.daemon.log().len();
    scene.daemon.signal(Signal::SIGHUP);
    eventually("it was read", || {
        let log = scene.daemon.log();
        let said = ["read config.toml again", "the old settings stay"];
        let new = log.iter().skip(before);
        new.into_iter()
            .any(|line| said.iter().any(|said| line.contains(said)))
            .then_some(())
    });
}

#[tokio::test]
async fn each_module_is_turned_off_and_tuned_while_the_daemon_runs() {
    let (scene, state) = with_all().await;
    let of = async || {
        let signals = scene.of(&state).await;
        kinds(&places(&signals)).join(" ")
    };
    for module in ALL {
        configure(
            &scene,
            &format!("[review.signals.{module}]\nenabled = false\n"),
        );
        let others: Vec<&str> = ALL.into_iter().filter(|it| *it != module).collect();
        assert_eq!(of().await, others.join(" "));
    }
    for (module, threshold) in [
        ("pattern_deviation", "min_siblings = 5"),
        ("novelty", "min_names = 9"),
        ("novelty", "min_lines = 12"),
        ("test_reachability", "max_steps = 0"),
    ] {
        configure(&scene, &format!("[review.signals.{module}]\n{threshold}\n"));
        let others: Vec<&str> = ALL.into_iter().filter(|it| *it != module).collect();
        assert_eq!(of().await, others.join(" "), "{threshold}");
    }
    // What is not understood changes nothing, and is said with its place.
    for (text, said) in [
        (
            "[review.signals.novelty]\nshare = 2\n",
            "a share is from 0 to 1",
        ),
        ("[review.signals.novelty]\nmin = 2\n", "unknown field `min`"),
        ("[review.signals.taste]\n", "unknown field `taste`"),
    ] {
        configure(&scene, text);
        let log = scene.daemon.log();
        assert!(
            log.iter().any(|line| line.contains(said)),
            "{said}: {log:#?}"
        );
    }
    configure(&scene, "");
    assert_eq!(of().await, ALL.join(" "));
}

async fn seen(channel: &Channel, state: &[u8]) -> (Vec<String>, bool) {
    let answer = compute(channel, state, &[]).await.unwrap();
    (places(&answer.signals), answer.partial)
}

#[tokio::test]
async fn changes_that_nobody_would_read_have_bounded_answers() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let (repo, channel) = (&scene.repo, &scene.channel);
    // 5,000 files: of those beyond the first 1,000 it is said that they were not looked at.
    for n in 0..5_000 {
        let text = format!("pub fn f{n}() {{\n    g{n}();\n}}\n");
        write(repo, &[(&format!("many/{}/{n}.rs", n % 50), &text)]);
    }
    let state = scene.capture(&[], "").await;
    let (found, partial) = seen(channel, &state).await;
    assert!(partial);
    assert_eq!(found.len(), 20, "so many of one module: {found:?}");
    // One line of 50 MB, and what is no text in source and in names.
    let mut long = fs::File::create(repo.path("long.rs")).unwrap();
    long.write_all(&b"fn a() { b(); } ".repeat(50 << 16))
        .unwrap();
    let name = Path::new(OsStr::from_bytes(b"bad\xff.rs"));
    fs::write(
        repo.root().join(name),
        b"pub fn bad_\xff() {\n    c();\n}\n",
    )
    .unwrap();
    fs::write(repo.path("nul.rs"), b"pub fn nul() {\n    \0c();\n}\n").unwrap();
    let state = scene.capture(&[], "self-flag: bad\u{fffd}.rs").await;
    let (found, partial) = seen(channel, &state).await;
    assert!(!partial);
    assert!(
        found
            .iter()
            .all(|it| !it.contains("long.rs") && !it.contains("nul.rs")),
        "{found:?}"
    );
    assert_eq!(found.len(), 1, "{found:?}");
}

#[tokio::test]
async fn generated_and_vendored_files_tests_and_documentation_raise_nothing() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let text = "pub fn lonely() {\n    work();\n}\n";
    let attributes = "gen/** linguist-generated\nthird/** linguist-vendored\n";
    let files = [
        (".gitattributes", attributes),
        ("gen/a.rs", text),
        ("third/a.rs", text),
        ("tests/a.rs", text),
        ("docs/a.rs", text),
    ];
    let state = scene.capture(&files, "").await;
    assert_eq!(places(&scene.of(&state).await), [""; 0]);
    let state = scene.capture(&[("src/b.rs", text)], "").await;
    assert_eq!(
        places(&scene.of(&state).await),
        ["test_reachability src/b.rs:lonely 1-3"]
    );
}
