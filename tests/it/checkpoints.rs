//! Checkpoints: what plain Git does is in the operation log, with its author, in order, once: while
//! a daemon runs, and what was done while none ran.

use std::{fs, path::Path};

use heddle_agent::grpc_local_impl::proto::v1::{
    OperationHit, QueryOperationsRequest, StreamOperationsRequest,
};
use tonic::{Streaming, transport::Channel};

use crate::{
    fault::{Act, Fault, kinds},
    harness::{DEADLINE, Daemon, HEDDLE, TestRepo, is_root, run, skip},
    rpc::{log, operations},
    states::{captured, hex},
};

/// The first moment of these tests; each command that needs one has a moment of its own.
const BEGIN: i64 = 1_700_000_000;

fn only_checkpoints() -> QueryOperationsRequest {
    QueryOperationsRequest {
        verbs: vec!["checkpoint".into()],
        limit: 10_000,
        ..Default::default()
    }
}

/// The checkpoints so far.
async fn checkpoints(repo: &TestRepo) -> Vec<OperationHit> {
    operations(&repo.channel().await, only_checkpoints()).await
}

/// What the checkpoints so far say, with `#` for ids.
pub async fn told(repo: &TestRepo) -> Vec<String> {
    let hits = checkpoints(repo).await;
    hits.iter().map(|hit| plain(&hit.summary)).collect()
}

fn plain(summary: &str) -> String {
    let is_id = |text: &str| text.len() >= 10 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let word = |word: &str| {
        let (text, end) = match word.strip_suffix(':') {
            Some(text) => (text, ":"),
            None => (word, ""),
        };
        match text.split_once("..") {
            Some((old, new)) if is_id(old) && is_id(new) => format!("#..#{end}"),
            None if is_id(text) => format!("#{end}"),
            _ => word.to_owned(),
        }
    };
    let words: Vec<String> = summary.split(' ').map(word).collect();
    words.join(" ")
}

/// Runs Git in a folder, a number of seconds after [`BEGIN`].
#[track_caller]
pub fn git_in(repo: &TestRepo, folder: &Path, at: i64, args: &[&str]) -> String {
    let date = format!("@{} +0000", BEGIN + at);
    run(repo
        .command("git")
        .current_dir(folder)
        .args(args)
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_DATE", &date))
    .ok()
}

fn commit(repo: &TestRepo, message: &str) {
    repo.git(&["commit", "-q", "--allow-empty", "-m", message]);
}

async fn follow(channel: &Channel) -> Streaming<OperationHit> {
    let request = StreamOperationsRequest {
        query: Some(QueryOperationsRequest {
            limit: 0,
            ..only_checkpoints()
        }),
        ..Default::default()
    };
    log(channel)
        .stream_operations(request)
        .await
        .unwrap()
        .into_inner()
}

async fn next(hits: &mut Streaming<OperationHit>) -> OperationHit {
    let hit = tokio::time::timeout(DEADLINE, hits.message()).await;
    hit.expect("nothing is told").unwrap().unwrap()
}

/// A repository that a daemon has been in, and that none serves now.
fn known() -> TestRepo {
    let repo = TestRepo::new();
    repo.serve().stop();
    repo
}

#[tokio::test]
async fn a_commit_is_told_to_who_follows_the_log_with_all_that_git_says_of_it() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut hits = follow(&channel).await;
    let old = repo.git(&["rev-parse", "HEAD"]);
    run(repo
        .command("git")
        .args([
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "Add the parser\n\nLong.",
        ])
        .env("GIT_COMMITTER_NAME", "Bob")
        .env("GIT_COMMITTER_EMAIL", "bob@example.com")
        .env("GIT_COMMITTER_DATE", format!("@{BEGIN} +0100")))
    .ok();
    let new = repo.git(&["rev-parse", "HEAD"]);
    let hit = next(&mut hits).await;
    assert_eq!(hit.verb, "checkpoint");
    assert_eq!(
        (&*hit.actor_name, &*hit.actor_email),
        ("Bob", "bob@example.com")
    );
    assert_eq!((hit.timestamp_secs, &*hit.thread), (BEGIN, "main"));
    assert_eq!(hex(&hit.state_id), new.trim());
    assert_eq!((&*hit.agent, hit.operation_id.len()), ("", 36));
    let summary = format!(
        "commit on main, {}..{}: Add the parser",
        &old[..10],
        &new[..10]
    );
    assert_eq!(hit.summary, summary);
    // What is not asked for is left out, as ever.
    assert!(
        operations(&channel, QueryOperationsRequest::default())
            .await
            .is_empty()
    );

    let json = repo
        .heddle(["log", "--checkpoints", "--output", "json"])
        .json();
    assert_eq!(json["summary"], summary);
    assert_eq!(json["actor_name"], "Bob");
    let text = repo.heddle(["log", "--verb", "checkpoint"]).ok();
    assert!(
        text.contains(&summary) && text.contains("bob@example.com"),
        "{text}"
    );
}

