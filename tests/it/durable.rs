//! Exactly once (G3) and durable (G4), with a crash, a failure or a power cut at every step in turn:
//! each test walks through the calls on files that an operation makes, until it gets to its end.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use heddle_agent::grpc_local_impl::proto::v1::Hook;
use nix::libc::{EIO, ENOSPC, EROFS};
use tokio::sync::watch;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::{
    fault::{Act, Fault, ImageDisk, hooks, kinds, operations, reason, register, status, stored},
    harness::{Daemon, HEDDLE, TestRepo, run},
};

/// More steps than any operation has: a walk that gets here does not end.
const TOO_MANY: u32 = 500;

/// Puts a store's folder in the place of another.
fn copy_store(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    run(Command::new("cp").arg("-a").args([from, to])).ok();
}

/// A store with one write in it, stopped in good order: what each step of a walk begins with.
async fn prepare_store(repo: &TestRepo) -> PathBuf {
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    register(&channel, Uuid::new_v4(), "before").await.unwrap();
    daemon.stop();
    let prepared = repo.around().join("prepared");
    copy_store(&repo.store_dir(), &prepared);
    prepared
}

#[tokio::test]
async fn g3_a_crash_at_any_step_of_a_write_leaves_all_of_it_or_nothing() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("g3_a_crash_at_any_step_of_a_write", &repo) else {
        return;
    };
    let prepared = prepare_store(&repo).await;
    // The first write of a process begins a new log; the next one goes on with it.
    for earlier_writes in [0, 1] {
        let mut outcomes = [0, 0];
        for step in 1.. {
            assert!(step < TOO_MANY);
            copy_store(&prepared, &repo.store_dir());
            let mut daemon = Daemon::spawn(fault.serve(&repo));
            daemon.wait_for_line("serving");
            let channel = repo.channel().await;
            for _ in 0..earlier_writes {
                register(&channel, Uuid::new_v4(), "earlier").await.unwrap();
            }
            let key = Uuid::new_v4();
            fault.arm(Act::KillAfter, step, kinds::ALL);
            let answer = register(&channel, key, "walk").await;
            let hit = fault.hit();
            fault.disarm();
            if hit.is_none() {
                answer.unwrap();
                break;
            }
            daemon.wait();
            assert!(answer.is_err(), "answered before {hit:?}");
            outcomes[stored(&repo.store_dir()).effects(key) as usize] += 1;

            let mut daemon = repo.serve();
            let channel = repo.channel().await;
            let first = register(&channel, key, "walk").await.unwrap();
            assert_eq!(first.command, format!("true {key}"));
            assert_eq!(register(&channel, key, "walk").await.unwrap(), first);
            daemon.crash();
            assert_eq!(stored(&repo.store_dir()).effects(key), 1, "{hit:?}");
        }
        assert!(
            outcomes.iter().all(|&n| n > 0),
            "no crash before the commit, or none after it: {outcomes:?}"
        );
    }
}

#[tokio::test]
async fn g3_a_crash_at_any_step_of_the_first_start_is_mended_by_the_next() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("g3_a_crash_at_any_step_of_the_first_start", &repo) else {
        return;
    };
    let exclude = repo.path(".git/info/exclude");
    let excluded = fs::read(&exclude).unwrap();
    for step in 1.. {
        assert!(step < TOO_MANY);
        let _ = fs::remove_dir_all(repo.path(".heddle"));
        let _ = fs::remove_dir_all(repo.store_dir());
        fs::write(&exclude, &excluded).unwrap();

        fault.arm(Act::KillAfter, step, kinds::ALL);
        let mut daemon = Daemon::spawn(fault.serve(&repo));
        let up = daemon.came_up();
        let hit = fault.hit();
        fault.disarm();
        if hit.is_some() {
            daemon.wait();
            daemon = repo.serve();
        } else {
            assert!(up, "{:#?}", daemon.log());
        }
        let key = Uuid::new_v4();
        register(&repo.channel().await, key, "first").await.unwrap();
        daemon.crash();
        assert_eq!(stored(&repo.store_dir()).effects(key), 1, "after {hit:?}");
        let text = fs::read_to_string(&exclude).unwrap();
        assert_eq!(
            text.matches("/.heddle/").count(),
            1,
            "after {hit:?}: {text}"
        );
        if hit.is_none() {
            break;
        }
    }
}

