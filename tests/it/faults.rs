//! Honest failure (G10): full and read-only disks, damaged and foreign databases, folders removed
//! under the daemon, no descriptors left. Each is said in words that help, nothing acknowledged is
//! lost, reads go on, and once the cause is gone the next call is served as before.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::FileExt, net::UnixStream},
    path::Path,
    time::Instant,
};

use rusqlite::Connection;
use tonic::Code;
use uuid::Uuid;

use crate::{
    fault::{ImageDisk, MemoryDisk, hooks, operations, reason, register, stored},
    harness::{DEADLINE, Daemon, HEDDLE, TestRepo},
};

/// Waits until something that no event tells of is so.
#[track_caller]
fn until(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < end, "not within the deadline: {what}");
        std::thread::yield_now();
    }
}

/// Checks that a message is for people: one line, none of the library's own words.
#[track_caller]
fn is_plain(message: &str) {
    for word in [
        "rusqlite",
        "sqlite_",
        "SqliteFailure",
        "Error {",
        "Os {",
        "panicked",
    ] {
        assert!(!message.contains(word), "{word:?} in {message:?}");
    }
}

#[tokio::test]
async fn g10_a_full_disk_refuses_writes_and_nothing_else() {
    let Some(disk) = MemoryDisk::new("g10_a_full_disk", "4m") else {
        return;
    };
    let repo = TestRepo::empty_in(disk.path(), "repo");
    let daemon = repo.serve();
    let channel = repo.channel().await;
    let (before, during) = (Uuid::new_v4(), Uuid::new_v4());
    register(&channel, before, "before").await.unwrap();

    disk.fill();
    // The write-ahead log has room for a few more, which it got before.
    let mut written = 1;
    while register(&channel, Uuid::new_v4(), "before").await.is_ok() {
        written += 1;
        assert!(written < 100_000, "the disk is not full");
    }
    for _ in 0..3 {
        let failed = register(&channel, during, "during").await.unwrap_err();
        assert_eq!(failed.code(), Code::ResourceExhausted, "{failed:?}");
        assert_eq!(reason(&failed), "STORE_FULL");
        assert!(failed.message().contains("free some space"), "{failed:?}");
        is_plain(failed.message());
    }
    assert_eq!(hooks(&channel).await.unwrap().len(), 1);
    let told = operations(&channel).await.unwrap();
    assert_eq!(told.last().unwrap().seq, written);
    let said = repo.heddle(["hook", "add", "more", "true"]).fails_with(1);
    assert!(
        said.contains("full") && said.contains("STORE_FULL"),
        "{said}"
    );
    repo.heddle(["log"]).ok();
    let found = stored(&repo.store_dir());
    assert_eq!((found.effects(before), found.effects(during)), (1, 0));

    disk.free();
    register(&channel, during, "during").await.unwrap();
    assert_eq!(stored(&repo.store_dir()).effects(during), 1);
    drop(daemon);
}

#[tokio::test]
async fn g10_a_start_on_a_full_disk_says_so_and_succeeds_once_there_is_room() {
    let Some(disk) = MemoryDisk::new("g10_a_start_on_a_full_disk", "4m") else {
        return;
    };
    let repo = TestRepo::empty_in(disk.path(), "repo");
    disk.fill();
    let said = repo.heddle(["agent", "serve"]).fails_with(1);
    assert!(
        said.contains("full") || said.contains("No space left"),
        "{said}"
    );
    is_plain(&said);
    let said = repo.heddle(["hook", "list"]).fails_with(1);
    assert!(
        said.contains("full") || said.contains("No space left"),
        "{said}"
    );
    repo.heddle(["agent", "status"]).fails_with(3);

    disk.free();
    repo.heddle(["hook", "add", "lint", "true"]).ok();
    repo.heddle(["agent", "stop"]).ok();
}