#[tokio::test]
async fn commits_in_the_worktree_of_a_thread_are_on_that_thread() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let path = repo.around().join("fix");
    let start = ["thread", "start", "fix", "--path", path.to_str().unwrap()];
    repo.heddle(start).ok();
    let args = ["commit", "-q", "--allow-empty", "-m", "mend"];
    git_in(&repo, &path, 0, &args);
    repo.git(&["checkout", "-q", "--detach"]);
    let here = ["commit", "-q", "--allow-empty", "-m", "here"];
    git_in(&repo, repo.root(), 1, &here);
    daemon.stop();
    git_in(&repo, &path, 2, &args);
    let _daemon = repo.serve();
    let hits = checkpoints(&repo).await;
    let said: Vec<_> = hits
        .iter()
        .map(|hit| (&*hit.thread, plain(&hit.summary)))
        .collect();
    let mended = || {
        (
            "fix",
            "commit on HEAD of worktree fix, #..#: mend".to_owned(),
        )
    };
    let here = ("detached/main", "commit on HEAD, #..#: here".to_owned());
    assert_eq!(said, [mended(), here, mended()]);
}

/// What people do with Git, each at a moment of its own.
fn work(linked: &Path) -> Vec<(Option<&'static str>, Vec<String>)> {
    let linked = linked.to_str().unwrap();
    let empty = "commit -q --allow-empty -m";
    let main: &[(&str, Option<&str>)] = &[
        (empty, Some("one")),
        (empty, Some("two")),
        ("commit -q --amend --allow-empty -m", Some("two again")),
        ("reset -q --hard HEAD~1", None),
        ("checkout -q -b feature/deep/side", None),
        (empty, Some("three")),
        ("checkout -q main", None),
        (empty, Some("four")),
        ("merge -q --no-ff --no-edit feature/deep/side", None),
        ("branch -m feature/deep/side topic", None),
        ("branch -f topic HEAD~1", None),
        ("branch -c topic copy", None),
        ("checkout -q copy", None),
        (empty, Some("five")),
        ("rebase -q main", None),
        ("checkout -q --detach", None),
        (empty, Some("six")),
        ("checkout -q main", None),
        ("cherry-pick --allow-empty copy@{1}", None),
        ("update-ref refs/heads/bare HEAD~1", None),
        ("tag v1", None),
        ("stash -q", None),
        ("pack-refs --all", None),
        ("branch -q -D bare", None),
    ];
    let words = |command: &str, last: Option<&str>| -> Vec<String> {
        let words = command.split(' ').chain(last);
        words.map(str::to_owned).collect()
    };
    let mut all: Vec<(Option<&'static str>, Vec<String>)> = main
        .iter()
        .map(|(command, last)| (None, words(command, *last)))
        .collect();
    all.push((None, words("worktree add -q -b linked", Some(linked))));
    all.push((Some("linked"), words(empty, Some("seven"))));
    all.push((Some("linked"), words("checkout -q --detach", None)));
    all.push((Some("linked"), words(empty, Some("eight"))));
    all
}

/// Does it; after each step `then`.
async fn do_work(repo: &TestRepo, mut then: impl AsyncFnMut()) {
    let linked = repo.around().join("linked");
    for (at, (folder, words)) in work(&linked).into_iter().enumerate() {
        let folder = folder.map_or(repo.root(), |_| &linked);
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        git_in(repo, folder, at as i64, &args);
        then().await;
    }
}

const TOLD: &[&str] = &[
    "commit on main, #..#: one",
    "commit on main, #..#: two",
    "commit (amend) on main, #..#: two again",
    "reset on main, #..#: moving to HEAD~1",
    "branch on feature/deep/side, #: Created from HEAD",
    "commit on feature/deep/side, #..#: three",
    "commit on main, #..#: four",
    "merge feature/deep/side on main, #..#: Merge made by the 'ort' strategy.",
    "Branch on topic, #: renamed refs/heads/feature/deep/side to refs/heads/topic",
    "branch on topic, #..#: Reset to HEAD~1",
    "Branch on copy, #: copied refs/heads/topic to refs/heads/copy",
    "commit on copy, #..#: five",
    "rebase (pick) on HEAD, #..#: five",
    "rebase (finish) on copy, #..#: refs/heads/copy onto #",
    "commit on HEAD, #..#: six",
    "cherry-pick on main, #..#: five",
];

#[tokio::test]
async fn everything_is_told_once_and_in_order_while_a_daemon_runs() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    do_work(&repo, async || drop(told(&repo).await)).await;
    let mut expected: Vec<&str> = TOLD.to_vec();
    expected.extend([
        "created bare, #",
        "deleted bare, which was at #",
        "branch on linked, #: Created from HEAD",
        "commit on linked, #..#: seven",
        "commit on HEAD of worktree linked, #..#: eight",
    ]);
    assert_eq!(told(&repo).await, expected);
    // Nor is anything told again.
    daemon.crash();
    daemon = repo.serve();
    assert_eq!(told(&repo).await, expected);
    daemon.stop();
}