#[tokio::test]
async fn g3_a_crash_at_any_step_of_a_recovery_loses_nothing() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("g3_a_crash_at_any_step_of_a_recovery", &repo) else {
        return;
    };
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let keys: Vec<Uuid> = (0..5).map(|_| Uuid::new_v4()).collect();
    let mut answers = Vec::new();
    for key in &keys {
        answers.push(register(&channel, *key, &key.to_string()).await.unwrap());
    }
    daemon.crash();
    let crashed = repo.around().join("crashed");
    copy_store(&repo.store_dir(), &crashed);
    assert!(crashed.join("heddle.db-wal").metadata().unwrap().len() > 0);

    for step in 1.. {
        assert!(step < TOO_MANY);
        copy_store(&crashed, &repo.store_dir());
        fault.arm(Act::KillAfter, step, kinds::ALL);
        let mut daemon = Daemon::spawn(fault.serve(&repo));
        let up = daemon.came_up();
        let hit = fault.hit();
        fault.disarm();
        if hit.is_some() {
            daemon.wait();
            let found = stored(&repo.store_dir());
            assert!(keys.iter().all(|key| found.effects(*key) == 1), "{hit:?}");
            daemon = repo.serve();
        } else {
            assert!(up, "{:#?}", daemon.log());
        }
        let channel = repo.channel().await;
        for (key, answer) in keys.iter().zip(&answers) {
            assert_eq!(
                &register(&channel, *key, &key.to_string()).await.unwrap(),
                answer
            );
        }
        assert_eq!(hooks(&channel).await.unwrap(), answers);
        daemon.crash();
        if hit.is_none() {
            break;
        }
    }
}

#[tokio::test]
async fn g4_a_failure_at_any_step_of_a_write_is_told_and_nothing_acknowledged_is_lost() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("g4_a_failure_at_any_step_of_a_write", &repo) else {
        return;
    };
    let prepared = prepare_store(&repo).await;
    for errno in [EIO, ENOSPC, EROFS] {
        let mut failed_syncs = 0;
        let (mut step, mut walked) = (1, 0);
        loop {
            walked += 1;
            assert!(walked < TOO_MANY);
            copy_store(&prepared, &repo.store_dir());
            let mut daemon = Daemon::spawn(fault.serve(&repo));
            daemon.wait_for_line("serving");
            let channel = repo.channel().await;
            let key = Uuid::new_v4();
            fault.arm(Act::Fail(errno), step, kinds::ALL);
            let answer = register(&channel, key, "walk").await;
            let hit = fault.hit();
            fault.disarm();
            let Some(hit) = hit else {
                answer.unwrap();
                break;
            };
            if answer.is_ok() && hit.kind == kinds::CREATE {
                // What goes on beside the write opened a connection to read: the write's own step is
                // yet to fail.
                daemon.crash();
                continue;
            }
            step += 1;
            let failed_sync = hit.kind == kinds::SYNC && hit.path.ends_with("-wal");
            match &answer {
                // A folder's sync: the log's own has it done on Linux's filesystems.
                Ok(_) => assert!(hit.kind == kinds::SYNC && !failed_sync, "{hit:?}"),
                Err(status) if failed_sync => {
                    failed_syncs += 1;
                    assert_eq!(reason(status), "STORE_IO", "{status:?}");
                    assert_eq!(daemon.wait().code(), Some(1), "{:#?}", daemon.log());
                    daemon = repo.serve();
                    let retried = register(&repo.channel().await, key, "walk").await;
                    assert_eq!(retried.unwrap().command, format!("true {key}"));
                }
                Err(status) => {
                    let expected = if errno == ENOSPC {
                        "STORE_FULL"
                    } else {
                        "STORE_IO"
                    };
                    assert_eq!(reason(status), expected, "{hit:?}: {status:?}");
                    assert_eq!(stored(&repo.store_dir()).effects(key), 0, "{hit:?}");
                    assert_eq!(hooks(&channel).await.unwrap().len(), 1);
                    assert_eq!(operations(&channel).await.unwrap().len(), 1);
                    register(&channel, key, "walk").await.unwrap();
                }
            }
            daemon.crash();
            assert_eq!(stored(&repo.store_dir()).effects(key), 1, "{hit:?}");
        }
        assert!(failed_syncs > 0, "no sync of the log failed");
    }
}

