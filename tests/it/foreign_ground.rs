//! Places inside a worktree where a restore has no business, or cannot work: repositories of their own,
//! mounted disks, paths for which the system has no room (G9, G10).

use std::{fs, io::Write};

use heddle_agent::{failure::Reason, grpc_local_impl::proto::local::restore_target::Target};
use nix::{
    fcntl::{OFlag, open, openat},
    sys::stat::{Mode, mkdirat},
};
use tonic::Code;

use crate::{
    deep::Removed,
    fault::Mount,
    harness::{TestRepo, run},
    oddities::commit_all,
    rpc::assert_refused,
    states::{content, hex, restore, to_state},
    trees::Served,
};

/// Runs Git in the repository that lies in `lib`.
fn inner(served: &Served, args: &[&str]) -> String {
    let mut git = served.repo.command("git");
    git.current_dir(served.path("lib"));
    git.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]);
    run(git.args(args)).ok()
}

#[tokio::test]
async fn g9_nothing_is_written_into_a_repository_that_took_the_place_of_a_folder() {
    let served = Served::new(TestRepo::new()).await;
    for path in ["a", "lib/deep/x", "lib/x", "lib/y", "lib.txt"] {
        served.write(path, "1\n");
    }
    let folder = served.same("a folder").await;
    fs::remove_dir_all(served.path("lib")).unwrap();
    fs::create_dir(served.path("lib")).unwrap();
    inner(&served, &["init", "-q"]);
    served.write("lib/x", "its own\n");
    let unborn = served.capture().await.unwrap();
    assert_eq!(unborn.left_out.len(), 1, "{unborn:?}");
    // Without a commit it is in no capture at all, and with one it is a link to that.
    for has_commit in [false, true] {
        if has_commit {
            inner(&served, &["add", "-A"]);
            inner(&served, &["commit", "-qm", "first"]);
            served.same("a repository").await;
        }
        served.write("a", "2\n");
        served.capture().await.unwrap();
        let before = content(&served.path("lib"));
        let done = served.restore(Target::State(folder.clone())).await.unwrap();
        assert_eq!(done.left_alone, ["lib: a repository of its own"]);
        assert_eq!(content(&served.path("lib")), before);
        assert_eq!(fs::read_to_string(served.path("a")).unwrap(), "1\n");
        let status = inner(&served, &["status", "--porcelain"]);
        assert_eq!(status, if has_commit { "" } else { "?? x\n" });
        served.restore(Target::Undo(1)).await.unwrap();
        assert_eq!(fs::read_to_string(served.path("a")).unwrap(), "2\n");
        assert_eq!(content(&served.path("lib")), before);
    }
    // Once it is gone, the folder comes back.
    fs::remove_dir_all(served.path("lib")).unwrap();
    served.goes_to("without it", &folder).await;
    served.assert_sound();
}

#[tokio::test]
async fn g9_a_repository_that_a_state_has_in_a_folders_place_is_not_made_up() {
    let served = Served::new(TestRepo::new()).await;
    fs::create_dir(served.path("lib")).unwrap();
    inner(&served, &["init", "-q"]);
    served.write("lib/x", "its own\n");
    inner(&served, &["add", "-A"]);
    inner(&served, &["commit", "-qm", "first"]);
    let own = served.same("a repository").await;
    fs::remove_dir_all(served.path("lib")).unwrap();
    served.write("lib/x", "a file\n");
    let folder = served.same("a folder").await;
    let done = served.restore(Target::State(own)).await.unwrap();
    assert_eq!(done.left_alone, ["lib: a repository of its own"]);
    assert!(!served.path("lib/x").exists());
    served.goes_to("back", &folder).await;
    assert_eq!(
        fs::read_to_string(served.path("lib/x")).unwrap(),
        "a file\n"
    );
}

#[tokio::test]
async fn a_folder_in_which_git_tracks_files_is_the_worktrees_whatever_lies_in_it() {
    let served = Served::new(TestRepo::new()).await;
    served.write("lib/x", "1\n");
    served.write("lib/y", "1\n");
    commit_all(&served, "tracked");
    let first = served.same("tracked").await;
    inner(&served, &["init", "-q"]);
    inner(&served, &["commit", "-q", "--allow-empty", "-m", "first"]);
    served.write("lib/x", "2\n");
    fs::remove_file(served.path("lib/y")).unwrap();
    served.same("with a repository in it").await;
    let done = served.goes_to("back", &first).await;
    assert!(done.left_alone.is_empty(), "{done:?}");
    assert_eq!(fs::read_to_string(served.path("lib/y")).unwrap(), "1\n");
}