#[tokio::test]
async fn what_was_done_while_no_daemon_ran_is_in_the_first_answer() {
    let repo = known();
    do_work(&repo, async || ()).await;
    let _daemon = repo.serve();
    let mut expected: Vec<&str> = TOLD.to_vec();
    // What came and went is nowhere in Git any more.
    expected.extend([
        "branch on linked, #: Created from HEAD",
        "commit on linked, #..#: seven",
        "commit on HEAD of worktree linked, #..#: eight",
    ]);
    assert_eq!(told(&repo).await, expected);
    let hits = checkpoints(&repo).await;
    assert!(hits.iter().all(|hit| hit.actor_email == "ada@example.com"));
    assert!(hits.is_sorted_by_key(|hit| hit.timestamp_secs));
    assert!(hits.iter().all(|hit| hit.timestamp_secs >= BEGIN));
    assert!(hits.last().unwrap().timestamp_secs < BEGIN + 100);
}

#[tokio::test]
async fn commits_are_in_the_order_in_which_head_saw_them_whatever_their_time() {
    let repo = known();
    repo.git(&["branch", "z"]);
    for (at, branch) in ["z", "main", "z", "main"].into_iter().enumerate() {
        // The clock is set back all the time.
        let time = 10 - at as i64;
        git_in(&repo, repo.root(), time, &["checkout", "-q", branch]);
        let message = at.to_string();
        let args = ["commit", "-q", "--allow-empty", "-m", &message];
        git_in(&repo, repo.root(), time, &args);
    }
    let _daemon = repo.serve();
    let told = told(&repo).await;
    let commits: Vec<_> = told
        .iter()
        .filter(|text| text.starts_with("commit"))
        .collect();
    assert_eq!(
        commits,
        [
            "commit on z, #..#: 0",
            "commit on main, #..#: 1",
            "commit on z, #..#: 2",
            "commit on main, #..#: 3"
        ]
    );
}