#[tokio::test]
async fn g4_a_failure_at_any_step_of_a_start_is_told_or_harmless() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("g4_a_failure_at_any_step_of_a_start", &repo) else {
        return;
    };
    for errno in [EIO, ENOSPC] {
        for step in 1.. {
            assert!(step < TOO_MANY);
            let _ = fs::remove_dir_all(repo.path(".heddle"));
            let _ = fs::remove_dir_all(repo.store_dir());
            fault.arm(Act::Fail(errno), step, kinds::ALL);
            let mut daemon = Daemon::spawn(fault.serve(&repo));
            let up = daemon.came_up();
            let hit = fault.hit();
            fault.disarm();
            if !up {
                let hit = hit.as_ref().expect("it fails only where it was made to");
                assert_eq!(daemon.wait().code(), Some(1), "{hit:?}");
                let log = daemon.log();
                let said = log.last().unwrap();
                assert!(said.contains("error"), "{hit:?}: {log:#?}");
                assert!(
                    !said.contains("INTERNAL") && !said.contains("panicked"),
                    "{log:#?}"
                );
                daemon = repo.serve();
            }
            let key = Uuid::new_v4();
            register(&repo.channel().await, key, "first").await.unwrap();
            daemon.crash();
            assert_eq!(stored(&repo.store_dir()).effects(key), 1, "after {hit:?}");
            if hit.is_none() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn g4_a_failed_sync_acknowledges_none_of_the_writes_that_shared_it() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("g4_a_failed_sync", &repo) else {
        return;
    };
    let mut daemon = Daemon::spawn(fault.serve(&repo));
    daemon.wait_for_line("serving");
    let channel = repo.channel().await;
    let before = Uuid::new_v4();
    register(&channel, before, "before").await.unwrap();

    fault.arm(Act::FailOn(EIO), 1, kinds::SYNC);
    let keys: Vec<Uuid> = (0..16).map(|_| Uuid::new_v4()).collect();
    let calls = keys.iter().map(|key| register(&channel, *key, "walk"));
    for answer in futures_util::future::join_all(calls).await {
        assert!(answer.is_err(), "{answer:?}");
    }
    assert!(!daemon.wait().success());
    fault.disarm();

    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for key in &keys {
        register(&channel, *key, "walk").await.unwrap();
    }
    let found = stored(&repo.store_dir());
    assert!(
        keys.iter()
            .chain([&before])
            .all(|key| found.effects(*key) == 1)
    );
}

#[tokio::test]
async fn g10_reads_go_on_while_the_disk_takes_nothing_and_writes_come_back() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("g10_reads_go_on_while_the_disk_takes_nothing", &repo) else {
        return;
    };
    let daemon = Daemon::spawn(fault.serve(&repo));
    daemon.wait_for_line("serving");
    let channel = repo.channel().await;
    register(&channel, Uuid::new_v4(), "kept").await.unwrap();
    for (errno, expected) in [
        (ENOSPC, "STORE_FULL"),
        (EROFS, "STORE_IO"),
        (EIO, "STORE_IO"),
    ] {
        let key = Uuid::new_v4();
        fault.arm(Act::FailOn(errno), 1, kinds::WRITE | kinds::TRUNCATE);
        for _ in 0..3 {
            let failed = register(&channel, key, "later").await.unwrap_err();
            assert_eq!(reason(&failed), expected, "{failed:?}");
            assert_eq!(hooks(&channel).await.unwrap().last().unwrap().name, "kept");
            assert_eq!(operations(&channel).await.unwrap().len(), 1);
        }
        fault.disarm();
    }
    register(&channel, Uuid::new_v4(), "later").await.unwrap();
    assert_eq!(operations(&channel).await.unwrap().len(), 2);
}