#[tokio::test]
async fn g10_a_disk_that_is_mounted_inside_is_told_and_nothing_is_half_done() {
    let test = "g10_a_disk_that_is_mounted_inside_is_told";
    let served = Served::new(TestRepo::new()).await;
    for path in ["a", "disk/in/b", "disk/in/c", "z/file", "z/other"] {
        served.write(path, "1\n");
    }
    let first = served.same("before").await;
    let refused = async |what: &str, path: &str, others: &str| {
        let before = content(&served.root);
        let refused = served
            .restore(Target::State(first.clone()))
            .await
            .unwrap_err();
        assert_refused(&refused, Code::FailedPrecondition, Reason::PathInTheWay);
        let said = refused.message();
        let begins = format!("{path} is on a disk that is mounted");
        assert!(said.starts_with(&begins), "{what}: {said}");
        assert_eq!(content(&served.root), before, "{what}");
        assert!(!served.path(".heddle/restore").exists(), "{what}");
        let mut some = to_state(&first);
        some.paths = vec![others.into()];
        restore(&served.channel, some).await.unwrap();
    };
    served.write("a", "2\n");
    fs::remove_dir_all(served.path("disk")).unwrap();
    let Some(disk) = Mount::in_memory(test, served.path("disk")) else {
        return;
    };
    refused("what is to be added", "disk/in/b", "a").await;
    served.write("a", "2\n");
    served.write("disk/in/b", "2\n");
    served.write("disk/in/new", "2\n");
    refused("what is to be replaced and removed", "disk/in/b", "a").await;
    drop(disk);
    // What was under it is not there: a restore brings it.
    served.goes_to("unmounted", &first).await;

    let outside = served.repo.around().join("outside");
    fs::write(&outside, "outside\n").unwrap();
    served.write("a", "2\n");
    let Some(file) = Mount::of_file(test, &outside, served.path("z/file")) else {
        return;
    };
    refused("a file that is a mount itself", "z/file", "a").await;
    assert_eq!(fs::read_to_string(&outside).unwrap(), "outside\n");
    drop(file);
    served.goes_to("unmounted", &first).await;
    served.assert_sound();
}

#[tokio::test]
async fn g10_a_path_for_which_the_system_has_no_room_is_told_before_anything_is_moved() {
    let served = Served::new(TestRepo::at("long/".repeat(60) + "repo")).await;
    served.write("a", "1\n");
    let first = served.same("before").await;
    // Git keeps it, and with the worktree's own path before it, it is too long.
    let (depth, name) = (2_000, "f".repeat(50));
    let path = "d/".repeat(depth) + &name;
    let script = format!(
        "export GIT_INDEX_FILE=\"$PWD/.git/deep-index\"; git read-tree {first} &&
         git update-index --add --cacheinfo 100644,$(git rev-parse {first}:a),{path} &&
         git rm -q --cached a && git commit-tree -p {first} -m deep $(git write-tree)"
    );
    let deep = run(served.command("sh").args(["-c", &script])).ok();
    let refused = served.restore(Target::State(deep.trim().into())).await;
    let refused = refused.unwrap_err();
    let bytes = served.root.as_os_str().len() + 1 + path.len();
    let told = |refused: tonic::Status, bytes: &str| {
        assert_refused(
            &refused,
            Code::FailedPrecondition,
            Reason::WorktreeUnreadable,
        );
        let begins = format!("a file below d has a path of {bytes}");
        assert!(refused.message().starts_with(&begins), "{refused}");
    };
    told(refused, &format!("{bytes} bytes "));
    assert!(served.path("a").exists() && !served.path("d").exists());
    let mut one = to_state(deep.trim());
    one.paths = vec!["a".into()];
    restore(&served.channel, one).await.unwrap();
    assert!(!served.path("a").exists());
    // Nor can such a file be looked at; where Git tracks it and it stays as it is, it need not be.
    let top = Removed(served.path("d"));
    write_deep(&served, depth, &name);
    let refused = served.capture().await.unwrap_err();
    told(refused, "4");
    served.git(&["add", "-A"]);
    let state = served.capture().await.unwrap();
    served.assert_gits("tracked", &hex(&state.state_id));
    drop(top);
}

/// Writes a file so many folders deep, each opened from the one around it.
fn write_deep(served: &Served, depth: usize, name: &str) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut folder = open(&served.root, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&folder, "d", Mode::S_IRWXU).unwrap();
        folder = openat(&folder, "d", flags, Mode::empty()).unwrap();
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT;
    let file = openat(&folder, name, flags, Mode::S_IRWXU).unwrap();
    fs::File::from(file).write_all(b"1\n").unwrap();
}
