//! A call on files that fails half-way through a capture, a restore or a transaction (G10): the error
//! says why, the worktree is as before, nothing acknowledged is lost, and the next call works.

use nix::libc::{EACCES, EIO, ENOSPC};

use crate::{
    fault::{Act, Hit, kinds, reason},
    scenes::{self, Scene},
    states::content,
    walk::Walk,
};

/// Reasons that are about the disk or the worktree, and not a fault of the daemon.
const HONEST: &[&str] = &[
    "STORE_FULL",
    "STORE_READ_ONLY",
    "STORE_IO",
    "WORKTREE_UNREADABLE",
    "WORKTREE_CHANGED",
    "REPOSITORY_REFUSED",
    "INDEX_LOCKED",
];

/// Whether a commit failed in a way that leaves open whether it is durable.
fn is_failed_sync(hit: &Hit) -> bool {
    hit.kind == kinds::SYNC && hit.path.contains("heddle.db")
}

/// Has the steps fail that `part` says, once, or for good until the next start.
async fn walk(test: &str, scene: &Scene, act: Act, part: (u32, u32)) {
    let Some(mut walk) = Walk::new(test, scene, act, part) else {
        return;
    };
    let repo = &scene.repo;
    let lasting = matches!(act, Act::FailOn(_));
    let (mut refused, mut harmless) = (0, 0);
    while let Some(at) = walk.next().await {
        let (mut daemon, key, answer, hit) = (at.daemon, at.key, at.answer, at.hit);
        let when = format!("step {} failed, {hit:?}, {answer:?}", at.step);
        match &answer {
            Ok(_) => harmless += 1,
            Err(status) => {
                refused += 1;
                let failed_store = ["STORE_STOPPED", "STORE_LOST", ""].contains(&&*reason(status));
                assert!(
                    HONEST.contains(&&*reason(status)) || failed_store,
                    "{when}: {:#?}",
                    daemon.log()
                );
                assert!(!status.message().contains("Os {"), "{when}");
                if !lasting && !is_failed_sync(&hit) {
                    assert_eq!(content(repo.root()), scene.before, "{when}");
                    scene.check_transaction(repo.root(), false, &when);
                }
            }
        }
        // A failed sync of the log ends the daemon, be it only that of a capture's signals, and what
        // fails for good may need a start.
        if is_failed_sync(&hit) || lasting {
            if lasting {
                daemon.crash();
            } else {
                daemon.wait();
            }
            daemon = repo.serve();
            // The commit may have been durable all the same; what was answered is.
            scene.check(repo.root(), key, &when);
            if answer.is_ok() {
                assert_eq!(scene.effects(repo.root(), key), 1, "{when}");
            }
        }
        let channel = repo.channel().await;
        let again = scene.call(&channel, key).await;
        let again = again.unwrap_or_else(|status| panic!("{when}: then {status:?}"));
        if let Ok(answer) = &answer {
            assert_eq!(*answer, again, "{when}");
        }
        daemon.crash();
        // A Git that cannot remove its own lock leaves it. Refs are moved all the same; it is its user
        // who may remove it.
        if hit.kind == kinds::NAME && hit.path.ends_with("/packed-refs.lock") {
            let _ = std::fs::remove_file(repo.path(".git/packed-refs.lock"));
        }
        // What may be left until the next start is not left after it.
        let _daemon = repo.serve();
        scene.check(repo.root(), key, &when);
        assert_eq!(scene.effects(repo.root(), key), 1, "{when}");
    }
    assert!(refused > 0, "no step was refused, and {harmless} harmless");
}

macro_rules! walks {
    ($($name:ident: $act:expr, $part:expr, $scene:ident;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let scene = Scene::new(scenes::in_memory(), scenes::$scene).await;
            walk(stringify!($name), &scene, $act, $part).await;
        }
    )*};
}

walks! {
    g10_a_step_of_a_capture_that_is_not_allowed_changes_nothing: Act::Fail(EACCES), (1, 2), capture;
    g10_a_step_of_a_capture_that_fails_changes_nothing: Act::Fail(EIO), (2, 2), capture;
    g10_a_step_of_a_restore_that_is_not_allowed_is_undone: Act::Fail(EACCES), (1, 3), whole;
    g10_a_step_of_a_restore_on_a_full_disk_is_undone: Act::Fail(ENOSPC), (2, 3), whole;
    g10_a_step_of_a_restore_that_fails_is_undone: Act::Fail(EIO), (3, 3), whole;
    g10_a_step_that_fails_while_the_index_follows_is_undone: Act::Fail(EIO), (1, 4), with_index;
    g10_a_step_of_a_new_worktree_that_fails_is_undone: Act::Fail(ENOSPC), (1, 5), start;
    g10_a_restore_that_can_not_even_be_undone_is_at_the_next_start: Act::FailOn(EIO), (1, 4), whole;
    g10_a_step_of_a_begin_that_fails_changes_nothing: Act::Fail(EIO), (1, 4), begin;
    g10_a_step_of_a_commit_on_a_full_disk_changes_nothing: Act::Fail(ENOSPC), (1, 2), commit;
    g10_a_step_of_a_commit_that_fails_changes_nothing: Act::Fail(EIO), (2, 3), commit;
    g10_a_commit_on_a_disk_that_stays_full_is_made_after_the_next_start: Act::FailOn(ENOSPC), (1, 4), commit;
    g10_a_commit_on_a_disk_that_fails_for_good_is_made_after_the_next_start: Act::FailOn(EIO), (2, 4), commit;
    g10_a_step_of_an_abort_that_rewinds_on_a_full_disk_is_undone: Act::Fail(ENOSPC), (1, 7), rewind;
    g10_an_abort_that_rewinds_on_a_disk_that_fails_for_good_is_undone_at_the_next_start: Act::FailOn(EIO), (2, 9), rewind;
}
