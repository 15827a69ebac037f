//! Refs and rows that were lost: refs are made from the database, and the database from refs.

use std::{fs, path::PathBuf};

use heddle_agent::{
    grpc_local_impl::proto::{local::finding::Severity, v1::StartThreadRequest},
    local_daemon::RepositoryLock,
    upkeep::{self, Severity as Found},
};
use tonic::transport::Channel;

use crate::{
    harness::TestRepo,
    states::{GitView, capture, captured, hex, restore, threads, to_state},
    upkeep::{
        amiss, assert_sound, assert_told, chains, check, collect, keep, kept, listed, refs,
        with_chains,
    },
};

#[tokio::test]
async fn refs_that_others_moved_are_moved_back_at_the_start() {
    for packed in [false, true] {
        let (repo, made) = with_chains(4).await;
        if packed {
            repo.git(&["pack-refs", "--all"]);
        }
        let before = refs(&repo);
        repo.git(&["update-ref", "-d", "refs/heddle/kept/main/1"]);
        repo.git(&["update-ref", "refs/heddle/kept/main/2", &made[0][0]]);
        repo.git(&["symbolic-ref", "refs/heddle/kept/main/3", "refs/heads/main"]);
        let thread = repo.path(".git/refs/heddle/kept/main/4");
        fs::create_dir_all(thread.parent().unwrap()).unwrap();
        // What a power cut can leave of a file.
        fs::write(&thread, "").unwrap();

        let daemon = repo.serve();
        assert_eq!(refs(&repo), before, "packed: {packed}: {:#?}", daemon.log());
        assert_sound(&repo);
    }
}

#[tokio::test]
async fn refs_that_a_crash_left_behind_go_at_the_start() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let made = chains(&repo, &channel, 3).await;
    collect(&channel, keep(1)).await.unwrap();
    // As if the crash had come between the commit and the refs.
    daemon.crash();
    repo.git(&["update-ref", "refs/heddle/kept/main/1", &made[0][1]]);
    let daemon = repo.serve();
    daemon.wait_for_line("a crash left behind");
    assert_eq!(kept(&repo), [3]);
}

#[tokio::test]
async fn doctor_tells_of_refs_that_others_moved_and_mends_them() {
    let (repo, made) = with_chains(2).await;
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let before = refs(&repo);
    repo.git(&["update-ref", "-d", "refs/heddle/kept/main/1"]);
    repo.git(&["update-ref", "refs/heddle/threads/main", &made[0][0]]);
    repo.git(&["update-ref", "refs/heddle/threads/stray", "HEAD"]);
    repo.git(&["update-ref", "refs/heddle/else/where", "HEAD"]);
    let found = check(&channel, false).await;
    let (bad, warning) = (Severity::Bad, Severity::Warning);
    assert_told(&found, "refs", bad, "kept/main/1 is missing");
    assert_told(&found, "refs", bad, "threads/main is at");
    assert_told(
        &found,
        "refs",
        warning,
        "git update-ref -d refs/heddle/else/where",
    );
    assert_eq!(amiss(&found).len(), 4, "{found:#?}");

    let git = GitView::of(&repo);
    let mended = check(&channel, true).await;
    assert_eq!(GitView::of(&repo), git);
    let repaired = Severity::Repaired;
    assert_told(&mended, "refs", repaired, "kept/main/1 is missing");
    assert_told(&mended, "refs", repaired, "threads/main is at");
    assert_told(&mended, "refs", repaired, "threads/stray is at");
    assert_told(&mended, "refs", warning, "refs/heddle/else/where");
    let mut now = refs(&repo);
    now.retain(|line| !line.contains("/stray ") && !line.contains("/else/"));
    assert_eq!(now, before);
    repo.git(&["update-ref", "-d", "refs/heddle/else/where"]);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    assert!(listed(&channel).await.iter().any(|t| t.name == "stray"));
}

/// What of threads must come back.
async fn known(channel: &Channel) -> Vec<(String, String, String, Option<String>)> {
    let threads = listed(channel).await.into_iter();
    let known = threads.map(|thread| {
        let base = hex(thread.base_state());
        (
            thread.name.clone(),
            base,
            hex(thread.current_state()),
            thread.provider,
        )
    });
    known.collect()
}