#[tokio::test]
async fn g4_writers_that_wait_share_one_sync() {
    const WRITERS: usize = 64;
    const EACH: usize = 4;
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("g4_writers_that_wait_share_one_sync", &repo) else {
        return;
    };
    let daemon = Daemon::spawn(fault.serve(&repo));
    daemon.wait_for_line("serving");
    let watching = repo.channel().await;
    let before = status(&watching).await.store.unwrap();

    // The first commit waits in its sync until all the others are there.
    fault.arm(Act::Hold, 1, kinds::SYNC);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..EACH {
        let channel = repo.channel().await;
        for writer in 0..WRITERS {
            let channel = channel.clone();
            let name = format!("writer-{writer}");
            calls.spawn(async move { register(&channel, Uuid::new_v4(), &name).await });
        }
    }
    while (status(&watching).await.calls_in_flight as usize) < WRITERS * EACH {
        tokio::task::yield_now().await;
    }
    fault.disarm();
    while let Some(answer) = calls.join_next().await {
        answer.unwrap().unwrap();
    }
    let after = status(&watching).await.store.unwrap();
    let (writes, commits) = (after.writes - before.writes, after.commits - before.commits);
    assert_eq!(writes as usize, WRITERS * EACH);
    assert!(
        writes >= 10 * commits,
        "{writes} writes took {commits} commits"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g4_two_hundred_kills_under_load_lose_and_double_nothing() {
    const WRITERS: usize = 16;
    const KILLS: u64 = 200;
    let repo = TestRepo::new();
    let acknowledged: Arc<Mutex<HashMap<Uuid, (String, Hook)>>> = Arc::default();
    let (count, mut counted) = watch::channel(0_u64);
    let (current, _) = watch::channel::<Option<Channel>>(None);
    let over = tokio_util::sync::CancellationToken::new();

    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (acknowledged, count) = (Arc::clone(&acknowledged), count.clone());
        let (mut current, over) = (current.subscribe(), over.clone());
        writers.spawn(async move {
            let name = format!("writer-{writer}");
            while !over.is_cancelled() {
                let key = Uuid::new_v4();
                // Tried with one key until it is answered, by whichever daemon.
                let answer = loop {
                    let channel = current.wait_for(Option::is_some).await.unwrap().clone();
                    match register(&channel.unwrap(), key, &name).await {
                        Ok(answer) => break answer,
                        Err(status) => {
                            assert_eq!(reason(&status), "", "{status:?}");
                            current.changed().await.unwrap();
                        }
                    }
                };
                acknowledged
                    .lock()
                    .unwrap()
                    .insert(key, (name.clone(), answer));
                count.send_modify(|n| *n += 1);
            }
        });
    }

    for kill in 0..KILLS {
        let mut daemon = repo.serve();
        current.send_replace(Some(repo.channel().await));
        // At another place each time.
        let enough = *counted.borrow_and_update() + 1 + kill * 7 % 23;
        counted.wait_for(|n| *n >= enough).await.unwrap();
        daemon.crash();
        let known: Vec<Uuid> = acknowledged.lock().unwrap().keys().copied().collect();
        let found = stored(&repo.store_dir());
        for key in known {
            assert_eq!(found.effects(key), 1, "{key} after kill {kill}");
        }
    }
    over.cancel();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    current.send_replace(Some(channel.clone()));
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }

    let acknowledged = acknowledged.lock().unwrap().clone();
    for (key, (name, answer)) in &acknowledged {
        assert_eq!(&register(&channel, *key, name).await.unwrap(), answer);
    }
    let found = stored(&repo.store_dir());
    assert_eq!(found.log.len(), acknowledged.len());
    for key in acknowledged.keys() {
        assert_eq!(found.effects(*key), 1);
    }
}

