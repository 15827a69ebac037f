//! Signals: each module raises one where a small real change asks for it, and none where a change
//! looks alike and does not.

use std::{fs, slice};

use heddle_agent::grpc_local_impl::proto::v1::{
    CaptureThreadRequest, ComputeStateSignalsRequest, ComputeStateSignalsResponse, RiskSignal,
    signal_service_client::SignalServiceClient,
};
use tonic::{Status, transport::Channel};

use crate::{
    harness::{Daemon, TestRepo},
    states::threads,
};

pub type Client = SignalServiceClient<Channel>;

pub fn client(channel: &Channel) -> Client {
    SignalServiceClient::new(channel.clone())
}

pub async fn compute(
    channel: &Channel,
    state: &[u8],
    prior: &[u8],
) -> Result<ComputeStateSignalsResponse, Status> {
    let request = ComputeStateSignalsRequest {
        state_id: state.into(),
        prior_state_id: prior.into(),
        ..Default::default()
    };
    let answer = client(channel).compute_state_signals(request).await?;
    Ok(answer.into_inner())
}

/// A repository with code and a daemon, and changes to it.
pub struct Scene {
    pub repo: TestRepo,
    pub daemon: Daemon,
    pub channel: Channel,
}

impl Scene {
    /// One whose base is committed.
    pub async fn with(files: &[(&str, &str)]) -> Self {
        let repo = TestRepo::new();
        write(&repo, files);
        repo.git(&["add", "-A"]);
        repo.git(&["commit", "-q", "-m", "base", "--allow-empty"]);
        let daemon = repo.serve();
        let channel = repo.channel().await;
        Self {
            repo,
            daemon,
            channel,
        }
    }

    /// Captures the files as they are then.
    pub async fn capture(&self, files: &[(&str, &str)], intent: &str) -> Vec<u8> {
        write(&self.repo, files);
        let request = CaptureThreadRequest {
            intent: intent.into(),
            ..Default::default()
        };
        let answer = threads(&self.channel).capture_thread(request).await;
        answer.unwrap().into_inner().state_id
    }

    /// The signals of a capture of these files.
    pub async fn signals(&self, files: &[(&str, &str)], intent: &str) -> Vec<RiskSignal> {
        let state = self.capture(files, intent).await;
        self.of(&state).await
    }

    pub async fn of(&self, state: &[u8]) -> Vec<RiskSignal> {
        let answer = compute(&self.channel, state, &[]).await.unwrap();
        assert_eq!(answer.tick_budget, 3);
        assert!(!answer.partial);
        answer.signals
    }
}

