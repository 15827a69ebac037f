//! `heddle signals`, as a person and as a script sees it.

use std::fs;

use crate::{
    harness::TestRepo,
    signals::{CACHE, write},
};

fn with_changes() -> TestRepo {
    let repo = TestRepo::new();
    write(&repo, &[("src/cache.rs", CACHE)]);
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "a cache"]);
    repo
}

#[test]
fn signals_are_shown_with_their_code_and_the_hidden_ones_when_asked_for() {
    let repo = with_changes();
    let _daemon = repo.serve();
    let none = repo.heddle(["signals"]).ok();
    assert!(none.starts_with("no signals at "), "{none}");
    let swap = "    pub fn swap(&self) {\n        self.rows.lock().unwrap().swap(0, 1);\n    }\n\n";
    let text = CACHE.replace("    pub fn sort", &format!("{swap}    pub fn sort"));
    write(&repo, &[("src/cache.rs", &text)]);
    let intent = "Swap\n\nself-flag: one\nself-flag: two";
    repo.heddle(["capture", "-m", intent]).ok();
    let shown = repo.heddle(["signals"]).ok();
    let expected = "! self_flagged_uncertainty  the whole change\n  its author flagged it: “one”;";
    assert!(shown.starts_with(expected), "{shown}");
    assert!(
        shown.contains("test_reachability  src/cache.rs:Cache::swap\n  it is new"),
        "{shown}"
    );
    assert!(
        shown.contains("    23 │     pub fn swap(&self) {\n    24 │"),
        "{shown}"
    );
    assert!(
        shown.contains("\n1 more signal: heddle signals "),
        "{shown}"
    );
    assert!(!shown.contains("“two”"), "{shown}");
    let all = repo.heddle(["signals", "--all"]).ok();
    assert!(
        all.contains("“two”") && !all.contains("more signal"),
        "{all}"
    );

    let json = repo.heddle(["--output", "json", "signals"]).json();
    assert_eq!(json["signals"].as_array().unwrap().len(), 3);
    assert_eq!(json["signals"][2]["anchor"]["start_line"], 23);
    assert_eq!(json["signals"][2]["visibility"], "visible");
    assert_eq!(
        (&json["tick_budget"], &json["partial"]),
        (&3.into(), &false.into())
    );
    // Any revision and any thread, from any folder; and against any other.
    fs::remove_file(repo.path("src/cache.rs")).unwrap();
    repo.heddle(["capture", "-m", "all gone"]).ok();
    let gone = repo.heddle(["signals"]).ok();
    assert!(gone.starts_with("no signals at "), "{gone}");
    let since = repo.heddle(["signals", "HEAD", "--since", "refs/heddle/threads/main"]);
    assert!(
        since.ok().starts_with("no signals at "),
        "what it has is tested"
    );
    let unknown = repo.heddle(["signals", "nothing"]).fails_with(1);
    assert!(unknown.contains("error[STATE_UNKNOWN]"), "{unknown}");
}

#[test]
fn health_is_shown_for_each_module() {
    let repo = with_changes();
    let _daemon = repo.serve();
    let text = repo.heddle(["signals", "--health"]).ok();
    assert!(text.contains("of 0 captures"), "{text}");
    assert!(text.contains("novelty                   0 %"), "{text}");
    let json = repo
        .heddle(["--output", "json", "signals", "--health", "--window", "7"])
        .json();
    assert_eq!(json["entries"].as_array().unwrap().len(), 5);
    assert_eq!(json["entries"][0]["warn"], false);
    repo.heddle(["signals", "--window", "7"]).fails_with(2);
    repo.heddle(["signals", "HEAD", "--health"]).fails_with(2);
}
