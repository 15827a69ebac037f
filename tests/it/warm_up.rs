//! The index of symbols in a daemon: filled by itself, told of, kept over restarts and crashes, and in
//! nobody's way.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use heddle_agent::grpc_local_impl::proto::{
    local::{GetStatusResponse, IndexProgress},
    v1::{ComputeStateSignalsRequest, GetReviewPayloadRequest},
};
use tonic::Request;

use crate::{
    fault::{Act, Fault, kinds},
    harness::{Daemon, TestRepo},
    left_out::{commit, write},
    review_page::{numbers, order},
    rpc::status,
    signals::client,
    signing::reviews,
    trees::Served,
};

/// A daemon's progress when the index is as it should be.
pub async fn index_when(
    served: &Served,
    what: &str,
    is_so: impl Fn(&IndexProgress) -> bool,
) -> IndexProgress {
    let end = std::time::Instant::now() + crate::harness::DEADLINE;
    loop {
        let status: GetStatusResponse = status(&served.channel).await;
        let index = status.index.unwrap();
        if is_so(&index) {
            return index;
        }
        assert!(std::time::Instant::now() < end, "never {what}: {index:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// A daemon whose index is full, with control over what it writes into that from then on.
pub async fn filled(test: &str, repo: TestRepo) -> Option<(Fault, Served)> {
    let fault = Fault::new(test, &repo)?;
    fault.only("symbols.db-wal");
    let daemon = Daemon::spawn(fault.serve(&repo));
    daemon.wait_for_line("serving");
    let served = Served::by(repo, daemon).await;
    index_when(&served, "whole", |it| it.whole).await;
    Some((fault, served))
}

/// A repository with so many files that use one another.
pub fn with_files(count: usize) -> TestRepo {
    let repo = TestRepo::new();
    for at in 0..count {
        let text = format!("fn f{at}() {{ f{}() }}\n", at + 1);
        write(&repo, &format!("src/m{}/f{at}.rs", at % 9), text);
    }
    repo
}

/// The file of the object that HEAD has at a path.
fn object(repo: &TestRepo, path: &str) -> PathBuf {
    let id = repo.git(&["rev-parse", &format!("HEAD:{path}")]);
    let (folder, name) = id.trim().split_at(2);
    repo.path(format!(".git/objects/{folder}/{name}"))
}

#[tokio::test]
async fn head_is_taken_in_by_itself_and_a_restart_parses_nothing() {
    let repo = with_files(30);
    write(
        &repo,
        ".gitattributes",
        "gen/** linguist-generated\nvendor/** linguist-vendored\n",
    );
    write(&repo, "gen/a.py", "def a(): pass\n");
    write(&repo, "vendor/a.c", "int a;\n");
    write(&repo, "vendor/b.c", "int a;\n");
    write(&repo, "nul.go", "package a\0\n");
    write(&repo, "large.js", "f();\n".repeat(200_000));
    write(&repo, "notes.txt", "none\n");
    commit(&repo);
    let mut served = Served::new(repo).await;
    let first = index_when(&served, "whole", |it| it.whole).await;
    let counts =
        |it: &IndexProgress| [it.files, it.too_large, it.binary, it.generated, it.vendored];
    assert_eq!(counts(&first), [30, 1, 1, 1, 2]);
    assert_eq!((first.to_do, first.running, first.parsed), (0, false, 32));
    assert!(first.database_bytes > 0);
    let told = served.repo.heddle(["agent", "status"]).ok();
    let line = "left out: 1 too large, 1 binary, 1 generated, 2 vendored";
    assert!(
        told.contains("30 files in ") && told.contains(line),
        "{told}"
    );
    let told = served
        .repo
        .heddle(["--output", "json", "agent", "status"])
        .json();
    assert_eq!(told["index"]["files"], 30);

    // A capture, a commit of Git's, and a change of the rules alone.
    served.write("src/m0/f0.rs", "fn changed() {}\n");
    served.capture().await.unwrap();
    index_when(&served, "captured", |it| it.parsed == 33).await;
    served.write("src/new.rs", "fn new() {}\n");
    commit(&served.repo);
    index_when(&served, "committed", |it| {
        it.whole && it.files == 31 && it.parsed == 34
    })
    .await;
    served.write(".gitattributes", "");
    commit(&served.repo);
    let now = index_when(&served, "without rules", |it| it.whole && it.files == 34).await;
    assert_eq!(counts(&now), [34, 1, 1, 0, 0]);

    assert!(served.daemon.stop().success());
    served = Served::new(served.repo).await;
    let again = index_when(&served, "whole again", |it| it.whole).await;
    assert_eq!((counts(&again), again.parsed), (counts(&now), 0));
}

#[tokio::test]
async fn a_daemon_that_is_killed_meanwhile_leaves_an_index_that_the_next_one_finishes() {
    let repo = with_files(400);
    commit(&repo);
    let mut served = Served::new(repo).await;
    for parsed in [1, 100, 200] {
        index_when(&served, "begun", |it| it.parsed >= parsed || it.whole).await;
        served.daemon.crash();
        served = Served::new(served.repo).await;
    }
    let index = index_when(&served, "whole", |it| it.whole).await;
    assert_eq!((index.files, index.to_do), (400, 0));
    // Lost under a running daemon, it is made anew with what happens next.
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(served.repo.store_dir().join(format!("symbols.db{suffix}")));
    }
    served.write("src/new.rs", "fn new() {}\n");
    commit(&served.repo);
    index_when(&served, "made anew", |it| it.whole && it.files == 401).await;
    assert!(served.repo.store_dir().join("symbols.db").exists());
}

#[tokio::test]
async fn what_git_cannot_read_keeps_nothing_else_out_and_is_in_when_it_is_there_again() {
    let repo = with_files(400);
    write(&repo, "odd/a.rs", "fn a() {}\n");
    write(&repo, "ruled/.gitattributes", "*.c linguist-generated\n");
    write(&repo, "ruled/a.rs", "fn ruled() {}\n");
    commit(&repo);
    write(&repo, "src/new.rs", "fn new() { f7() }\n");
    commit(&repo);
    // A blob and a folder that are missing, and a blob and a folder's rules that are damaged.
    let missing = [object(&repo, "src/m0/f0.rs"), object(&repo, "odd")];
    let aside = |path: &Path| path.with_extension("aside");
    for path in &missing {
        fs::rename(path, aside(path)).unwrap();
    }
    for damaged in ["src/m8/f8.rs", "ruled/.gitattributes"] {
        let path = object(&repo, damaged);
        fs::copy(&path, aside(&path)).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"damaged").unwrap();
    }
    let mut served = Served::new(repo).await;
    let is_done = |it: &IndexProgress| !it.running && it.unreadable == 4;
    let first = index_when(&served, "taken in", is_done).await;
    assert_eq!((first.files, first.parsed, first.to_do), (399, 399, 0));
    assert!(!first.whole);
    let told = served.repo.heddle(["agent", "status"]).ok();
    let line = "; 4 that Git cannot read; not all of HEAD is in";
    assert!(told.contains(line), "{told}");
    let signals = |served: &Served| {
        let mut signals = client(&served.channel);
        async move {
            let asked = ComputeStateSignalsRequest::default();
            let answer = signals.compute_state_signals(asked).await.unwrap();
            answer.into_inner()
        }
    };
    assert!(signals(&served).await.partial);

    assert!(served.daemon.stop().success());
    served = Served::new(served.repo).await;
    let again = index_when(&served, "taken in again", is_done).await;
    assert_eq!((again.files, again.parsed), (399, 0));
    assert!(signals(&served).await.partial);

    for path in [
        "src/m0/f0.rs",
        "odd",
        "src/m8/f8.rs",
        "ruled/.gitattributes",
    ] {
        let path = object(&served.repo, path);
        fs::rename(aside(&path), path).unwrap();
    }
    assert!(!signals(&served).await.partial);
    served.write("notes.txt", "An event.\n");
    served.capture().await.unwrap();
    let last = index_when(&served, "whole", |it| it.whole).await;
    assert_eq!((last.files, last.parsed, last.unreadable), (403, 4, 0));
}

#[tokio::test]
async fn g8_an_index_that_is_being_filled_does_not_keep_a_daemon() {
    let repo = with_files(2_000);
    commit(&repo);
    let mut daemon = repo.serve_with(&["--idle-timeout", "500ms"]);
    assert!(daemon.wait().success());
    let served = Served::new(repo).await;
    index_when(&served, "whole", |it| it.whole && it.files == 2_000).await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_leaves_the_index_out_of_date_and_nothing_else() {
    let repo = with_files(20);
    commit(&repo);
    let Some(fault) = Fault::new("warm_up::a_disk_that_takes_nothing", &repo) else {
        return;
    };
    fault.only("symbols.db-wal");
    fault.arm(Act::FailOn(28), 1, kinds::WRITE);
    let daemon = Daemon::spawn(fault.serve(&repo));
    daemon.wait_for_line("symbols are looked up without");
    let served = Served::by(repo, daemon).await;
    served.write("src/new.rs", "fn new() {}\n");
    served.capture().await.unwrap();
    let index = index_when(&served, "tried", |it| !it.running).await;
    assert!(!index.whole, "{index:?}");
    fault.disarm();
    served.write("src/newer.rs", "fn newer() {}\n");
    served.capture().await.unwrap();
    index_when(&served, "whole", |it| it.whole && it.files == 20).await;
    let told = served.daemon.log();
    let told = told.iter().filter(|line| line.contains("symbols"));
    assert_eq!(told.count(), 1);
}

#[tokio::test]
async fn doctor_throws_away_a_damaged_index_and_says_so() {
    let repo = with_files(200);
    commit(&repo);
    let mut served = Served::new(repo).await;
    index_when(&served, "whole", |it| it.whole).await;
    let told = served.repo.heddle(["doctor"]).ok();
    assert!(told.contains("symbols.db is sound"), "{told}");
    assert!(served.daemon.stop().success());
    let path = served.repo.store_dir().join("symbols.db");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4_096;
    bytes[last..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    served = Served::new(served.repo).await;
    let told = served.repo.heddle(["doctor"]).ok();
    // The daemon may have come upon it before.
    let log = served.daemon.log().join("\n");
    let is_told = told.contains("symbols.db was damaged") || log.contains("symbols.db is damaged");
    assert!(is_told, "{told}\n{log}");
    let told = served.repo.heddle(["doctor"]).ok();
    assert!(told.contains("symbols.db is sound"), "{told}");
}

#[tokio::test]
async fn g8_a_call_is_answered_in_part_before_its_deadline_while_the_index_is_filled() {
    let repo = with_files(20);
    commit(&repo);
    let test = "warm_up::g8_a_call_is_answered_in_part";
    let Some((fault, served)) = filled(test, repo).await else {
        return;
    };
    // Whoever takes the capture in is held in the middle of it.
    fault.arm(Act::Hold, 1, kinds::WRITE);
    served.write("src/new.rs", "fn new() {}\n");
    served.capture().await.unwrap();
    let mut signals = client(&served.channel);
    let mut asked = Request::new(ComputeStateSignalsRequest::default());
    asked.set_timeout(Duration::from_secs(2));
    let answer = signals.compute_state_signals(asked).await.unwrap();
    assert!(answer.into_inner().partial);
    let mut asked = Request::new(GetReviewPayloadRequest::default());
    asked.set_timeout(Duration::from_secs(2));
    let page = reviews(&served.channel).get_review_payload(asked).await;
    let page = page.unwrap().into_inner();
    // What changed is known without the index.
    assert!(page.signals_partial && !page.truncated && !page.counts_partial);
    assert_eq!(numbers(&page), (1, 1, 0));
    assert!(order(&page).contains("src/new.rs:new added function 1-1\n"));
    fault.disarm();
    let asked = ComputeStateSignalsRequest::default();
    let answer = signals.compute_state_signals(asked).await.unwrap();
    assert!(!answer.into_inner().partial);
}