#[tokio::test]
async fn g10_a_start_with_what_a_crash_left_on_a_full_disk_loses_nothing() {
    let Some(disk) = MemoryDisk::new("g10_a_start_after_a_crash_on_a_full_disk", "4m") else {
        return;
    };
    let repo = TestRepo::empty_in(disk.path(), "repo");
    let mut daemon = repo.serve();
    let key = Uuid::new_v4();
    let answer = register(&repo.channel().await, key, "kept").await.unwrap();
    daemon.crash();
    disk.fill();
    let daemon = Daemon::spawn({
        let mut command = repo.command(HEDDLE);
        command.args(["agent", "serve"]);
        command
    });
    if daemon.came_up() {
        let channel = repo.channel().await;
        assert_eq!(register(&channel, key, "kept").await.unwrap(), answer);
    } else {
        let log = daemon.log();
        let said = log.last().unwrap();
        assert!(
            said.contains("full") || said.contains("No space left"),
            "{log:#?}"
        );
    }
    drop(daemon);
    assert_eq!(stored(&repo.store_dir()).effects(key), 1);
    disk.free();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    assert_eq!(register(&channel, key, "kept").await.unwrap(), answer);
}

#[tokio::test]
async fn g10_a_start_on_a_read_only_disk_says_so() {
    let Some(disk) = MemoryDisk::new("g10_a_start_on_a_read_only_disk", "8m") else {
        return;
    };
    let repo = TestRepo::empty_in(disk.path(), "repo");
    disk.remount("ro");
    let first = repo.heddle(["agent", "serve"]).fails_with(1);
    disk.remount("rw");
    let mut daemon = repo.serve();
    let key = Uuid::new_v4();
    let answer = register(&repo.channel().await, key, "kept").await.unwrap();
    daemon.stop();

    disk.remount("ro");
    let later = repo.heddle(["agent", "serve"]).fails_with(1);
    let client = repo.heddle(["hook", "list"]).fails_with(1);
    for said in [&first, &later, &client] {
        let text = said.to_lowercase();
        assert!(text.contains("read-only"), "{said}");
        is_plain(said);
    }
    repo.heddle(["agent", "status"]).fails_with(3);
    disk.remount("rw");
    let _daemon = repo.serve();
    let again = register(&repo.channel().await, key, "kept").await.unwrap();
    assert_eq!(again, answer);
}

#[tokio::test]
async fn g10_a_disk_that_turns_read_only_under_the_daemon_loses_nothing_acknowledged() {
    let test = "g10_a_disk_that_turns_read_only";
    let Some(disk) = ImageDisk::new(test) else {
        return;
    };
    let repo = TestRepo::empty_in(disk.path(), "repo");
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let (before, during) = (Uuid::new_v4(), Uuid::new_v4());
    register(&channel, before, "before").await.unwrap();
    if !disk.break_down() {
        return crate::harness::skip(test, "the kernel offers no trigger_fs_error");
    }
    let failed = register(&channel, during, "during").await.unwrap_err();
    let allowed = ["STORE_READ_ONLY", "STORE_IO"];
    assert!(allowed.contains(&&*reason(&failed)), "{failed:?}");
    is_plain(failed.message());
    if reason(&failed) == "STORE_READ_ONLY" {
        assert_eq!(hooks(&channel).await.unwrap().len(), 1);
        assert_eq!(operations(&channel).await.unwrap().len(), 1);
    }
    daemon.crash();
    let inside = repo
        .store_dir()
        .strip_prefix(disk.path())
        .unwrap()
        .to_owned();
    let found = stored(&disk.after_power_loss(test).path().join(inside));
    assert_eq!((found.effects(before), found.effects(during)), (1, 0));
}

/// A stopped repository whose database has some pages, and its keys.
async fn filled(repo: &TestRepo) -> Vec<Uuid> {
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let mut keys = Vec::new();
    for number in 0..100 {
        let key = Uuid::new_v4();
        register(&channel, key, &format!("hook-{number}"))
            .await
            .unwrap();
        keys.push(key);
    }
    daemon.stop();
    keys
}

/// Writes garbage over the file from `from` on; answers what was there.
fn damage(database: &Path, from: u64) -> Vec<u8> {
    let before = fs::read(database).unwrap();
    let garbage = vec![0xA5; before.len() - from as usize];
    let file = fs::File::options().write(true).open(database).unwrap();
    file.write_all_at(&garbage, from).unwrap();
    before
}