#[tokio::test]
async fn history_of_before_the_first_daemon_is_not_told_and_what_comes_right_after_is() {
    let repo = TestRepo::new();
    repo.git(&["branch", "old"]);
    repo.git(&["pack-refs", "--all"]);
    let mut daemon = repo.serve();
    commit(&repo, "new");
    assert_eq!(told(&repo).await, ["commit on main, #..#: new"]);
    daemon.stop();
    repo.git(&["branch", "-q", "-D", "old"]);
    let _daemon = repo.serve();
    assert_eq!(told(&repo).await[1..], ["deleted old, which was at #"]);
    let gone = checkpoints(&repo).await.pop().unwrap();
    assert_eq!((&*gone.actor_name, &*gone.thread), ("unknown", "old"));
}

#[tokio::test]
async fn g3_many_commits_are_told_once_each_while_a_daemon_looks() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut hits = follow(&channel).await;
    // As quick as Git can, by both ways in which it writes down a move.
    let script = "for n in $(seq 75); do
            c=$(git commit-tree -p HEAD -m $n HEAD^{tree}) && git update-ref -m \"made: $n\" HEAD $c &&
            d=$(git commit-tree -p HEAD -m $n HEAD^{tree}) && git update-ref -m \"set: $n\" refs/heads/main $d ||
            exit 1
        done";
    let mut making = repo.command("sh").args(["-c", script]).spawn().unwrap();
    let mut seen = Vec::new();
    while seen.len() < 150 {
        seen.push(plain(&next(&mut hits).await.summary));
    }
    assert!(making.wait().unwrap().success());
    let of = |n: u32| {
        [
            format!("made on main, #..#: {n}"),
            format!("set on main, #..#: {n}"),
        ]
    };
    let expected: Vec<String> = (1..=75).flat_map(of).collect();
    assert_eq!(seen, expected);
    commit(&repo, "last");
    assert_eq!(
        plain(&next(&mut hits).await.summary),
        "commit on main, #..#: last"
    );
    assert_eq!(told(&repo).await.len(), 151);
}

#[tokio::test]
async fn a_rebase_of_many_and_a_fetch_of_many_branches_are_told_whole() {
    let repo = TestRepo::new();
    let mut import = String::new();
    for n in 0..300 {
        let from = if n == 0 {
            "from refs/heads/main^0\n"
        } else {
            ""
        };
        import += &format!(
            "commit refs/heads/side\ncommitter Ada <ada@example.com> {} +0000\ndata 4\n{n:04}\n{from}M 100644 inline {n}\ndata 1\nx\n",
            BEGIN + n,
        );
    }
    fs::write(repo.path(".git/import"), import).unwrap();
    let _daemon = repo.serve();
    run(repo
        .command("sh")
        .args(["-c", "git fast-import --quiet <.git/import"]))
    .ok();
    let said = told(&repo).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(" on side, #"), "{said:?}");

    commit(&repo, "onto");
    repo.git(&["checkout", "-q", "side"]);
    repo.git(&["rebase", "-q", "main"]);
    let said = told(&repo).await;
    let picked = said
        .iter()
        .filter(|text| text.starts_with("rebase (pick) on HEAD"));
    assert_eq!(picked.count(), 300);
    assert!(
        said.last().unwrap().starts_with("rebase (finish) on side"),
        "{said:?}"
    );
    assert_eq!(said.len(), 303);

    // More than are committed together.
    let script = "git clone -q --bare . ../other && cd ../other &&
        for n in $(seq 600); do echo create refs/heads/b/$n HEAD; done | git update-ref --stdin";
    run(repo.command("sh").args(["-c", script])).ok();
    repo.git(&["fetch", "-q", "../other", "refs/heads/b/*:refs/heads/b/*"]);
    assert_eq!(told(&repo).await.len(), 903);
    let script = "for n in $(seq 600); do echo delete refs/heads/b/$n; done |
        git update-ref --stdin";
    run(repo.command("sh").args(["-c", script])).ok();
    let said = told(&repo).await;
    assert_eq!(said.len(), 1503);
    assert!(
        said[903..]
            .iter()
            .all(|text| text.starts_with("deleted b/"))
    );
}

