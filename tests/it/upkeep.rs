//! Upkeep through the socket: what is dropped, what is freed and what stays; checks and repairs.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
};

use heddle_agent::{
    grpc_local_impl::proto::{
        local::{
            CheckRepositoryRequest, CollectGarbageRequest, CollectGarbageResponse, Finding,
            finding::Severity, restore_target::Target, upkeep_service_client::UpkeepServiceClient,
        },
        v1::{ListThreadsRequest, StartThreadRequest, ThreadSummary},
    },
    local_daemon::RepositoryLock,
    upkeep::{self, Severity as Found},
};
use nix::sys::signal::Signal;
use rusqlite::Connection;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

use crate::{
    harness::{TestRepo, run},
    states::{capture, captured, hex, restore, threads, to, to_state},
};

/// Drops chains.
async fn collect(
    channel: &Channel,
    request: CollectGarbageRequest,
) -> Result<CollectGarbageResponse, Status> {
    let mut client = UpkeepServiceClient::new(channel.clone());
    Ok(client.collect_garbage(request).await?.into_inner())
}

/// What stays by number alone.
fn keep(chains: u32) -> CollectGarbageRequest {
    CollectGarbageRequest {
        keep_chains: chains,
        keep_days: Some(0),
        ..Default::default()
    }
}

/// Checks the repository.
async fn check(channel: &Channel, repair: bool) -> Vec<Finding> {
    let mut client = UpkeepServiceClient::new(channel.clone());
    let request = CheckRepositoryRequest {
        repair,
        ..Default::default()
    };
    let answer = client.check_repository(request).await;
    answer.unwrap().into_inner().findings
}

/// What of it is not as it should be, as `area: message`.
fn amiss(findings: &[Finding]) -> Vec<String> {
    let amiss = findings.iter().filter(|f| f.severity() != Severity::Good);
    amiss.map(told).collect()
}

fn told(finding: &Finding) -> String {
    let severity = format!("{:?}", finding.severity()).to_lowercase();
    format!("{} {severity}: {}", finding.area, finding.message)
}

#[track_caller]
fn assert_told(findings: &[Finding], area: &str, severity: Severity, text: &str) {
    let found = findings
        .iter()
        .any(|f| f.area == area && f.severity() == severity && f.message.contains(text));
    let all: Vec<_> = findings.iter().map(told).collect();
    assert!(found, "no {area} {severity:?} with {text:?}: {all:#?}");
}

/// Captures of a thread in chains of two, each ended by a commit of the user's; answers the states,
/// chain by chain. The last chain is under way.
async fn chains(repo: &TestRepo, channel: &Channel, count: usize) -> Vec<[String; 2]> {
    let mut made = Vec::new();
    for chain in 0..=count {
        let mut states = [String::new(), String::new()];
        for (step, state) in states.iter_mut().enumerate() {
            let unique = format!("{chain} {step} {}", Uuid::new_v4());
            fs::write(repo.path("work"), unique).unwrap();
            *state = captured(channel, "").await;
        }
        made.push(states);
        if chain < count {
            repo.git(&["commit", "-qm", "mine", "--allow-empty"]);
        }
    }
    made
}

/// The refs under `refs/heddle/`, with what they lead to.
fn refs(repo: &TestRepo) -> Vec<String> {
    let refs = repo.git(&[
        "for-each-ref",
        "--format=%(refname) %(objectname)",
        "refs/heddle",
    ]);
    refs.lines().map(str::to_owned).collect()
}