#[tokio::test]
async fn g10_a_damaged_database_is_refused_at_the_start_and_left_as_it_is() {
    let repo = TestRepo::new();
    let keys = filled(&repo).await;
    let database = repo.store_dir().join("heddle.db");
    // The header; and everything but the page that says what is where.
    for from in [0, 4096] {
        let whole = damage(&database, from);
        let damaged = fs::read(&database).unwrap();
        let said = repo.heddle(["agent", "serve"]).fails_with(1);
        assert!(said.contains("damaged"), "{said}");
        assert!(said.contains("heddle doctor --repair"), "{said}");
        is_plain(&said);
        let said = repo.heddle(["hook", "list"]).fails_with(1);
        assert!(said.contains("damaged"), "{said}");
        assert_eq!(fs::read(&database).unwrap(), damaged);
        fs::write(&database, whole).unwrap();
    }
    // What the message says helps.
    let whole = damage(&database, 0);
    repo.heddle(["doctor", "--repair"]).ok();
    repo.heddle(["hook", "add", "new", "true"]).ok();
    repo.heddle(["agent", "stop"]).ok();
    fs::write(&database, whole).unwrap();
    let found = stored(&repo.store_dir());
    assert!(keys.iter().all(|key| found.effects(*key) == 1));
}

#[tokio::test]
async fn g10_damage_under_way_is_told_and_gone_when_the_file_is_whole_again() {
    let repo = TestRepo::new();
    let keys = filled(&repo).await;
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let whole = damage(&repo.store_dir().join("heddle.db"), 4096);

    let failed = operations(&channel).await.unwrap_err();
    assert_eq!(failed.code(), Code::DataLoss, "{failed:?}");
    assert_eq!(reason(&failed), "STORE_CORRUPT");
    assert!(
        failed.message().contains("heddle doctor --repair"),
        "{failed:?}"
    );
    let key = Uuid::new_v4();
    let failed = register(&channel, key, "more").await.unwrap_err();
    assert_eq!(reason(&failed), "STORE_CORRUPT", "{failed:?}");
    assert_eq!(hooks(&channel).await.unwrap().len(), 100);

    fs::write(repo.store_dir().join("heddle.db"), whole).unwrap();
    assert!(!operations(&channel).await.unwrap().is_empty());
    register(&channel, key, "more").await.unwrap();
    daemon.stop();
    let found = stored(&repo.store_dir());
    assert!(
        keys.iter()
            .chain([&key])
            .all(|key| found.effects(*key) == 1)
    );
}

#[tokio::test]
async fn g10_a_newer_database_is_refused_by_name_and_left_as_it_is() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    daemon.stop();
    let database = repo.store_dir().join("heddle.db");
    let newer = Connection::open(&database).unwrap();
    newer
        .execute_batch(
            "PRAGMA journal_mode = DELETE; PRAGMA user_version = 99;
             UPDATE meta SET value = '9.8.7' WHERE key = 'written_by';",
        )
        .unwrap();
    drop(newer);
    let before = fs::read(&database).unwrap();
    for args in [["agent", "serve"], ["hook", "list"]] {
        let said = repo.heddle(args).fails_with(1);
        for part in ["heddle 9.8.7", "schema 99", "upgrade heddle"] {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
    }
    assert_eq!(fs::read(&database).unwrap(), before);
}

#[test]
fn g10_a_database_of_another_program_is_refused_and_left_as_it_is() {
    let repo = TestRepo::new();
    repo.serve().stop();
    let database = repo.store_dir().join("heddle.db");
    for schema in [
        "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);",
        "CREATE TABLE theirs (x); PRAGMA user_version = 1;",
        "CREATE TABLE theirs (x); PRAGMA application_id = 7; PRAGMA user_version = 99;",
    ] {
        fs::remove_file(&database).unwrap();
        Connection::open(&database)
            .unwrap()
            .execute_batch(schema)
            .unwrap();
        let before = (
            fs::read(&database).unwrap(),
            fs::metadata(&database).unwrap().permissions(),
        );
        let said = repo.heddle(["agent", "serve"]).fails_with(1);
        assert!(said.contains("another program"), "{schema}: {said}");
        assert!(said.contains("move it away"), "{said}");
        let after = (
            fs::read(&database).unwrap(),
            fs::metadata(&database).unwrap().permissions(),
        );
        assert!(after == before, "it was changed: {schema}");
    }
}

