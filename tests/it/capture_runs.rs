//! One daemon over a long run of changes, restores and commits: what it remembers of a worktree
//! never shows in a capture's tree, which is Git's own each time.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use crate::{
    capture_tree::copy_index,
    harness::{TestRepo, run},
    states::{captured, restore, to_state},
};

/// Files, and folders in the place of files, that sort in ways of their own.
const PATHS: &[&str] = &[
    "a",
    "a.b",
    "a/x",
    "a/x.y",
    "a/x/y",
    "a/x/z/deep",
    "a-b/z",
    "a0",
    "b",
    "b/c/d",
    "b/c.d",
    "b/e",
    "z/attributes",
    "z/text",
    "z/ignored.log",
    ".gitignore",
];

/// Numbers that are the same on every run (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

fn remove(path: &Path) {
    let Ok(found) = path.symlink_metadata() else {
        return;
    };
    if found.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

/// Makes room for a file: whatever is there or is no folder above it goes.
fn clear(repo: &TestRepo, path: &str) {
    for above in Path::new(path).ancestors().skip(1) {
        let above = repo.path(above);
        if above != repo.root() && above.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            remove(&above);
        }
    }
    let path = repo.path(path);
    remove(&path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
}

fn change(repo: &TestRepo, random: &mut Random, round: usize) {
    let path = PATHS[random.below(PATHS.len())];
    match (path, random.below(8)) {
        (_, 0) => remove(&repo.path(path)),
        (".gitignore", n) => {
            clear(repo, path);
            fs::write(repo.path(path), ["*.log\n", "b/\n", "# none\n"][n % 3]).unwrap();
        }
        ("z/attributes", n) => {
            clear(repo, path);
            fs::write(
                repo.path(path),
                ["* text\n", "* -text\n", "* eol=crlf\n"][n % 3],
            )
            .unwrap();
        }
        (_, 1) => {
            clear(repo, path);
            symlink(format!("to-{round}"), repo.path(path)).unwrap();
        }
        (_, 2) => {
            clear(repo, path);
            let path = repo.path(path);
            fs::write(&path, "run\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        (_, 3) => {
            clear(repo, path);
            let inner = repo.path(path);
            fs::create_dir(&inner).unwrap();
            let git = |args: &[&str]| {
                run(repo.command("git").current_dir(&inner).args(args)).ok();
            };
            git(&["init", "-q"]);
            git(&["config", "user.name", "Ada"]);
            git(&["config", "user.email", "ada@example.com"]);
            git(&["commit", "-q", "--allow-empty", "-m", &format!("{round}")]);
        }
        (_, n) => {
            clear(repo, path);
            fs::write(repo.path(path), format!("{n}\r\nof {round}\n")).unwrap();
        }
    }
}

fn gits_tree(repo: &TestRepo) -> String {
    let copy = repo.around().join("throw-away-index");
    copy_index(&repo.path(".git/index"), &copy);
    let git = |args: &[&str]| {
        let mut git = repo.command("git");
        run(git
            .env("GIT_INDEX_FILE", &copy)
            .args([
                "-c",
                "advice.addEmbeddedRepo=false",
                "-c",
                "core.safecrlf=false",
            ])
            .args(args))
        .ok()
    };
    git(&["add", "-A"]);
    git(&["write-tree"]).trim().to_owned()
}

#[tokio::test]
async fn a_long_run_of_changes_gives_gits_tree_each_time() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let mut channel = repo.channel().await;
    let mut random = Random(4);
    let mut states = Vec::new();
    for round in 0..120 {
        for _ in 0..random.below(4) {
            change(&repo, &mut random, round);
        }
        match random.below(12) {
            0 => {
                repo.git(&["-c", "advice.addEmbeddedRepo=false", "add", "-A"]);
                repo.git(&["commit", "-q", "--allow-empty", "-m", "Commit"]);
            }
            1 if !states.is_empty() => {
                // Some states cannot be gone to: a repository of its own may be in the way.
                let state: &String = &states[random.below(states.len())];
                let _ = restore(&channel, to_state(state)).await;
            }
            2 if round % 3 == 0 => {
                assert!(daemon.stop().success());
                daemon = repo.serve();
                channel = repo.channel().await;
            }
            _ => {}
        }
        let gits = gits_tree(&repo);
        let state = captured(&channel, "").await;
        let ours = repo.git(&["rev-parse", &format!("{state}^{{tree}}")]);
        if ours.trim() != gits {
            let diff = repo.git(&["diff", "--raw", &gits, ours.trim()]);
            panic!("round {round}: Git's tree is {gits}, ours {ours}:\n{diff}");
        }
        states.push(state);
    }
    repo.git(&["fsck", "--strict"]);
}