/// The numbers of the chains of `main` that are kept.
fn kept(repo: &TestRepo) -> Vec<u32> {
    let refs = repo.git(&[
        "for-each-ref",
        "--format=%(refname)",
        "refs/heddle/kept/main",
    ]);
    let numbers = refs.lines().map(|name| name.rsplit('/').next().unwrap());
    let mut numbers: Vec<u32> = numbers.map(|number| number.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn is_there(repo: &TestRepo, state: &str) -> bool {
    let commit = format!("{state}^{{commit}}");
    let mut cat = repo.command("git");
    run(cat.args(["cat-file", "-e", &commit])).status.success()
}

/// Every object that Git has.
fn objects(repo: &TestRepo) -> BTreeSet<String> {
    let all = [
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objectname)",
    ];
    repo.git(&all).lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_sound(repo: &TestRepo) {
    let mut fsck = repo.command("git");
    let said = run(fsck.args(["fsck", "--strict", "--no-dangling"]));
    assert!(said.status.success() && said.stdout.is_empty(), "{said:?}");
}

/// Changes the database of a repository that nobody serves.
fn in_database(repo: &TestRepo, statement: &str) {
    let database = Connection::open(repo.store_dir().join("heddle.db")).unwrap();
    database.execute_batch(statement).unwrap();
}

#[tokio::test]
async fn chains_beyond_their_number_go_oldest_first_and_git_gc_frees_them() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let made = chains(&repo, &channel, 5).await;
    assert_eq!(kept(&repo), [1, 2, 3, 4, 5]);

    let done = collect(&channel, keep(2)).await.unwrap();
    assert_eq!((done.dropped_chains, done.dropped_states), (3, 6));
    assert_eq!(done.kept_chains, 2);
    assert_eq!(kept(&repo), [4, 5]);

    let before = objects(&repo);
    repo.git(&["gc", "-q", "--prune=now"]);
    let freed = before.difference(&objects(&repo)).count() as u64;
    assert_eq!(done.freed_objects, freed, "what `git gc` removed");
    // A commit, a tree and a file for each state.
    assert_eq!(freed, 3 * 6);
    assert!(done.freed_bytes >= freed * 20, "{done:?}");
    for (at, states) in made.iter().enumerate() {
        for state in states {
            assert_eq!(is_there(&repo, state), at >= 3, "chain {}", at + 1);
        }
    }
    assert_sound(&repo);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    // What is kept can be had back.
    restore(&channel, to_state(&made[3][0])).await.unwrap();
    let work = fs::read_to_string(repo.path("work")).unwrap();
    assert!(work.starts_with("3 0 "), "{work}");
}

#[tokio::test]
async fn only_chains_beyond_both_number_and_age_go() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    chains(&repo, &channel, 4).await;
    let request = |chains, days| CollectGarbageRequest {
        keep_chains: chains,
        keep_days: Some(days),
        ..Default::default()
    };
    let young = collect(&channel, request(1, 1)).await.unwrap();
    assert_eq!((young.dropped_chains, young.kept_chains), (0, 4));
    assert_eq!((young.freed_objects, young.freed_bytes), (0, 0));

    daemon.stop();
    let past = "UPDATE chain SET ended_secs = ended_secs - 40 * 86400 WHERE number <= 3";
    in_database(&repo, past);
    // 50 chains of a thread stay, however old they are: what is configured where nothing is.
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let usual = collect(&channel, CollectGarbageRequest::default()).await;
    assert_eq!(usual.unwrap().dropped_chains, 0);
    let older = collect(&channel, request(2, 41)).await.unwrap();
    assert_eq!(older.dropped_chains, 0);
    let old = collect(&channel, request(2, 39)).await.unwrap();
    assert_eq!((old.dropped_chains, old.kept_chains), (2, 2));
    assert_eq!(kept(&repo), [3, 4]);
}

#[tokio::test]
async fn a_chain_that_a_thread_or_a_worktree_needs_stays() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let made = chains(&repo, &channel, 4).await;
    let from = StartThreadRequest {
        name: "next".into(),
        from_state: made[1][0].clone(),
        ..Default::default()
    };
    threads(&channel).start_thread(from).await.unwrap();
    // The worktree and its thread stand in the first chain; the fifth ends by it.
    restore(&channel, to_state(&made[0][0])).await.unwrap();
    assert_eq!(kept(&repo), [1, 2, 3, 4, 5]);

    let done = collect(&channel, keep(1)).await.unwrap();
    assert_eq!((done.dropped_chains, done.kept_chains), (2, 3));
    assert_eq!(kept(&repo), [1, 2, 5]);
    repo.git(&["gc", "-q", "--prune=now"]);
    for (at, states) in made.iter().enumerate() {
        assert_eq!(is_there(&repo, &states[0]), ![2, 3].contains(&at), "{at}");
    }
    assert_sound(&repo);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
}

