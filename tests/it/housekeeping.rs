//! Git is looked after while a daemon has it open: packs are written anew, objects nobody refers to go,
//! and configuration changes. What the daemon had read of them by then must not be believed any more.

use std::fs;

use heddle_agent::grpc_local_impl::proto::local::{DiffStatesRequest, restore_target::Target};

use crate::{
    harness::{TestRepo, run},
    states::{captured, diff},
    trees::Served,
};

/// A repository whose objects lie in one pack, served by a daemon that has looked into it.
async fn packed(git_first: impl FnOnce(&TestRepo)) -> Served {
    let repo = TestRepo::new();
    git_first(&repo);
    repo.git(&["repack", "-adq"]);
    let served = Served::new(repo).await;
    served.same("with the pack open").await;
    served
}

/// Captures what Git must not be asked about before: it would write the objects itself.
async fn captured_alone(served: &Served) -> String {
    let state = captured(&served.channel, "alone").await;
    served.assert_sound();
    served.assert_gits("alone", &state);
    state
}

#[tokio::test]
async fn g9_what_git_pruned_under_an_open_daemon_is_written_again() {
    let content = "known to Git for a while\n".repeat(100);
    for prune in [&["gc", "-q", "--prune=now"][..], &["repack", "-adfq"]] {
        let served = packed(|repo| {
            fs::write(repo.path("forgotten"), &content).unwrap();
            repo.git(&["add", "-A"]);
            repo.git(&["commit", "-qm", "to be forgotten"]);
            // As if it had never been.
            repo.git(&["update-ref", "refs/x", "HEAD"]);
            repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
        })
        .await;
        // Configuration stays as it is.
        served.git(&["update-ref", "-d", "refs/x"]);
        served.git(&["reflog", "expire", "--expire=now", "--all"]);
        served.git(prune);
        served.write("forgotten", &content);
        let state = captured_alone(&served).await;
        let kept = served.git(&["cat-file", "blob", &format!("{state}:forgotten")]);
        assert_eq!(kept, content, "{prune:?}");
        served.assert_sound();
    }
}

#[tokio::test]
async fn states_are_told_apart_and_restored_whatever_becomes_of_the_packs() {
    let served = packed(|_| {}).await;
    let mut states = Vec::new();
    for round in 0..3 {
        for file in 0..20 {
            served.write(format!("{file}"), format!("{round}\n").repeat(file + 1));
        }
        states.push(served.same("a round").await);
        for pack in [&["gc", "-q", "--prune=now"][..], &["repack", "-adfq"]] {
            served.git(pack);
            let told = diff(
                &served.channel,
                DiffStatesRequest {
                    from: states[0].clone(),
                    patch: true,
                    ..Default::default()
                },
            );
            let told = told.await.unwrap().changes;
            assert_eq!(told.len(), if round == 0 { 0 } else { 20 });
            served.goes_to("the first", &states[0]).await;
            served.git(&["repack", "-adfq"]);
            let newest = states.last().unwrap().clone();
            served.restore(Target::State(newest.clone())).await.unwrap();
            served.assert_gits("back again", &newest);
        }
    }
    served.assert_sound();
}

#[tokio::test]
async fn configuration_that_changes_under_an_open_daemon_counts_at_once() {
    let served = packed(|_| {}).await;
    served.write("lines", "one\r\ntwo\r\n");
    served.write("a.up", "one\n");
    let plain = served.same("plain").await;
    served.git(&["config", "core.autocrlf", "input"]);
    let lf = served.same("core.autocrlf").await;
    assert_ne!(served.tree_of(&plain), served.tree_of(&lf));
    served.write(".git/info/attributes", "*.up filter=up\n");
    served.git(&["config", "filter.up.clean", "tr a-z A-Z"]);
    served.git(&["config", "filter.up.smudge", "tr A-Z a-z"]);
    let upper = served.same("a filter").await;
    assert_eq!(served.git(&["show", &format!("{upper}:a.up")]), "ONE\n");
    served.git(&["config", "filter.up.clean", "tr a-z 0-9"]);
    let digits = served.same("another filter").await;
    assert_ne!(served.tree_of(&upper), served.tree_of(&digits));
    served.git(&["config", "core.fileMode", "false"]);
    served.git(&["config", "filter.up.clean", "tr a-z A-Z"]);
    served.git(&["config", "core.autocrlf", "true"]);
    served.write("lines", "three\n");
    served.same("changed").await;
    served.goes_to("by the new rules", &upper).await;
    assert_eq!(fs::read_to_string(served.path("a.up")).unwrap(), "one\n");
    assert_eq!(
        fs::read_to_string(served.path("lines")).unwrap(),
        "one\r\ntwo\r\n"
    );
    served.assert_sound();
}