/// A repository with chains and another thread, that no daemon serves; and what was known of it.
async fn with_threads() -> (
    TestRepo,
    Vec<[String; 2]>,
    Vec<(String, String, String, Option<String>)>,
) {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let made = chains(&repo, &channel, 3).await;
    let start = StartThreadRequest {
        name: "fix/it".into(),
        from_state: made[1][0].clone(),
        ..Default::default()
    };
    threads(&channel).start_thread(start).await.unwrap();
    let before = known(&channel).await;
    daemon.stop();
    (repo, made, before)
}

/// Everything that was known of `repo` is known again, and it goes on where it was.
async fn assert_known_again(
    repo: &TestRepo,
    made: &[[String; 2]],
    before: &[(String, String, String, Option<String>)],
    refs_before: &[String],
) {
    let channel = repo.channel().await;
    assert_eq!(known(&channel).await, before);
    assert_eq!(refs(repo), refs_before);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    // The chain under way goes on, and the next one gets the next number.
    fs::write(repo.path("work"), "afterwards").unwrap();
    let next = capture(&channel, "").await.unwrap();
    assert_eq!(hex(&next.parent_state), made[3][1]);
    assert_eq!(kept(repo), [1, 2, 3]);
    repo.git(&["commit", "-qm", "mine", "--allow-empty"]);
    fs::write(repo.path("work"), "and on").unwrap();
    captured(&channel, "").await;
    assert_eq!(kept(repo), [1, 2, 3, 4]);
    // The second chain is where a thread began.
    let done = collect(&channel, keep(1)).await.unwrap();
    assert_eq!((done.dropped_chains, done.dropped_states), (2, 4));
    assert_eq!(kept(repo), [2, 4]);
    restore(&channel, to_state(&made[1][0])).await.unwrap();
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
}

fn lose_database(repo: &TestRepo) {
    for name in ["heddle.db", "heddle.db-wal", "heddle.db-shm"] {
        let path = repo.store_dir().join(name);
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test]
async fn a_lost_database_is_rebuilt_from_refs_at_the_start() {
    let (repo, made, before) = with_threads().await;
    let refs_before = refs(&repo);
    lose_database(&repo);
    let daemon = repo.serve();
    daemon.wait_for_line("took in 2 threads, 4 chains and 8 captures");
    assert_known_again(&repo, &made, &before, &refs_before).await;
}

#[tokio::test]
async fn chains_whose_refs_lie_elsewhere_come_back_as_those_of_their_threads() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    repo.git(&["switch", "-qc", "x"]);
    chains(&repo, &channel, 1).await;
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["branch", "-qD", "x"]);
    // Its first chain would lie in the file that keeps the first one of `x`.
    repo.git(&["switch", "-qc", "x/1"]);
    chains(&repo, &channel, 1).await;
    let before = refs(&repo);
    assert!(
        before.iter().any(|line| line.contains("x%2F1/1 ")),
        "{before:#?}"
    );
    daemon.stop();
    lose_database(&repo);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    assert_eq!(refs(&repo), before);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    fs::write(repo.path("work"), "on").unwrap();
    repo.git(&["commit", "-qm", "mine", "--allow-empty"]);
    captured(&channel, "").await;
    let now = refs(&repo);
    assert!(
        now.iter()
            .any(|line| line.contains("x%2F1/2 ") || line.contains("x/1/2 ")),
        "{now:#?}"
    );
}