#[tokio::test]
async fn what_later_captures_stand_on_outlives_its_chain() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let made = chains(&repo, &channel, 0).await;
    let [first, second] = &made[0];
    restore(&channel, to_state(first)).await.unwrap();
    fs::write(repo.path("work"), "another way").unwrap();
    let another = captured(&channel, "").await;
    assert_eq!(kept(&repo), [1]);

    let done = collect(&channel, keep(1)).await.unwrap();
    assert_eq!(done.dropped_chains, 0, "one is kept");
    repo.git(&["commit", "-qm", "mine", "--allow-empty"]);
    fs::write(repo.path("work"), "on").unwrap();
    captured(&channel, "").await;
    assert_eq!(kept(&repo), [1, 2]);
    let done = collect(&channel, keep(1)).await.unwrap();
    assert_eq!((done.dropped_chains, done.dropped_states), (1, 1));
    repo.git(&["gc", "-q", "--prune=now"]);
    assert!(is_there(&repo, first) && is_there(&repo, &another));
    assert!(!is_there(&repo, second));
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    // It is a step of the worktree's history still, and the one that went is none any more.
    restore(&channel, to(Target::Undo(3))).await.unwrap();
    let work = fs::read_to_string(repo.path("work")).unwrap();
    assert!(work.starts_with("0 0 "), "{work}");
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_and_changes_nothing() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    chains(&repo, &channel, 4).await;
    let before = (refs(&repo), objects(&repo));
    let dry = CollectGarbageRequest {
        dry_run: true,
        client_operation_id: Uuid::new_v4().to_string(),
        ..keep(1)
    };
    let told = collect(&channel, dry.clone()).await.unwrap();
    assert_eq!((told.dropped_chains, told.kept_chains), (3, 1));
    assert_eq!((refs(&repo), objects(&repo)), before);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    assert_eq!(collect(&channel, dry).await.unwrap(), told);
    assert_eq!(collect(&channel, keep(1)).await.unwrap(), told);
}

#[tokio::test]
async fn g3_a_repeated_collection_takes_effect_once_and_answers_the_same() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    chains(&repo, &channel, 3).await;
    let keyed = CollectGarbageRequest {
        client_operation_id: Uuid::new_v4().to_string(),
        ..keep(1)
    };
    let first = collect(&channel, keyed.clone()).await.unwrap();
    assert_eq!(first.dropped_chains, 2);
    chains(&repo, &channel, 3).await;
    let before = kept(&repo);
    assert_eq!(collect(&channel, keyed).await.unwrap(), first);
    assert_eq!(kept(&repo), before);
}

#[tokio::test]
async fn what_others_hold_is_not_freed() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let made = chains(&repo, &channel, 3).await;
    // The first chain's last state is a branch of the user's now, a file of the second is staged,
    // and one of the third was committed, and is no longer in any newest commit.
    repo.git(&["branch", "mine", &made[0][1]]);
    repo.git(&["read-tree", &made[1][1]]);
    let file = format!("{}:work", made[2][1]);
    let blob = repo.git(&["rev-parse", &file]);
    let entry = format!("100644,{},other/name", blob.trim());
    repo.git(&["update-index", "--add", "--cacheinfo", &entry]);
    repo.git(&["commit", "-qm", "with it"]);
    repo.git(&["rm", "-q", "--cached", "other/name"]);
    repo.git(&["commit", "-qm", "without it"]);
    fs::write(repo.path("work"), "on").unwrap();
    captured(&channel, "").await;

    let done = collect(&channel, keep(1)).await.unwrap();
    assert_eq!(done.dropped_chains, 3);
    let before = objects(&repo);
    repo.git(&["gc", "-q", "--prune=now"]);
    let gone: Vec<_> = before.difference(&objects(&repo)).cloned().collect();
    assert_eq!(done.freed_objects, gone.len() as u64, "{gone:?}");
    assert!(gone.len() < 3 * 4 && !gone.contains(&blob.trim().to_owned()));
    assert_sound(&repo);
}