#[tokio::test]
async fn configuration_of_a_branch_counts_when_that_is_checked_out() {
    let served = packed(|_| {}).await;
    served.write("lines", "one\r\ntwo\r\n");
    served.git(&["branch", "other"]);
    served.git(&["config", "includeIf.onbranch:other.path", "of-other"]);
    served.write(".git/of-other", "[core]\n\tautocrlf = input\n");
    let plain = served.same("on main").await;
    served.git(&["checkout", "-q", "other"]);
    let lf = served.same("on the other branch").await;
    assert_ne!(served.tree_of(&plain), served.tree_of(&lf));
}

#[tokio::test]
async fn packs_of_another_repository_that_is_shared_are_not_believed_in_for_ever() {
    let repo = TestRepo::new();
    let lender = repo.around().join("lender");
    fs::create_dir(&lender).unwrap();
    let at = |args: &[&str]| {
        let mut git = repo.command("git");
        git.current_dir(&lender)
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]);
        run(git.args(args)).ok()
    };
    let content = "lent for a while\n".repeat(100);
    at(&["init", "-q", "-b", "main"]);
    at(&["commit", "-q", "--allow-empty", "-m", "first"]);
    fs::write(lender.join("lent"), &content).unwrap();
    at(&["add", "-A"]);
    at(&["commit", "-qm", "second"]);
    at(&["repack", "-adq"]);
    // All that the other has lies there as well, and only there.
    at(&["fetch", "-q", repo.root().to_str().unwrap(), "main:other"]);
    at(&["repack", "-adq"]);
    let alternates = repo.path(".git/objects/info/alternates");
    let objects = lender.join(".git/objects");
    fs::write(alternates, objects.to_str().unwrap()).unwrap();
    repo.git(&["repack", "-adlq"]);
    let served = Served::new(repo).await;
    served.same("looked").await;
    let script = "git reset -q --hard HEAD~1 && git reflog expire --expire=now --all && git gc -q --prune=now";
    let mut sh = served.repo.command("sh");
    run(sh.current_dir(&lender).args(["-c", script])).ok();
    served.write("lent", &content);
    captured_alone(&served).await;
    served.assert_sound();
}

#[tokio::test]
async fn g4_a_lock_that_a_killed_git_left_on_packed_refs_holds_up_no_other() {
    let served = packed(|repo| {
        repo.git(&["pack-refs", "--all"]);
    })
    .await;
    let lock = served.path(".git/packed-refs.lock");
    fs::write(&lock, "").unwrap();
    for text in ["1", "2"] {
        served.write("a", text);
        let state = served.same("a capture").await;
        let now = served.git(&["rev-parse", "refs/heddle/threads/main"]);
        assert_eq!(now.trim(), state);
    }
    // Nor what a start makes up for.
    let state = served.same("the newest").await;
    let Served {
        repo, mut daemon, ..
    } = served;
    daemon.crash();
    fs::remove_file(repo.path(".git/refs/heddle/threads/main")).unwrap();
    let _daemon = repo.serve();
    let now = repo.git(&["rev-parse", "refs/heddle/threads/main"]);
    assert_eq!(now.trim(), state);
    assert!(lock.exists(), "it is its user's to remove");
}