#[tokio::test]
async fn g3_reflogs_that_are_expired_cut_or_begun_anew_tell_nothing_twice() {
    let repo = known();
    for round in ["while none runs", "while one runs"] {
        let mut daemon = (round == "while one runs").then(|| repo.serve());
        let before = if daemon.is_some() {
            told(&repo).await.len()
        } else {
            0
        };
        commit(&repo, "one");
        commit(&repo, "two");
        let settle = async |daemon: &mut Option<Daemon>| {
            let mut mine = (daemon.is_none()).then(|| repo.serve());
            let said = told(&repo).await;
            if let Some(daemon) = &mut mine {
                daemon.stop();
            }
            said[before..].to_vec()
        };
        let one_two = ["commit on main, #..#: one", "commit on main, #..#: two"];
        assert_eq!(settle(&mut daemon).await[..2], one_two, "{round}");
        repo.git(&["reflog", "delete", "main@{1}", "HEAD@{1}"]);
        assert_eq!(
            settle(&mut daemon).await.len(),
            2,
            "{round}: one was deleted"
        );
        repo.git(&["reflog", "expire", "--expire=now", "--rewrite", "--all"]);
        assert_eq!(settle(&mut daemon).await.len(), 2, "{round}: all expired");
        commit(&repo, "three");
        repo.git(&["gc", "-q", "--prune=now"]);
        assert_eq!(
            settle(&mut daemon).await[2..],
            ["commit on main, #..#: three"],
            "{round}"
        );
        commit(&repo, "four");
        repo.git(&["reflog", "delete", "--rewrite", "main@{1}", "HEAD@{1}"]);
        commit(&repo, "five");
        let said = settle(&mut daemon).await;
        // What four came after may have been rewritten already when it was seen.
        let four = said[3].replace("#..#", "#");
        assert_eq!(four, "commit on main, #: four", "{round}");
        assert_eq!(said[4..], ["commit on main, #..#: five"], "{round}");
        fs::remove_dir_all(repo.path(".git/logs")).unwrap();
        assert_eq!(
            settle(&mut daemon).await.len(),
            5,
            "{round}: logs were removed"
        );
        commit(&repo, "six");
        assert_eq!(
            settle(&mut daemon).await[5..],
            ["commit on main, #..#: six"],
            "{round}"
        );
        // In one second, a branch that is another each time.
        for name in ["again", "again", "other"] {
            repo.git(&["branch", name]);
            settle(&mut daemon).await;
            repo.git(&["branch", "-q", "-D", name]);
            settle(&mut daemon).await;
        }
        let said = settle(&mut daemon).await;
        let names = ["again", "again", "other"].iter().flat_map(|name| {
            [
                format!("branch on {name}, #: Created from main"),
                format!("deleted {name}, which was at #"),
            ]
        });
        assert_eq!(said[6..], names.collect::<Vec<_>>(), "{round}");
        if let Some(daemon) = &mut daemon {
            daemon.stop();
        }
    }
}

#[tokio::test]
async fn g10_lines_that_are_none_of_gits_are_passed_over() {
    use std::io::Write;
    let repo = known();
    let garbage = |bytes: &[u8]| {
        for log in ["HEAD", "refs/heads/main"] {
            let path = repo.path(".git/logs").join(log);
            let mut log = fs::OpenOptions::new().append(true).open(path).unwrap();
            log.write_all(bytes).unwrap();
        }
    };
    commit(&repo, "one");
    garbage(b"garbage\n\n\0\0\0\xff\xfe\tx\n");
    commit(&repo, "two");
    let daemon = repo.serve();
    let two = ["commit on main, #..#: one", "commit on main, #..#: two"];
    assert_eq!(told(&repo).await, two);
    garbage(b"0000 0000 Nobody <> 0 +0000\tgarbage\n");
    commit(&repo, "three");
    // Not finished, so not read.
    garbage(b"0000000000000000000000000000000000000000 ");
    assert_eq!(told(&repo).await[2..], ["commit on main, #..#: three"]);
    daemon.wait_for_line("none of Git's");
}

