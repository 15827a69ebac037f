//! A crash at every step of captures, restores and new worktrees (G3, G9): after the next start all
//! of the call is there or nothing, a retry with its key has one effect and one answer, Git is
//! content, and nothing is left over.

use uuid::Uuid;

use crate::{
    fault::{Act, Fault},
    harness::Daemon,
    scenes::{self, Scene},
};

/// More steps than any call has: a walk that gets here does not end.
const TOO_MANY: u32 = 1000;

/// Kills the daemon at each of those steps of a scene's call that are `of` apart, from step `from` on,
/// and at each of the last ones: few come after the commit, and a stride may pass over all of them.
/// `cut` is called when it is dead, and may lose what was not synced.
pub async fn walk(
    test: &str,
    scene: &Scene,
    act: Act,
    (from, of): (u32, u32),
    mut cut: impl FnMut(),
) {
    let repo = &scene.repo;
    // Not on a disk that loses power.
    let control = tempfile::Builder::new().prefix("hdl").tempdir().unwrap();
    let Some(fault) = Fault::beside(test, control.path(), &repo.around()) else {
        return;
    };
    let mut done_before = [0, 0];
    let (mut step, mut stride) = (from, of);
    loop {
        assert!(step < TOO_MANY);
        scene.reset();
        let mut daemon = Daemon::spawn(fault.serve(repo));
        daemon.wait_for_line("serving");
        let channel = repo.channel().await;
        let key = Uuid::new_v4();
        fault.arm(act, step, scene.kinds());
        let answer = scene.call(&channel, key).await;
        drop(channel);
        let hit = fault.hit();
        fault.disarm();
        let Some(hit) = hit else {
            answer.unwrap();
            if stride == 1 {
                break;
            }
            step = (step + 1).saturating_sub(stride).max(1);
            stride = 1;
            continue;
        };
        // It may be answered already, when what is left to do is only tidying up.
        if answer.is_err() {
            daemon.wait();
        } else {
            daemon.crash();
        }
        cut();
        let when = format!("killed at step {step}, {hit:?}");
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
        step += stride;
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
}