pub fn write(repo: &TestRepo, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = repo.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Kind, place and lines of each.
pub fn places(signals: &[RiskSignal]) -> Vec<String> {
    let place = |signal: &RiskSignal| {
        let anchor = signal.anchor.clone().unwrap();
        let lines = match (anchor.start_line, anchor.end_line) {
            (0, 0) => String::new(),
            (start, end) => format!(" {start}-{end}"),
        };
        let colon = if anchor.symbol.is_empty() { "" } else { ":" };
        format!(
            "{} {}{colon}{}{lines}",
            signal.kind, anchor.file, anchor.symbol
        )
    };
    signals.iter().map(place).collect()
}

/// Those of one kind.
pub fn of_kind(signals: &[RiskSignal], kind: &str) -> Vec<RiskSignal> {
    let all = signals.iter().filter(|signal| signal.kind == kind);
    all.cloned().collect()
}

#[track_caller]
fn only(signals: &[RiskSignal], kind: &str) -> RiskSignal {
    let found = of_kind(signals, kind);
    assert_eq!(found.len(), 1, "{signals:#?}");
    let [signal] = &found[..] else { unreachable!() };
    assert_eq!(signal.producer_module, kind);
    assert!(signal.producer_version > 0);
    assert!(signal.computed_at.is_some());
    signal.clone()
}

/// Methods that all lock, and a test of each.
pub const CACHE: &str = r#"use std::sync::Mutex;

pub struct Cache {
    rows: Mutex<Vec<u32>>,
}

impl Cache {
    pub fn first(&self) -> Option<u32> {
        let rows = self.rows.lock().unwrap();
        rows.first().copied()
    }

    pub fn last(&self) -> Option<u32> {
        let rows = self.rows.lock().unwrap();
        rows.last().copied()
    }

    pub fn push(&self, row: u32) {
        let mut rows = self.rows.lock().unwrap();
        rows.push(row);
    }

    pub fn sort(&self) {
        let mut rows = self.rows.lock().unwrap();
        rows.sort();
    }
}

#[test]
fn rows_are_kept() {
    let cache = Cache { rows: Mutex::default() };
    cache.push(1);
    cache.sort();
    assert_eq!(cache.first(), cache.last());
}
"#;

fn with_method(method: &str) -> String {
    CACHE.replace("    pub fn sort", &format!("{method}\n\n    pub fn sort"))
}

pub const FILE: &str = "src/cache.rs";

#[tokio::test]
async fn pattern_deviation_is_a_method_that_does_not_lock_as_its_siblings_do() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let peek =
        "    pub fn peek(&self) -> Option<u32> {\n        self.raw().first().copied()\n    }";
    let found = scene.signals(&[(FILE, &with_method(peek))], "").await;
    let signal = only(&found, "pattern_deviation");
    assert_eq!(
        places(slice::from_ref(&signal)),
        ["pattern_deviation src/cache.rs:Cache::peek 23-25"]
    );
    for said in ["4 of its 4 siblings in `Cache`", "`lock`"] {
        assert!(signal.reason.contains(said), "{}", signal.reason);
    }
    // Who does as they do, who makes one, and who is beside too few.
    let same = "    pub fn len(&self) -> usize {\n        self.rows.lock().unwrap().len()\n    }";
    let maker = "    pub fn new() -> Self {\n        Self { rows: Mutex::default() }\n    }";
    for method in [same, maker] {
        let found = scene.signals(&[(FILE, &with_method(method))], "").await;
        assert_eq!(places(&of_kind(&found, "pattern_deviation")), [""; 0]);
    }
    let few = CACHE.replacen("self.rows.lock().unwrap()", "self.raw()", 2);
    let found = scene.signals(&[(FILE, &few)], "").await;
    assert_eq!(places(&of_kind(&found, "pattern_deviation")), [""; 0]);
}

#[tokio::test]
async fn pattern_deviation_is_a_guard_that_was_dropped_and_a_body_that_was_rewritten() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let dropped = CACHE.replacen("self.rows.lock().unwrap()", "self.raw()", 1);
    let found = scene.signals(&[(FILE, &dropped)], "").await;
    let signal = only(&found, "pattern_deviation");
    assert_eq!(
        places(slice::from_ref(&signal)),
        ["pattern_deviation src/cache.rs:Cache::first 8-11"]
    );
    assert!(
        signal.reason.contains("no longer uses `lock`") && signal.reason.contains("3 of its 3"),
        "{}",
        signal.reason
    );
    let names = |letter: char| {
        let calls = (0..12).map(|n| format!("    {letter}{n}();\n"));
        format!("fn work() {{\n{}}}\n", calls.collect::<String>())
    };
    scene.capture(&[("src/work.rs", &names('a'))], "").await;
    let found = scene.signals(&[("src/work.rs", &names('b'))], "").await;
    let signal = only(&found, "pattern_deviation");
    assert!(
        signal.reason.contains("of the 12 names"),
        "{}",
        signal.reason
    );
    let nearly = names('b').replace("b0", "a0");
    let found = scene.signals(&[("src/work.rs", &nearly)], "").await;
    assert_eq!(places(&of_kind(&found, "pattern_deviation")), [""; 0]);
}

#[tokio::test]
async fn novelty_is_a_new_function_of_names_that_nothing_else_here_has() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let novel = r#"pub fn hash(text: &str) -> String {
    let mut hasher = Blake::keyed(text);
    hasher.absorb(text);
    hasher.permute(24);
    let wide = hasher.squeeze();
    let hex = encode_hex(wide.first());
    assert_eq!(hex.finish_up(), text);
    hex
}
"#;
    let found = scene.signals(&[("src/hash.rs", novel)], "").await;
    let signal = only(&found, "novelty");
    assert_eq!(
        places(slice::from_ref(&signal)),
        ["novelty src/hash.rs:hash 1-9"]
    );
    for said in ["6 of the 8 names", "`absorb`, `encode_hex`"] {
        assert!(signal.reason.contains(said), "{}", signal.reason);
    }
    // Names that the same change defines, names that were here, a small function, and one that moved.
    let defined = "pub fn absorb() {}\npub fn encode_hex() {}\npub fn squeeze() {}\n";
    let with_them = format!("{defined}{}", novel.replace("fn hash", "fn digest"));
    fs::remove_file(scene.repo.path("src/hash.rs")).unwrap();
    scene.capture(&[], "").await;
    let found = scene.signals(&[("src/digest.rs", &with_them)], "").await;
    assert_eq!(places(&of_kind(&found, "novelty")), [""; 0]);
    let again = novel.replace("fn hash", "fn again");
    let found = scene.signals(&[("src/again.rs", &again)], "").await;
    assert_eq!(places(&of_kind(&found, "novelty")), [""; 0]);
    let small = "pub fn small() {\n    z1(); z2(); z3(); z4(); z5(); z6();\n}\n";
    let found = scene.signals(&[("src/small.rs", small)], "").await;
    assert_eq!(places(&of_kind(&found, "novelty")), [""; 0]);
    // Nor where there was nothing that it could be compared with.
    let python =
        "def work():\n    a1()\n    a2()\n    a3()\n    a4()\n    a5()\n    a6()\n    a7()\n";
    let found = scene.signals(&[("work.py", python)], "").await;
    assert_eq!(places(&of_kind(&found, "novelty")), [""; 0]);
}

