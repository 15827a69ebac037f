//! A power cut at the steps of captures, restores, new worktrees and transactions (G4): what was
//! acknowledged is there, of the rest all or nothing, and Git is content.

use std::{fs, process::Command};

use crate::{
    crash::walk,
    fault::{Act, ImageDisk},
    harness::{TestRepo, run},
    scenes::{self, Scene},
    states::{capture, captured, hex},
};

macro_rules! walks {
    ($($name:ident: $part:expr, $scene:ident;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let test = stringify!($name);
            let Some(mut disk) = ImageDisk::new(test) else { return };
            let repo = TestRepo::empty_in(disk.path(), "repo");
            let scene = Scene::new(repo, scenes::$scene).await;
            walk(test, &scene, Act::KillBefore, $part, || disk.lose_power()).await;
        }
    )*};
}

walks! {
    g4_a_power_cut_at_steps_of_a_capture_leaves_all_of_it_or_nothing: (1, 3), capture;
    g4_a_power_cut_at_steps_of_a_restore_leaves_all_of_it_or_nothing: (2, 5), whole;
    g4_a_power_cut_at_steps_while_the_index_follows_leaves_all_of_it_or_nothing: (3, 7), with_index;
    g4_a_power_cut_at_steps_of_a_new_worktree_leaves_all_of_it_or_nothing: (4, 7), start;
    g4_a_power_cut_at_steps_of_a_begin_leaves_all_of_it_or_nothing: (2, 4), begin;
    g4_a_power_cut_at_steps_of_a_commit_leaves_all_of_it_or_nothing: (1, 3), commit;
    g4_a_power_cut_at_steps_of_an_abort_that_rewinds_leaves_all_of_it_or_nothing: (3, 11), rewind;
}

#[tokio::test]
async fn g4_what_git_left_unsynced_is_synced_before_a_state_refers_to_it() {
    let Some(mut disk) = ImageDisk::new("g4_what_git_left_unsynced") else {
        return;
    };
    let repo = TestRepo::empty_in(disk.path(), "repo");
    repo.git(&["config", "core.fsync", "none"]);
    let mut daemon = repo.serve();
    run(Command::new("sync").arg("-f").arg(repo.root())).ok();
    for name in ["a", "b"] {
        fs::write(repo.path(name), name).unwrap();
    }
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "by Git"]);
    let channel = repo.channel().await;
    // It finds nothing new, and the next one does not look at the rest again.
    assert!(capture(&channel, "").await.unwrap().unchanged);
    fs::write(repo.path("b"), "changed").unwrap();
    let state = captured(&channel, "").await;
    drop(channel);
    daemon.crash();
    disk.lose_power();
    let listed = repo.git(&["rev-list", "--objects", "--no-object-names", &state]);
    for object in listed.lines() {
        repo.git(&["cat-file", "-p", object]);
    }
    let thread = repo.git(&["ls-tree", "--name-only", &state]);
    assert_eq!(thread, "a\nb\n");
}

#[tokio::test]
async fn g4_every_acknowledged_capture_outlives_a_power_cut_and_so_does_its_ref() {
    let Some(mut disk) = ImageDisk::new("g4_every_acknowledged_capture") else {
        return;
    };
    let repo = TestRepo::empty_in(disk.path(), "repo");
    run(Command::new("sync").arg("-f").arg(repo.root())).ok();
    let mut states = Vec::new();
    // More than share one sync of refs, so that some are forgotten by the store and some are not.
    for round in 0..70 {
        let mut daemon = repo.serve();
        let channel = repo.channel().await;
        let each = if round < 4 { 40 } else { 1 };
        for n in 0..each {
            fs::write(repo.path("file"), format!("{round} {n}")).unwrap();
            states.push(capture(&channel, "").await.unwrap().state_id);
        }
        drop(channel);
        daemon.crash();
        if round % 10 != 3 {
            continue;
        }
        disk.lose_power();
        let _daemon = repo.serve();
        let newest = hex(states.last().unwrap());
        let thread = repo.git(&["rev-parse", "refs/heddle/threads/main"]);
        assert_eq!(thread.trim(), newest, "round {round}");
        let chain = repo.git(&["rev-list", "--count", &newest]);
        assert_eq!(chain.trim(), states.len().to_string(), "round {round}");
        repo.git(&["fsck", "--strict"]);
    }
}