#[tokio::test]
async fn g4_what_was_acknowledged_outlives_a_power_cut() {
    let test = "g4_what_was_acknowledged_outlives_a_power_cut";
    let Some(disk) = ImageDisk::new(test) else {
        return;
    };
    let repo = TestRepo::empty_in(disk.path(), "repo");
    run(Command::new("sync").arg("-f").arg(repo.root())).ok();
    let inside = repo
        .store_dir()
        .strip_prefix(disk.path())
        .unwrap()
        .to_owned();
    let after_power_loss = || stored(&disk.after_power_loss(test).path().join(&inside));
    let check = |acknowledged: &[Uuid], when: &str| {
        let found = after_power_loss();
        for key in acknowledged {
            assert_eq!(found.effects(*key), 1, "{key} is lost: {when}");
        }
    };

    let mut acknowledged = Vec::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    for number in 0..8 {
        let key = Uuid::new_v4();
        register(&channel, key, "steady").await.unwrap();
        acknowledged.push(key);
        check(&acknowledged, &format!("after write {number}"));
    }
    daemon.crash();
    let Some(fault) = Fault::new(test, &repo) else {
        return;
    };
    for step in 1.. {
        assert!(step < TOO_MANY);
        let mut daemon = Daemon::spawn(fault.serve(&repo));
        daemon.wait_for_line("serving");
        let channel = repo.channel().await;
        let key = Uuid::new_v4();
        fault.arm(Act::KillBefore, step, kinds::ALL);
        let answer = register(&channel, key, "walk").await;
        let hit = fault.hit();
        fault.disarm();
        if hit.is_none() {
            answer.unwrap();
            break;
        }
        daemon.wait();
        check(&acknowledged, &format!("killed before {hit:?}"));
        // What the killed one wrote and did not sync must be durable before it is answered.
        let mut daemon = repo.serve();
        register(&repo.channel().await, key, "walk").await.unwrap();
        acknowledged.push(key);
        check(
            &acknowledged,
            &format!("retried after a kill before {hit:?}"),
        );
        daemon.crash();
    }
}

#[tokio::test]
async fn g4_a_stop_leaves_everything_in_the_database_file() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let key = Uuid::new_v4();
    register(&repo.channel().await, key, "last").await.unwrap();
    assert!(daemon.stop().success());
    assert!(!repo.store_dir().join("heddle.db-wal").exists());
    assert_eq!(stored(&repo.store_dir()).effects(key), 1);
    let hooks = run(repo
        .command(HEDDLE)
        .args(["hook", "list", "--output", "json"]))
    .json();
    assert_eq!(hooks["hooks"][0]["name"], "last");
}

#[tokio::test]
async fn g4_no_write_is_acknowledged_into_a_removed_or_replaced_database() {
    for names in [
        &["heddle.db", "heddle.db-wal", "heddle.db-shm"][..],
        &["heddle.db-wal"],
    ] {
        for replace in [false, true] {
            let repo = TestRepo::new();
            let mut daemon = repo.serve();
            let channel = repo.channel().await;
            register(&channel, Uuid::new_v4(), "before").await.unwrap();
            for name in names {
                let path = repo.store_dir().join(name);
                let other = repo.around().join(name);
                fs::copy(&path, &other).unwrap();
                fs::remove_file(&path).unwrap();
                if replace {
                    fs::rename(&other, &path).unwrap();
                }
            }
            let key = Uuid::new_v4();
            // The daemon may have noticed and left before the call reaches it.
            let lost = register(&channel, key, "after").await.unwrap_err();
            assert_eq!(lost.code(), tonic::Code::Unavailable, "{lost:?}");
            assert_eq!(daemon.wait().code(), Some(1), "{:#?}", daemon.log());

            let mut daemon = repo.serve();
            register(&repo.channel().await, key, "after").await.unwrap();
            daemon.crash();
            assert_eq!(stored(&repo.store_dir()).effects(key), 1);
        }
    }
}