#[cfg(unix)]
#[tokio::test]
async fn g10_a_log_that_cannot_be_read_stops_nothing_and_is_told_of_later() {
    let repo = known();
    repo.git(&["checkout", "-q", "-b", "side"]);
    commit(&repo, "one");
    let (log, aside) = (
        repo.path(".git/logs/refs/heads/side"),
        repo.path(".git/aside"),
    );
    fs::rename(&log, &aside).unwrap();
    std::os::unix::fs::symlink("side", &log).unwrap();
    let daemon = repo.serve();
    assert_eq!(told(&repo).await, [""; 0]);
    daemon.wait_for_line("refs/heads/side is not in the log yet");
    repo.git(&["branch", "other"]);
    assert_eq!(told(&repo).await, ["branch on other, #: Created from side"]);
    captured(&repo.channel().await, "goes on").await;
    fs::rename(&aside, &log).unwrap();
    assert_eq!(
        told(&repo).await[1..],
        [
            "branch on side, #: Created from HEAD",
            "commit on side, #..#: one"
        ]
    );
}

#[tokio::test]
async fn branches_without_reflogs_are_told_by_where_they_lead() {
    let repo = TestRepo::empty_at("repo");
    repo.git(&["config", "core.logAllRefUpdates", "false"]);
    commit(&repo, "first");
    let mut daemon = repo.serve();
    let expected = [
        "moved main, #..#: second",
        "created side, #: second",
        "moved side, #..#: first",
        "deleted side, which was at #",
    ];
    for round in 0..2 {
        let step = async |args: &[&str], daemon: &mut Daemon| {
            if round == 1 {
                daemon.stop();
            }
            repo.git(args);
            if round == 1 {
                *daemon = repo.serve();
            }
            let _ = told(&repo).await;
        };
        step(
            &["commit", "-q", "--allow-empty", "-m", "second"],
            &mut daemon,
        )
        .await;
        step(&["branch", "side"], &mut daemon).await;
        step(&["branch", "-f", "side", ":/first"], &mut daemon).await;
        step(&["branch", "-q", "-D", "side"], &mut daemon).await;
        assert_eq!(told(&repo).await[4 * round..], expected);
    }
    let hits = checkpoints(&repo).await;
    assert_eq!(hits[0].actor_email, "ada@example.com");
    assert_eq!(
        (&*hits[3].actor_name, &*hits[3].actor_email),
        ("unknown", "")
    );
}

#[tokio::test]
async fn pushes_into_a_bare_repository_are_told() {
    let repo = TestRepo::new();
    let bare = TestRepo::at("other");
    let path = bare.around().join("bare.git");
    bare.git(&["init", "-q", "--bare", path.to_str().unwrap()]);
    let serve = |args: [&str; 2]| {
        let mut command = bare.command(HEDDLE);
        command.current_dir(&path).args(args);
        command
    };
    let daemon = Daemon::spawn(serve(["agent", "serve"]));
    daemon.wait_for_line("serving");
    repo.git(&["push", "-q", path.to_str().unwrap(), "main", "main:side"]);
    let said = run(&mut serve(["log", "--checkpoints"])).ok();
    assert!(
        said.contains("created main") && said.contains("created side"),
        "{said}"
    );
    assert!(
        said.contains(": first") && said.contains("ada@example.com"),
        "{said}"
    );
}