#[tokio::test]
async fn captures_go_on_while_chains_are_dropped() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let collector = channel.clone();
    let (done, mut ended) = tokio::sync::oneshot::channel::<()>();
    let dropping = tokio::spawn(async move {
        let mut dropped = 0;
        while ended.try_recv().is_err() {
            match collect(&collector, keep(1)).await {
                Ok(done) => dropped += done.dropped_chains,
                Err(status) => assert!(status.message().contains("try again"), "{status:?}"),
            }
        }
        dropped
    });
    let mut last = String::new();
    for n in 0..20 {
        fs::write(repo.path("work"), format!("{n}")).unwrap();
        let state = captured(&channel, "").await;
        if n % 3 == 0 && !last.is_empty() {
            restore(&channel, to_state(&last)).await.unwrap();
        }
        if n % 2 == 0 {
            repo.git(&["commit", "-qm", "mine", "--allow-empty"]);
        }
        last = state;
    }
    done.send(()).unwrap();
    assert!(dropping.await.unwrap() > 5);
    repo.git(&["gc", "-q", "--prune=now"]);
    assert_sound(&repo);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
}

#[tokio::test]
async fn a_daemon_drops_what_is_past_its_time_by_itself() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    chains(&repo, &channel, 4).await;
    let config = repo.store_dir().join("config.toml");
    fs::write(&config, "[captures]\nkeep_chains = 3\nkeep_days = 0\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("dropped 1 chain past their time");
    assert_eq!(kept(&repo), [2, 3, 4]);
    daemon.stop();

    fs::write(&config, "[captures]\nkeep_chains = 0\nkeep_days = 0\n").unwrap();
    let daemon = repo.serve();
    daemon.wait_for_line("dropped 3 chains past their time");
    assert_eq!(kept(&repo), [0; 0]);
}

#[tokio::test]
async fn settings_of_captures_are_checked_and_the_size_guard_holds() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    daemon.stop();
    let config = repo.store_dir().join("config.toml");
    fs::write(&config, "[captures]\nsize_guard = \"2 bushels\"\n").unwrap();
    let said = repo.heddle(["agent", "serve"]).fails_with(1);
    assert!(said.contains("64MiB"), "{said}");
    fs::write(&config, "[captures]\nsize_guard = \"1KiB\"\n").unwrap();
    let _daemon = repo.serve();
    fs::write(repo.path("large"), [0; 1_025]).unwrap();
    fs::write(repo.path("small"), [0; 1_024]).unwrap();
    let done = capture(&repo.channel().await, "").await.unwrap();
    let left: Vec<_> = done.left_out.iter().map(|left| &left.path).collect();
    assert_eq!(left, ["large"]);
}

/// A repository with chains, that no daemon serves.
async fn with_chains(count: usize) -> (TestRepo, Vec<[String; 2]>) {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let made = chains(&repo, &repo.channel().await, count).await;
    daemon.stop();
    (repo, made)
}