#[tokio::test]
async fn g4_a_failed_sync_of_the_database_stops_the_daemon_and_loses_nothing() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("g4_a_failed_sync_of_the_database", &repo) else {
        return;
    };
    let mut daemon = Daemon::spawn(fault.serve(&repo));
    daemon.wait_for_line("serving");
    let channel = repo.channel().await;
    // The database itself is synced only when the log is folded in.
    fault.only("heddle.db");
    fault.arm(Act::FailOn(EIO), 1, kinds::SYNC);
    let mut acknowledged = Vec::new();
    while fault.hit().is_none() {
        let keys: Vec<Uuid> = (0..64).map(|_| Uuid::new_v4()).collect();
        let calls = keys.iter().map(|key| register(&channel, *key, "walk"));
        let answers = futures_util::future::join_all(calls).await;
        let done = keys
            .iter()
            .zip(answers)
            .filter(|(_, answer)| answer.is_ok());
        acknowledged.extend(done.map(|(key, _)| *key));
        assert!(acknowledged.len() < 100_000, "the log is never folded in");
    }
    assert_eq!(daemon.wait().code(), Some(1), "{:#?}", daemon.log());
    assert!(repo.store_dir().join("heddle.db-wal").exists());
    fault.disarm();
    let _daemon = repo.serve();
    let found = stored(&repo.store_dir());
    assert!(acknowledged.iter().all(|key| found.effects(*key) == 1));
}

#[test]
fn a_database_that_is_not_ours_or_is_newer_is_refused_and_not_touched() {
    use std::os::unix::fs::PermissionsExt;

    let heddle = 0x4844_444c;
    for (owner, version, said) in [
        (0, 1, "another program"),
        (7, 1, "another program"),
        (0, 0, "another program"),
        (heddle, 999, "upgrade heddle"),
    ] {
        let repo = TestRepo::new();
        fs::create_dir(repo.store_dir()).unwrap();
        let path = repo.store_dir().join("heddle.db");
        let database = rusqlite::Connection::open(&path).unwrap();
        database
            .execute_batch(&format!(
                "CREATE TABLE theirs (x); PRAGMA application_id = {owner}; PRAGMA user_version = {version};"
            ))
            .unwrap();
        drop(database);
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        let before = fs::read(&path).unwrap();

        let refused = run(repo.command(HEDDLE).args(["agent", "serve"])).fails_with(1);
        assert!(refused.contains(said), "{owner} {version}: {refused}");
        assert_eq!(fs::read(&path).unwrap(), before, "{owner} {version}");
        let left = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(left, 0o640, "{owner} {version}");
    }
}

#[tokio::test]
async fn a_start_goes_on_beside_a_program_that_reads_the_database() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    register(&channel, Uuid::new_v4(), "old").await.unwrap();
    let reader = rusqlite::Connection::open(repo.store_dir().join("heddle.db")).unwrap();
    let count = "SELECT count(*) FROM operation";
    reader.execute_batch("BEGIN").unwrap();
    let seen = |n: i64| assert_eq!(reader.query_row(count, [], |row| row.get(0)), Ok(n));
    seen(1);
    let key = Uuid::new_v4();
    let answer = register(&channel, key, "new").await.unwrap();
    daemon.crash();

    let daemon = repo.serve();
    daemon.wait_for_line("another program has");
    let channel = repo.channel().await;
    assert_eq!(register(&channel, key, "new").await.unwrap(), answer);
    register(&channel, Uuid::new_v4(), "newer").await.unwrap();
    seen(1);
}

#[tokio::test]
async fn a_program_that_keeps_the_database_locked_is_told_of() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let other = rusqlite::Connection::open(repo.store_dir().join("heddle.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let busy = register(&channel, Uuid::new_v4(), "hook")
        .await
        .unwrap_err();
    assert_eq!(reason(&busy), "STORE_BUSY", "{busy:?}");
    other.execute_batch("ROLLBACK").unwrap();
    register(&channel, Uuid::new_v4(), "hook").await.unwrap();
}