#[tokio::test]
async fn g10_a_removed_heddle_folder_is_made_again_and_nothing_is_lost() {
    let repo = TestRepo::new();
    let daemon = repo.serve();
    let channel = repo.channel().await;
    let key = Uuid::new_v4();
    let answer = register(&channel, key, "kept").await.unwrap();
    fs::remove_dir_all(repo.path(".heddle")).unwrap();
    // Who is connected does not even notice.
    assert_eq!(hooks(&channel).await.unwrap().len(), 1);
    until("the socket is back", || repo.socket().exists());
    let fresh = repo.channel().await;
    assert_eq!(register(&fresh, key, "kept").await.unwrap(), answer);
    assert_eq!(repo.holder(), Some(daemon.pid()));
    repo.heddle(["hook", "list"]).ok();
}

#[tokio::test]
async fn g10_a_daemon_whose_store_was_removed_acknowledges_nothing_and_leaves() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    register(&channel, Uuid::new_v4(), "gone").await.unwrap();
    fs::remove_dir_all(repo.store_dir()).unwrap();
    let failed = register(&channel, Uuid::new_v4(), "lost")
        .await
        .unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable, "{failed:?}");
    assert_eq!(daemon.wait().code(), Some(1));
    let log = daemon.log().join("\n");
    assert!(log.contains("removed or replaced"), "{log}");

    let listed = repo.heddle(["hook", "list", "--output", "json"]).json();
    assert_eq!(listed["hooks"].as_array().unwrap().len(), 0);
    repo.heddle(["hook", "add", "new", "true"]).ok();
}

#[tokio::test]
async fn g10_a_daemon_whose_store_was_removed_leaves_without_being_called() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    fs::remove_dir_all(repo.store_dir()).unwrap();
    assert_eq!(daemon.wait().code(), Some(1));
    assert!(!repo.socket().exists() && !repo.pidfile().exists());
}

#[tokio::test]
async fn g10_a_daemon_whose_repository_was_removed_leaves() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    fs::remove_dir_all(repo.root()).unwrap();
    let failed = register(&channel, Uuid::new_v4(), "lost")
        .await
        .unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable, "{failed:?}");
    assert_eq!(daemon.wait().code(), Some(1));
    assert!(!repo.root().exists(), "it was made again");
}

/// Processor time that a process has used so far, in seconds.
#[cfg(target_os = "linux")]
fn processor_seconds(pid: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn g10_without_descriptors_the_daemon_waits_and_then_serves_again() {
    let repo = TestRepo::new();
    let mut command = repo.command("sh");
    command.args(["-c", &format!("ulimit -n 40 && exec {HEDDLE} agent serve")]);
    let daemon = Daemon::spawn(command);
    daemon.wait_for_line("serving");
    let channel = repo.channel().await;

    let mut silent: Vec<UnixStream> = (0..60)
        .map(|_| UnixStream::connect(repo.socket()).unwrap())
        .collect();
    daemon.wait_for_line("cannot accept connections");
    let (began, used) = (Instant::now(), processor_seconds(daemon.pid()));
    // Who is connected is served meanwhile.
    assert_eq!(hooks(&channel).await.unwrap().len(), 0);
    // Until the daemon closes one that said nothing, there is no room for another.
    let first = silent.first_mut().unwrap();
    first.set_read_timeout(Some(DEADLINE)).unwrap();
    first.read_to_end(&mut Vec::new()).unwrap();
    let share = (processor_seconds(daemon.pid()) - used) / began.elapsed().as_secs_f64();
    assert!(share < 0.1, "it spins: {share} of a processor");

    // A newcomer behind all of them is served as they go.
    for stream in &mut silent {
        // It may be closed already.
        let _ = stream.write_all(b"nonsense");
    }
    drop(silent);
    let fresh = repo.channel().await;
    register(&fresh, Uuid::new_v4(), "served").await.unwrap();
}
