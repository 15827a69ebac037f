//! Notices: committed with the change, told after it, at least once, also across a crash.

use std::{fs, time::Instant};

use crate::{
    harness::{TestRepo, eventually},
    listening::{change, listen, next, on, payload, register, start_thread, try_capture},
    states::{capture, captured},
};

fn lines(repo: &TestRepo, name: &str) -> Vec<String> {
    let text = fs::read_to_string(repo.around().join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn wait_for_lines(repo: &TestRepo, name: &str, count: usize) -> Vec<String> {
    eventually(name, || {
        Some(lines(repo, name)).filter(|lines| lines.len() >= count)
    })
}

#[tokio::test]
async fn a_notice_does_not_hold_the_answer_up_nor_does_it_veto() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let slow = "echo $HEDDLE_HOOK_EVENT_ID $(cat) >> ../told; while [ ! -e ../go ]; do sleep 0.01; done; exit 1";
    register(&channel, on("slow", slow, &["post_capture"])).await;
    let began = Instant::now();
    change(&repo, "1");
    let first = captured(&channel, "").await;
    change(&repo, "2");
    let second = captured(&channel, "").await;
    assert!(began.elapsed().as_secs() < 20, "the hook is not waited for");
    assert_eq!(
        wait_for_lines(&repo, "told", 1).len(),
        1,
        "one after another"
    );
    fs::write(repo.around().join("go"), "").unwrap();
    let told = wait_for_lines(&repo, "told", 2);
    assert!(
        told[0].contains(&first) && told[1].contains(&second),
        "{told:?}"
    );
    // What a hook looks up is there: the ref was moved before it was told.
    let tip = repo.git(&["rev-parse", "refs/heddle/threads/main"]);
    assert_eq!(tip.trim(), second);
}

#[tokio::test]
async fn what_was_not_told_before_a_crash_is_told_after_it_with_the_same_id() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let hang = "echo $HEDDLE_HOOK_EVENT_ID $(cat) >> ../told; [ -e ../go ] || sleep 600";
    register(&channel, on("hang", hang, &["post_capture"])).await;
    change(&repo, "1");
    let first = captured(&channel, "").await;
    change(&repo, "2");
    let second = captured(&channel, "").await;
    let before = wait_for_lines(&repo, "told", 1);
    daemon.crash();
    fs::write(repo.around().join("go"), "").unwrap();

    let mut daemon = repo.serve();
    let told = wait_for_lines(&repo, "told", 3);
    assert_eq!(told[1], before[0], "the first again, under its id");
    assert!(
        told[1].contains(&first) && told[2].contains(&second),
        "{told:?}"
    );
    // A subscriber that comes back now is told of both as well.
    let mut stream = listen(&repo.channel().await, &["post_capture"]).await;
    for (told, state) in told[1..].iter().zip([&first, &second]) {
        let event = next(&mut stream).await;
        assert!(told.starts_with(&event.hook_event_id), "{told}");
        assert_eq!(payload(&event)["state_id"], **state);
    }
    drop(stream);
    // Once told, commands are not told again.
    assert!(daemon.stop().success());
    let _again = repo.serve();
    change(&repo, "3");
    let third = captured(&repo.channel().await, "").await;
    let told = wait_for_lines(&repo, "told", 4);
    assert!(told[3].contains(&third), "{told:?}");
    assert_eq!(told.len(), 4);
}

#[tokio::test]
async fn what_was_told_is_not_kept() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    register(
        &channel,
        on("tell", "echo told >> ../told", &["post_capture"]),
    )
    .await;
    let mut stream = listen(&channel, &["post_capture"]).await;
    for n in 0..3 {
        try_capture(&repo, &channel, &n.to_string()).await.unwrap();
        next(&mut stream).await;
    }
    wait_for_lines(&repo, "told", 3);
    drop(stream);
    let kept = || {
        let database = rusqlite::Connection::open(repo.store_dir().join("heddle.db")).unwrap();
        let count = "SELECT count(*) FROM notice";
        database
            .query_row(count, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    eventually("all are pruned", || (kept() == 0).then_some(()));
    // With nobody who listens, nothing is written in the first place.
    start_thread(&channel, "quiet").await.unwrap();
    assert!(daemon.stop().success());
    let database = rusqlite::Connection::open(repo.store_dir().join("heddle.db")).unwrap();
    let last = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'notice'";
    let last: i64 = database.query_row(last, [], |row| row.get(0)).unwrap();
    assert_eq!(last, 3);
}

#[tokio::test]
async fn a_daemon_that_still_tells_is_not_idle() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve_with(&["--idle-timeout", "200ms"]);
    let channel = repo.channel().await;
    let slow =
        "echo begun >> ../told; while [ ! -e ../go ]; do sleep 0.01; done; echo ended >> ../told";
    register(&channel, on("slow", slow, &["post_capture"])).await;
    change(&repo, "1");
    capture(&channel, "").await.unwrap();
    drop(channel);
    wait_for_lines(&repo, "told", 1);
    // Several times as long as it stays idle: it would have left.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let leaves = |line: &String| line.contains("idle, leaving");
    assert!(!daemon.log().iter().any(leaves), "{:#?}", daemon.log());
    fs::write(repo.around().join("go"), "").unwrap();
    assert!(daemon.wait().success());
    assert_eq!(lines(&repo, "told"), ["begun", "ended"]);
}
