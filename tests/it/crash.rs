//! A crash at every step of captures, restores, new worktrees and transactions (G3, G9): after the next
//! start all of the call is there or nothing, a retry with its key has one effect and one answer, Git
//! is content, and nothing is left over.

use crate::{
    fault::Act,
    scenes::{self, Scene},
    walk::Walk,
};

/// Kills the daemon at the steps of a scene's call that `part` says. `cut` is called when it is dead,
/// and may lose what was not synced.
pub async fn walk(test: &str, scene: &Scene, act: Act, part: (u32, u32), mut cut: impl FnMut()) {
    let Some(mut walk) = Walk::new(test, scene, act, part) else {
        return;
    };
    let repo = &scene.repo;
    let mut done_before = [0, 0];
    while let Some(mut at) = walk.next().await {
        let (key, answer) = (at.key, at.answer);
        // It may be answered already, when what is left to do is only tidying up.
        if answer.is_err() {
            at.daemon.wait();
        } else {
            at.daemon.crash();
        }
        cut();
        let when = format!("killed at step {}, {:?}", at.step, at.hit);
        let done = scene.effects(repo.root(), key);
        assert!(answer.is_err() || done == 1, "{when}");
        done_before[done as usize] += 1;

        let mut daemon = repo.serve();
        scene.check(repo.root(), key, &when);
        assert_eq!(scene.effects(repo.root(), key), done, "{when}");
        let channel = repo.channel().await;
        let first = scene.call(&channel, key).await;
        let first = first.unwrap_or_else(|status| panic!("{when}: {status:?} {:#?}", daemon.log()));
        if let Ok(answer) = answer {
            assert_eq!(answer, first, "{when}");
        }
        assert_eq!(scene.call(&channel, key).await.unwrap(), first, "{when}");
        assert_eq!(scene.effects(repo.root(), key), 1, "{when}");
        scene.check(repo.root(), key, &format!("retried after it was {when}"));
        daemon.crash();
    }
    assert!(
        done_before.iter().all(|&n| n > 0),
        "no crash before the commit, or none after it: {done_before:?}"
    );
}

macro_rules! walks {
    ($($name:ident: $act:ident, $part:expr, $scene:ident;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let scene = Scene::new(scenes::in_memory(), scenes::$scene).await;
            walk(stringify!($name), &scene, Act::$act, $part, || ()).await;
        }
    )*};
}

walks! {
    g3_a_crash_at_any_step_of_a_capture_leaves_all_of_it_or_nothing: KillAfter, (1, 1), capture;
    g3_a_crash_at_an_odd_step_of_a_restore_leaves_all_of_it_or_nothing: KillAfter, (1, 2), whole;
    g3_a_crash_at_an_even_step_of_a_restore_leaves_all_of_it_or_nothing: KillAfter, (2, 2), whole;
    g3_a_crash_before_a_step_of_a_restore_leaves_all_of_it_or_nothing: KillBefore, (1, 7), whole;
    g3_a_crash_at_any_step_of_a_restore_of_paths_leaves_all_of_it_or_nothing: KillAfter, (1, 1), some;
    g3_a_crash_at_any_step_of_an_undo_leaves_all_of_it_or_nothing: KillAfter, (1, 3), undo;
    g3_a_crash_at_any_step_while_the_index_follows_leaves_all_of_it_or_nothing: KillAfter, (1, 2), with_index;
    g3_a_crash_at_any_step_of_a_new_worktree_leaves_all_of_it_or_nothing: KillAfter, (1, 1), start;
    g3_a_crash_while_git_goes_on_adding_a_worktree_leaves_all_of_it_or_nothing: Orphan, (1, 4), start;
    g3_a_crash_at_a_step_of_a_begin_leaves_all_of_it_or_nothing: KillAfter, (1, 3), begin;
    g3_a_crash_at_any_step_of_a_commit_leaves_all_of_it_or_nothing: KillAfter, (1, 1), commit;
    g3_a_crash_before_a_step_of_a_commit_leaves_all_of_it_or_nothing: KillBefore, (1, 3), commit;
    g3_a_crash_at_any_step_of_an_abort_that_rewinds_leaves_all_of_it_or_nothing: KillAfter, (1, 3), rewind;
}