#[tokio::test]
async fn test_reachability_is_a_function_that_no_test_leads_to() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let swap = "    pub fn swap(&self) {\n        self.rows.lock().unwrap().swap(0, 1);\n    }";
    let text = with_method(swap);
    let found = scene.signals(&[(FILE, &text)], "").await;
    let signal = only(&found, "test_reachability");
    assert_eq!(
        places(slice::from_ref(&signal)),
        ["test_reachability src/cache.rs:Cache::swap 23-25"]
    );
    for said in ["static", "no runtime coverage", "it is new"] {
        assert!(signal.reason.contains(said), "{}", signal.reason);
    }
    // By a test of another file, through a function between them.
    let between = "pub fn turn(cache: &Cache) {\n    cache.swap();\n}\n";
    let test = "#[test]\nfn it_turns() {\n    turn(&Cache::of(2));\n}\n";
    let found = scene
        .signals(&[("src/turn.rs", between), ("tests/turn.rs", test)], "")
        .await;
    assert_eq!(places(&found), [""; 0]);
    let text = text.replace("swap(0, 1)", "swap(1, 0)");
    let found = scene.signals(&[(FILE, &text)], "").await;
    assert_eq!(places(&found), [""; 0]);
    // Nothing is known of a language without tests.
    let c = "int work(void) {\n  return other();\n}\n";
    let found = scene.signals(&[("work.c", c)], "").await;
    assert_eq!(places(&found), [""; 0]);
}

#[tokio::test]
async fn self_flagged_uncertainty_is_what_the_author_says() {
    let scene = Scene::with(&[(FILE, CACHE)]).await;
    let text = CACHE.replace("rows.sort();", "rows.sort();\n        rows.dedup();");
    let intent = "Sort\n\nSelf-Flag: src/cache.rs:Cache::sort may lose rows\n\
                  - self-flag: `sort` is slow\nself-flag: ask about `nothing`\n\
                  self-flag: src/cache.rs is long\nself-flag:\nno self-flag: here";
    let found = scene.signals(&[(FILE, &text)], intent).await;
    let flags = of_kind(&found, "self_flagged_uncertainty");
    assert_eq!(
        places(&flags),
        [
            "self_flagged_uncertainty ",
            "self_flagged_uncertainty src/cache.rs",
            "self_flagged_uncertainty src/cache.rs:Cache::sort 23-27",
            "self_flagged_uncertainty src/cache.rs:Cache::sort 23-27",
        ]
    );
    assert!(flags[2].reason.contains("may lose rows"), "{flags:?}");
    // The second of an anchor is hidden.
    let visible = |signal: &RiskSignal| signal.visibility == "visible";
    let seen: Vec<bool> = flags.iter().map(visible).collect();
    assert_eq!(seen, [true, true, true, false]);

    for (confidence, fires) in [(0.25, true), (0.5, false)] {
        write(&scene.repo, &[("a.txt", &format!("{confidence}"))]);
        let request = CaptureThreadRequest {
            confidence: Some(confidence),
            ..Default::default()
        };
        let answer = threads(&scene.channel).capture_thread(request).await;
        let found = scene.of(&answer.unwrap().into_inner().state_id).await;
        assert_eq!(!found.is_empty(), fires, "{found:?}");
        if fires {
            let signal = only(&found, "self_flagged_uncertainty");
            assert!(signal.reason.contains("0.25, below 0.50"), "{signal:?}");
        }
    }
}
