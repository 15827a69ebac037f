//! Folders in folders in folders: as deep as the system's paths go they are captured and restored as
//! others are, and a tree that is deeper still is refused in words. None of it needs a stack as deep.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use heddle_agent::{failure::Reason, grpc_local_impl::proto::local::DiffStatesRequest};
use tonic::Code;

use crate::{
    harness::TestRepo,
    rpc::assert_refused,
    states::{capture, captured, diff, preview, restore, to_state},
    trees::Served,
};

/// Folders in each other: their path, from the worktree's root on, just fits the system's limit.
const DEPTH: usize = 1_900;

/// The standard library keeps a descriptor for each level when it removes folders: rm(1) does not.
pub struct Removed(pub PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = Command::new("rm").arg("-rf").arg(&self.0).status();
    }
}

/// The path of the folder so deep.
fn at(depth: usize) -> String {
    vec!["d"; depth].join("/")
}

#[tokio::test]
async fn folders_as_deep_as_paths_go_are_captured_and_restored_as_others_are() {
    let here = Served::new(TestRepo::new()).await;
    let top = Removed(here.path("d"));
    for depth in 1..=DEPTH {
        fs::create_dir(here.path(at(depth))).unwrap();
    }
    let (deepest, halfway) = (at(DEPTH) + "/f", at(DEPTH / 2) + "/f");
    here.write(&deepest, "1\n");
    here.write(&halfway, "1\n");
    let first = here.same("untracked").await;
    here.git(&["add", "-A"]);
    here.git(&["commit", "-qm", "deep"]);
    here.same("committed").await;
    here.write(&deepest, "2\n");
    fs::remove_file(here.path(&halfway)).unwrap();
    let second = here.same("changed").await;

    let told = diff(
        &here.channel,
        DiffStatesRequest {
            from: first.clone(),
            to: second.clone(),
            ..Default::default()
        },
    );
    let told = told.await.unwrap().changes;
    let paths: Vec<_> = told.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, [deepest.as_str(), halfway.as_str()]);

    here.goes_to("changed", &first).await;
    fs::remove_dir_all(here.path(at(DEPTH / 2 + 1))).unwrap_or_else(|_| {
        drop(Removed(here.path(at(DEPTH / 2 + 1))));
    });
    captured(&here.channel, "without the lower half").await;
    here.goes_to("brought back", &second).await;
    let mut one = to_state(&first);
    one.paths = vec![deepest.clone()];
    restore(&here.channel, one).await.unwrap();
    assert_eq!(fs::read_to_string(here.path(&deepest)).unwrap(), "1\n");
    here.goes_to("the first of all", "HEAD~1").await;
    assert!(!here.path("d").exists());
    drop(top);
}

#[tokio::test]
async fn g10_a_tree_that_is_too_deep_is_refused_in_words() {
    let here = Served::new(TestRepo::new()).await;
    let state = deep_state(&here, 5_000);
    for refused in [
        restore(&here.channel, to_state(&state)).await.unwrap_err(),
        preview(&here.channel, to_state(&state)).await.unwrap_err(),
    ] {
        assert_refused(&refused, Code::FailedPrecondition, Reason::TreeTooDeep);
        assert!(
            refused.message().contains("2048 deep, below d"),
            "{refused}"
        );
    }
    here.git(&["update-ref", "refs/heads/main", &state]);
    let refused = capture(&here.channel, "").await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::TreeTooDeep);
    here.git(&["update-ref", "refs/heads/main", &format!("{state}~1")]);
    captured(&here.channel, "alive").await;
}

/// A commit on HEAD whose only file lies so many folders deep.
fn deep_state(here: &Served, depth: usize) -> String {
    let mut child = here
        .command("git")
        .args(["mktree", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut asks, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut answers = BufReader::new(answers).lines();
    let blob = here.git(&["rev-parse", "HEAD:README"]);
    let mut row = format!("100644 blob {}\tf\n\n", blob.trim());
    for _ in 0..=depth {
        asks.write_all(row.as_bytes()).unwrap();
        let tree = answers.next().unwrap().unwrap();
        row = format!("040000 tree {tree}\td\n\n");
    }
    drop(asks);
    assert!(child.wait().unwrap().success());
    let tree = row.split(['\t', ' ']).nth(2).unwrap();
    let commit = here.git(&["commit-tree", "-p", "HEAD", "-m", "deep", tree]);
    commit.trim().to_owned()
}
