//! Upkeep through the socket: what is dropped, what is freed and what stays. And what the tests of
//! checks and repairs share.

use std::{collections::BTreeSet, fs};

use heddle_agent::grpc_local_impl::proto::{
    local::{
        CheckRepositoryRequest, CollectGarbageRequest, CollectGarbageResponse, Finding,
        finding::Severity, restore_target::Target, upkeep_service_client::UpkeepServiceClient,
    },
    v1::{ListThreadsRequest, StartThreadRequest, ThreadSummary},
};
use nix::sys::signal::Signal;
use rusqlite::Connection;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

use crate::{
    harness::{TestRepo, run},
    states::{capture, captured, restore, threads, to, to_state},
};

/// Drops chains.
pub async fn collect(
    channel: &Channel,
    request: CollectGarbageRequest,
) -> Result<CollectGarbageResponse, Status> {
    let mut client = UpkeepServiceClient::new(channel.clone());
    Ok(client.collect_garbage(request).await?.into_inner())
}

/// What stays by number alone.
pub fn keep(chains: u32) -> CollectGarbageRequest {
    CollectGarbageRequest {
        keep_chains: chains,
        keep_days: Some(0),
        ..Default::default()
    }
}

/// Checks the repository.
pub async fn check(channel: &Channel, repair: bool) -> Vec<Finding> {
    let mut client = UpkeepServiceClient::new(channel.clone());
    let request = CheckRepositoryRequest {
        repair,
        ..Default::default()
    };
    let answer = client.check_repository(request).await;
    answer.unwrap().into_inner().findings
}

/// What of it is not as it should be, as `area: message`.
pub fn amiss(findings: &[Finding]) -> Vec<String> {
    let amiss = findings.iter().filter(|f| f.severity() != Severity::Good);
    amiss.map(told).collect()
}

fn told(finding: &Finding) -> String {
    let severity = format!("{:?}", finding.severity()).to_lowercase();
    format!("{} {severity}: {}", finding.area, finding.message)
}

#[track_caller]
pub fn assert_told(findings: &[Finding], area: &str, severity: Severity, text: &str) {
    let found = findings
        .iter()
        .any(|f| f.area == area && f.severity() == severity && f.message.contains(text));
    let all: Vec<_> = findings.iter().map(told).collect();
    assert!(found, "no {area} {severity:?} with {text:?}: {all:#?}");
}

/// Captures of a thread in chains of two, each ended by a commit of the user's; answers the states,
/// chain by chain. The last chain is under way.
pub async fn chains(repo: &TestRepo, channel: &Channel, count: usize) -> Vec<[String; 2]> {
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
pub fn refs(repo: &TestRepo) -> Vec<String> {
    let refs = repo.git(&[
        "for-each-ref",
        "--format=%(refname) %(objectname)",
        "refs/heddle",
    ]);
    refs.lines().map(str::to_owned).collect()
}

/// The numbers of the chains of `main` that are kept.
pub fn kept(repo: &TestRepo) -> Vec<u32> {
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

pub fn is_there(repo: &TestRepo, state: &str) -> bool {
    let commit = format!("{state}^{{commit}}");
    let mut cat = repo.command("git");
    run(cat.args(["cat-file", "-e", &commit])).status.success()
}

/// Every object that Git has.
pub fn objects(repo: &TestRepo) -> BTreeSet<String> {
    let all = [
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objectname)",
    ];
    repo.git(&all).lines().map(str::to_owned).collect()
}

#[track_caller]
pub fn assert_sound(repo: &TestRepo) {
    let mut fsck = repo.command("git");
    let said = run(fsck.args(["fsck", "--strict", "--no-dangling"]));
    assert!(said.status.success() && said.stdout.is_empty(), "{said:?}");
}

/// A repository with chains, that no daemon serves.
pub async fn with_chains(count: usize) -> (TestRepo, Vec<[String; 2]>) {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let made = chains(&repo, &repo.channel().await, count).await;
    daemon.stop();
    (repo, made)
}

pub async fn listed(channel: &Channel) -> Vec<ThreadSummary> {
    let mut client = threads(channel);
    let answer = client.list_threads(ListThreadsRequest::default());
    answer.await.unwrap().into_inner().threads
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