#[tokio::test]
async fn an_older_database_takes_in_the_chains_that_came_after_it() {
    let (repo, _) = with_chains(1).await;
    let aside = repo.around().join("older.db");
    fs::copy(repo.store_dir().join("heddle.db"), &aside).unwrap();
    let mut daemon = repo.serve();
    chains(&repo, &repo.channel().await, 2).await;
    daemon.stop();
    let before = refs(&repo);
    let tip = repo.git(&["rev-parse", "refs/heddle/threads/main"]);
    lose_database(&repo);
    fs::copy(&aside, repo.store_dir().join("heddle.db")).unwrap();
    let daemon = repo.serve();
    daemon.wait_for_line("took in 0 threads, 3 chains and 6 captures");
    // No number is given twice, so that no ref is written over.
    let channel = repo.channel().await;
    chains(&repo, &channel, 2).await;
    let now = refs(&repo);
    for line in before.iter().filter(|line| line.contains("/kept/")) {
        assert!(now.contains(line), "{line} is gone: {now:#?}");
    }
    let tip_is_kept = |line: &String| line.contains("/kept/") && line.ends_with(tip.trim());
    assert!(now.iter().any(tip_is_kept), "{now:#?}");
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
}

/// Mends `repo` as the command line does it when no daemon can start.
fn repair(repo: &TestRepo) -> Vec<upkeep::Finding> {
    let repository = repo.open();
    let lock = RepositoryLock::try_take(&repo.store_dir())
        .unwrap()
        .unwrap();
    upkeep::repair_without_daemon(&repository, Box::new(lock.witness())).unwrap()
}

#[track_caller]
fn assert_found(findings: &[upkeep::Finding], severity: Found, text: &str) {
    let found = findings
        .iter()
        .any(|finding| finding.severity == severity && finding.message.contains(text));
    assert!(found, "no {severity:?} with {text:?}: {findings:#?}");
}

fn damaged_files(repo: &TestRepo) -> Vec<PathBuf> {
    let files = fs::read_dir(repo.store_dir()).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let damaged = files.filter(|path| path.to_string_lossy().contains(".damaged-"));
    damaged.collect()
}

#[tokio::test]
async fn a_damaged_database_is_kept_and_rebuilt_from_refs() {
    for damage in ["its head", "its middle", "all of it"] {
        let (repo, made, before) = with_threads().await;
        let refs_before = refs(&repo);
        let database = repo.store_dir().join("heddle.db");
        let mut bytes = fs::read(&database).unwrap();
        let pages = bytes.len() / 4_096;
        match damage {
            "its head" => bytes[..100].fill(b'x'),
            "its middle" => bytes[4_096..(pages - 2) * 4_096].fill(0xa5),
            _ => bytes = b"not a database at all".repeat(1_000),
        }
        fs::write(&database, &bytes).unwrap();
        let said = repo.heddle(["agent", "serve"]).fails_with(1);
        assert!(said.contains("heddle doctor --repair"), "{damage}: {said}");
        let looked = upkeep::check_without_daemon(&repo.open());
        assert_found(&looked, Found::Bad, "the database is damaged");
        assert_eq!(fs::read(&database).unwrap(), bytes, "{damage}");

        let mended = repair(&repo);
        assert_found(&mended, Found::Repaired, "a new one was made");
        assert_found(
            &mended,
            Found::Repaired,
            "took in 2 threads, 4 chains and 8 captures",
        );
        let aside = damaged_files(&repo);
        let same = aside.iter().any(|path| fs::read(path).unwrap() == bytes);
        assert!(same, "{damage}: the damaged file is kept: {aside:?}");
        assert!(
            mended.iter().all(|found| found.severity != Found::Bad),
            "{mended:#?}"
        );
        let _daemon = repo.serve();
        assert_known_again(&repo, &made, &before, &refs_before).await;
    }
}

#[tokio::test]
async fn a_sound_database_is_not_replaced_and_refs_are_mended_without_a_daemon() {
    let (repo, made) = with_chains(2).await;
    let before = refs(&repo);
    let operations = fs::read(repo.store_dir().join("heddle.db")).unwrap().len();
    repo.git(&["update-ref", "-d", "refs/heddle/kept/main/1"]);
    repo.git(&["update-ref", "refs/heddle/threads/main", &made[0][0]]);
    let mended = repair(&repo);
    assert_found(&mended, Found::Repaired, "kept/main/1 is missing");
    assert_found(&mended, Found::Good, "heddle.db is sound");
    assert_eq!(refs(&repo), before);
    assert_eq!(damaged_files(&repo), Vec::<PathBuf>::new());
    let now = fs::read(repo.store_dir().join("heddle.db")).unwrap().len();
    assert_eq!(now, operations);
}