#[tokio::test]
async fn refs_that_others_moved_are_moved_back_at_the_start() {
    for packed in [false, true] {
        let (repo, made) = with_chains(3).await;
        if packed {
            repo.git(&["pack-refs", "--all"]);
        }
        let before = refs(&repo);
        repo.git(&["update-ref", "-d", "refs/heddle/kept/main/1"]);
        repo.git(&["update-ref", "refs/heddle/kept/main/2", &made[0][0]]);
        repo.git(&["symbolic-ref", "refs/heddle/kept/main/3", "refs/heads/main"]);
        let thread = repo.path(".git/refs/heddle/threads/main");
        fs::create_dir_all(thread.parent().unwrap()).unwrap();
        // What a power cut can leave of a file.
        fs::write(&thread, "").unwrap();

        let daemon = repo.serve();
        assert_eq!(refs(&repo), before, "packed: {packed}");
        daemon.wait_for_line("refs/heddle/kept/main/1 is missing");
        daemon.wait_for_line("refs/heddle/kept/main/2 is at");
        daemon.wait_for_line("refs/heddle/threads/main is damaged");
        assert_sound(&repo);
    }
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

    let mended = check(&channel, true).await;
    let repaired = Severity::Repaired;
    assert_told(&mended, "refs", repaired, "kept/main/1 is missing");
    assert_told(&mended, "refs", repaired, "threads/main is at");
    assert_told(&mended, "refs", repaired, "threads/stray at");
    assert_told(&mended, "refs", warning, "refs/heddle/else/where");
    let mut now = refs(&repo);
    now.retain(|line| !line.contains("/stray ") && !line.contains("/else/"));
    assert_eq!(now, before);
    repo.git(&["update-ref", "-d", "refs/heddle/else/where"]);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    assert!(listed(&channel).await.iter().any(|t| t.name == "stray"));
}