#[tokio::test]
async fn commits_named_by_sha_256_are_told() {
    let repo = TestRepo::empty_at("sha256");
    fs::remove_dir_all(repo.path(".git")).unwrap();
    repo.git(&["init", "-q", "-b", "main", "--object-format=sha256"]);
    repo.git(&["config", "user.name", "Ada"]);
    repo.git(&["config", "user.email", "ada@example.com"]);
    let mut daemon = repo.serve();
    commit(&repo, "one");
    let hits = checkpoints(&repo).await;
    assert_eq!(
        hex(&hits[0].state_id),
        repo.git(&["rev-parse", "HEAD"]).trim()
    );
    assert_eq!(plain(&hits[0].summary), "commit (initial) on main, #: one");
    daemon.stop();
    commit(&repo, "two");
    let _daemon = repo.serve();
    assert_eq!(told(&repo).await[1..], ["commit on main, #..#: two"]);
}

#[tokio::test]
async fn g3_a_daemon_killed_at_each_step_of_catching_up_tells_everything_once() {
    let repo = known();
    let control = tempfile::Builder::new().prefix("hdl").tempdir().unwrap();
    let name = "g3_a_daemon_killed_at_each_step_of_catching_up";
    let Some(fault) = Fault::beside(name, control.path(), &repo.around()) else {
        return;
    };
    let mut expected = 0;
    for step in 1.. {
        assert!(step < 500);
        commit(&repo, "one");
        repo.git(&["checkout", "-q", "--detach"]);
        commit(&repo, "two");
        repo.git(&["checkout", "-q", "main"]);
        expected += 2;
        let act = if step % 2 == 0 {
            Act::KillBefore
        } else {
            Act::KillAfter
        };
        fault.arm(act, step, kinds::ALL);
        let mut daemon = Daemon::spawn(fault.serve(&repo));
        if daemon.came_up() {
            // It may be killed while it is asked.
            let holder = heddle_agent::local_daemon::ask(&repo.open(), DEADLINE).await;
            if let heddle_agent::local_daemon::Holder::Serving { channel, .. } = holder {
                let _ = log(&channel).query_operations(only_checkpoints()).await;
            }
        }
        let hit = fault.hit();
        fault.disarm();
        daemon.crash();
        let mut daemon = repo.serve();
        let said = told(&repo).await;
        assert_eq!(said.len(), expected, "killed at step {step}, {hit:?}");
        daemon.stop();
        if hit.is_none() {
            break;
        }
    }
}

#[tokio::test]
async fn g8_commits_keep_no_daemon_from_leaving() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve_with(&["--idle-timeout", "300ms"]);
    let mut made = 0;
    while daemon.ended().is_none() {
        commit(&repo, "again");
        made += 1;
        assert!(made < 10_000, "it does not leave");
    }
    daemon.wait_for_line("idle, leaving");
    let _daemon = repo.serve();
    assert_eq!(told(&repo).await.len(), made);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn where_nothing_tells_of_changes_git_is_looked_at_for_who_asks_and_who_follows() {
    let repo = TestRepo::new();
    let script = "echo 0 >/proc/sys/user/max_inotify_instances && exec \"$0\" agent serve";
    let unshared = ["--user", "--map-root-user", "sh", "-c"];
    let mut command = repo.command("unshare");
    command.args(unshared).args([script, HEDDLE]);
    let probe = run(repo.command("unshare").args(unshared).arg("exit 0"));
    if !probe.status.success() || !is_root() {
        return skip("where_nothing_tells_of_changes", "no namespace of users");
    }
    let daemon = Daemon::spawn(command);
    daemon.wait_for_line("serving");
    commit(&repo, "one");
    assert_eq!(told(&repo).await, ["commit on main, #..#: one"]);
    daemon.wait_for_line("noticed only when somebody asks");
    let mut hits = follow(&repo.channel().await).await;
    next(&mut hits).await;
    commit(&repo, "two");
    assert_eq!(
        plain(&next(&mut hits).await.summary),
        "commit on main, #..#: two"
    );
}