async fn listed(channel: &Channel) -> Vec<ThreadSummary> {
    let mut client = threads(channel);
    let answer = client.list_threads(ListThreadsRequest::default());
    answer.await.unwrap().into_inner().threads
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
async fn an_older_database_takes_in_the_chains_that_came_after_it() {
    let (repo, _) = with_chains(1).await;
    let aside = repo.around().join("older.db");
    fs::copy(repo.store_dir().join("heddle.db"), &aside).unwrap();
    let mut daemon = repo.serve();
    chains(&repo, &repo.channel().await, 2).await;
    daemon.stop();
    let before = refs(&repo);
    lose_database(&repo);
    fs::copy(&aside, repo.store_dir().join("heddle.db")).unwrap();
    let daemon = repo.serve();
    daemon.wait_for_line("took in 0 threads, 2 chains and 5 captures");
    // No number is given twice, so that no ref is written over.
    let channel = repo.channel().await;
    chains(&repo, &channel, 2).await;
    let now = refs(&repo);
    for line in before.iter().filter(|line| line.contains("/kept/")) {
        assert!(now.contains(line), "{line} is gone: {now:#?}");
    }
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
    assert_eq!(damaged_files(&repo), [PathBuf::new(); 0]);
    let now = fs::read(repo.store_dir().join("heddle.db")).unwrap().len();
    assert_eq!(now, operations);
}

#[tokio::test]
async fn doctor_tells_of_damage_in_an_open_database() {
    let (repo, _) = with_chains(1).await;
    let database = Connection::open(repo.store_dir().join("heddle.db")).unwrap();
    let (page, size): (u64, u64) = database
        .query_row(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema
             WHERE name = 'operation_actor'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    drop(database);
    let path = repo.store_dir().join("heddle.db");
    let mut bytes = fs::read(&path).unwrap();
    let at = ((page - 1) * size) as usize;
    bytes[at + 100..at + size as usize].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let _daemon = repo.serve();
    let found = check(&repo.channel().await, true).await;
    assert_told(&found, "database", Severity::Bad, "heddle agent stop");
}

#[tokio::test]
async fn doctor_finds_captures_of_which_something_is_gone() {
    let (repo, made) = with_chains(2).await;
    let file = repo.git(&["rev-parse", &format!("{}:work", made[0][1])]);
    let tip = &made[1][1];
    for id in [file.trim(), tip.as_str()] {
        let (first, rest) = id.split_at(2);
        fs::remove_file(repo.path(format!(".git/objects/{first}/{rest}"))).unwrap();
    }
    repo.git(&["update-ref", "-d", "refs/heddle/kept/main/2"]);
    let _daemon = repo.serve();
    let found = check(&repo.channel().await, true).await;
    let bad = Severity::Bad;
    let lost_file = format!("{} cannot be restored in full: the file work", made[0][1]);
    assert_told(&found, "objects", bad, &lost_file);
    assert_told(
        &found,
        "objects",
        bad,
        &format!("{tip} cannot be restored in full: its commit"),
    );
    // No ref is made to what is not there: Git could not collect its garbage any more.
    assert_told(&found, "refs", bad, "kept/main/2 is missing");
    assert_eq!(kept(&repo), [1]);
    assert_eq!(amiss(&found).len(), 3, "{found:#?}");
}

#[tokio::test]
async fn doctor_mends_folders_and_links() {
    let repo = TestRepo::new();
    let linked = repo.around().join("linked");
    let linked = linked.to_str().unwrap();
    repo.git(&["worktree", "add", "-q", "--detach", linked]);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    let mode = |path: PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(repo.path(".heddle"), 0o755);
    mode(repo.store_dir(), 0o770);
    let exclude = repo.path(".git/info/exclude");
    fs::write(&exclude, "# nothing\n").unwrap();
    let link = repo.around().join("linked/.heddle/sockets/grpc.sock");
    fs::remove_file(&link).unwrap();
    symlink("/nowhere", &link).unwrap();

    let found = check(&channel, false).await;
    let (bad, repaired) = (Severity::Bad, Severity::Repaired);
    assert_told(&found, "folders", bad, ".heddle has the mode 755");
    assert_told(&found, "folders", bad, "heddle has the mode 770");
    assert_told(&found, "folders", bad, "lacks the line /.heddle/");
    assert_told(&found, "links", bad, "does not lead to");
    assert_eq!(amiss(&found).len(), 4, "{found:#?}");
    assert!(fs::read_link(&link).unwrap().starts_with("/nowhere"));

    let mended = check(&channel, true).await;
    assert_told(&mended, "folders", repaired, ".heddle has the mode 755");
    assert_told(&mended, "links", repaired, "does not lead to");
    assert_eq!(amiss(&mended).len(), 4, "{mended:#?}");
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
}

#[tokio::test]
async fn doctor_warns_where_a_push_would_publish_captures() {
    let repo = TestRepo::new();
    let daemon = repo.serve();
    let channel = repo.channel().await;
    chains(&repo, &channel, 1).await;
    let server = repo.around().join("server.git");
    repo.git(&["init", "-q", "--bare", server.to_str().unwrap()]);
    let there = |repo: &TestRepo| {
        let there = [
            "--git-dir",
            server.to_str().unwrap(),
            "for-each-ref",
            "refs/heddle",
        ];
        repo.git(&there).lines().count()
    };
    repo.git(&["remote", "add", "server", server.to_str().unwrap()]);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    repo.git(&["config", "remote.server.mirror", "true"]);
    let found = check(&channel, true).await;
    assert_told(&found, "remotes", Severity::Warning, "git push server");
    assert_told(&found, "remotes", Severity::Warning, "remote.server.mirror");

    // The advice works, as Git sees it.
    repo.git(&["config", "--unset", "remote.server.mirror"]);
    repo.git(&["config", "remote.server.push", "+refs/*:refs/*"]);
    let found = check(&channel, false).await;
    assert_told(&found, "remotes", Severity::Warning, "'^refs/heddle/*'");
    repo.git(&["config", "--add", "remote.server.push", "^refs/heddle/*"]);
    assert_eq!(amiss(&check(&channel, false).await), [""; 0]);
    repo.git(&["push", "-q", "server"]);
    assert_eq!(there(&repo), 0);
    drop(daemon);
}

#[tokio::test]
async fn doctor_compares_the_versions() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let mut client = UpkeepServiceClient::new(repo.channel().await);
    let request = CheckRepositoryRequest {
        client_version: "0.0.1".into(),
        ..Default::default()
    };
    let found = client.check_repository(request).await.unwrap();
    let found = found.into_inner().findings;
    assert_told(
        &found,
        "versions",
        Severity::Warning,
        "the client is heddle 0.0.1",
    );
    assert_told(&found, "versions", Severity::Good, "git version");
    assert_told(&found, "database", Severity::Good, "schema");
}
