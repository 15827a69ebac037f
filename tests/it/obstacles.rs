//! What a capture or a restore can meet in a worktree and on its disk (G10): each is told in words, by
//! its reason, and changes nothing; what need not disturb does not.

use std::{
    fs,
    io::Write,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    process::{Command, Stdio},
};

use heddle_agent::failure::Reason;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tonic::Code;

use crate::{
    fault::{Act, Fault, ImageDisk, MemoryDisk, kinds, reason},
    harness::{Daemon, HEDDLE, TestRepo, is_root, skip},
    rpc::assert_refused,
    scenes::in_memory,
    states::{GitView, capture, captured, content, hex, restore, to_state},
};

#[tokio::test]
async fn g10_a_full_disk_refuses_captures_and_restores_and_changes_nothing() {
    let Some(disk) = MemoryDisk::new("g10_a_full_disk_refuses_captures", "16m") else {
        return;
    };
    let repo = TestRepo::empty_in(disk.path(), "repo");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let large: String = (0..40_000).map(|n| format!("line {n}\n")).collect();
    fs::write(repo.path("large"), &large).unwrap();
    let first = captured(&channel, "").await;
    fs::write(repo.path("large"), "small").unwrap();
    fs::write(repo.path("more"), large.repeat(2)).unwrap();
    disk.fill();
    let before = content(repo.root());
    for _ in 0..2 {
        let refused = capture(&channel, "").await.unwrap_err();
        assert_refused(&refused, Code::ResourceExhausted, Reason::StoreFull);
        let refused = restore(&channel, to_state(&first)).await.unwrap_err();
        assert_refused(&refused, Code::ResourceExhausted, Reason::StoreFull);
    }
    assert_eq!(content(repo.root()), before);
    disk.free();
    captured(&channel, "").await;
    // Room for the rescue is there already, and none for what is to be written.
    disk.fill();
    let refused = restore(&channel, to_state(&first)).await.unwrap_err();
    assert_refused(&refused, Code::ResourceExhausted, Reason::StoreFull);
    assert_eq!(content(repo.root()), before);
    disk.free();
    restore(&channel, to_state(&first)).await.unwrap();
    assert_eq!(fs::read_to_string(repo.path("large")).unwrap(), large);
    assert_eq!(repo.git(&["fsck", "--strict", "--no-dangling"]), "");
}

#[tokio::test]
async fn g10_a_disk_that_turns_read_only_refuses_captures_and_restores() {
    let test = "g10_a_disk_that_turns_read_only_refuses_captures";
    let Some(disk) = ImageDisk::new(test) else {
        return;
    };
    let repo = TestRepo::empty_in(disk.path(), "repo");
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("a"), "1").unwrap();
    let first = captured(&channel, "").await;
    fs::write(repo.path("a"), "2").unwrap();
    if !disk.break_down() {
        return skip(test, "the kernel offers no trigger_fs_error");
    }
    for refused in [
        capture(&channel, "").await.unwrap_err(),
        restore(&channel, to_state(&first)).await.unwrap_err(),
    ] {
        let told = reason(&refused);
        assert!(
            ["STORE_READ_ONLY", "STORE_IO"].contains(&&*told),
            "{refused:?}"
        );
    }
    assert_eq!(fs::read_to_string(repo.path("a")).unwrap(), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g10_a_repository_that_is_deleted_in_the_middle_is_not_made_again() {
    for restoring in [false, true] {
        let repo = TestRepo::new();
        let Some(fault) = Fault::new("g10_a_repository_that_is_deleted", &repo) else {
            return;
        };
        let mut daemon = Daemon::spawn(fault.serve(&repo));
        daemon.wait_for_line("serving");
        let channel = repo.channel().await;
        fs::write(repo.path("a"), "1").unwrap();
        let first = captured(&channel, "").await;
        fs::write(repo.path("a"), "2").unwrap();
        fault.only(if restoring { "/a" } else { "/objects" });
        // An object is about to be put in its place, or a file in the worktree.
        fault.arm(
            Act::Hold,
            1,
            if restoring { kinds::NAME } else { kinds::ALL },
        );
        if !restoring {
            fault.only("");
            fault.arm(Act::Hold, 1, kinds::NAME);
        }
        let call = tokio::spawn(async move {
            if restoring {
                restore(&channel, to_state(&first)).await.map(drop)
            } else {
                capture(&channel, "").await.map(drop)
            }
        });
        crate::harness::eventually("it is under way", || fault.hit());
        fs::remove_dir_all(repo.root()).unwrap();
        fault.disarm();
        let refused = call.await.unwrap().unwrap_err();
        assert_ne!(reason(&refused), "INTERNAL", "{refused:?}");
        assert_eq!(daemon.wait().code(), Some(1));
        assert!(!repo.root().exists(), "it was made again");
    }
}

#[tokio::test]
async fn a_locked_index_disturbs_neither_captures_nor_restores() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path(".git/index.lock"), "theirs").unwrap();
    let before = GitView::of(&repo);
    fs::write(repo.path("a"), "1").unwrap();
    let first = captured(&channel, "").await;
    fs::remove_file(repo.path("a")).unwrap();
    restore(&channel, to_state(&first)).await.unwrap();
    fs::remove_file(repo.path("a")).unwrap();
    assert_eq!(GitView::of(&repo), before);
    let lock = fs::read_to_string(repo.path(".git/index.lock")).unwrap();
    assert_eq!(lock, "theirs");
}

#[tokio::test]
async fn g10_a_file_that_cannot_be_read_is_named_and_nothing_is_captured() {
    let repo = TestRepo::new();
    // Root reads everything, unless it is not allowed to.
    let mut serve = if is_root() {
        let mut limited = repo.command("setpriv");
        limited.arg("--bounding-set=-dac_override,-dac_read_search");
        limited.arg(HEDDLE);
        limited
    } else {
        repo.command(HEDDLE)
    };
    serve.args(["agent", "serve"]);
    let daemon = Daemon::spawn(serve);
    daemon.wait_for_line("serving");
    let channel = repo.channel().await;
    let mode = |path: &str, mode| {
        fs::set_permissions(repo.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(repo.path("folder")).unwrap();
    fs::write(repo.path("folder/file"), "x").unwrap();
    fs::write(repo.path("file"), "x").unwrap();
    let first = captured(&channel, "").await;
    fs::write(repo.path("file"), "changed").unwrap();
    mode("file", 0o000);
    for refused in [
        capture(&channel, "").await.unwrap_err(),
        restore(&channel, to_state(&first)).await.unwrap_err(),
    ] {
        assert_eq!(reason(&refused), "WORKTREE_UNREADABLE", "{refused:?}");
        let named = repo.path("file").display().to_string();
        assert!(refused.message().contains(&named), "{refused:?}");
    }
    mode("file", 0o644);
    // Git leaves out a folder that it cannot read, and says so.
    mode("folder", 0o000);
    let without = capture(&channel, "").await.unwrap();
    let left_out: Vec<_> = without
        .left_out
        .iter()
        .map(|left| left.path.as_str())
        .collect();
    assert_eq!(left_out, ["folder"]);
    mode("folder", 0o755);
    // A folder in which nothing may be moved.
    fs::write(repo.path("folder/file"), "other").unwrap();
    captured(&channel, "").await;
    mode("folder", 0o555);
    let refused = restore(&channel, to_state(&first)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    mode("folder", 0o755);
    let read = |path: &str| fs::read_to_string(repo.path(path)).unwrap();
    assert_eq!(
        (read("file"), read("folder/file")),
        ("changed".into(), "other".into())
    );
    restore(&channel, to_state(&first)).await.unwrap();
    assert_eq!(
        (read("file"), read("folder/file")),
        ("x".into(), "x".into())
    );
}

#[tokio::test]
async fn g9_what_no_capture_holds_is_never_written_over() {
    let repo = TestRepo::new();
    fs::write(repo.path(".gitignore"), "*.o\n").unwrap();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("here"), "in the way").unwrap();
    fs::write(repo.path("other"), "1").unwrap();
    let first = captured(&channel, "").await;
    fs::remove_file(repo.path("here")).unwrap();
    fs::write(repo.path("other"), "2").unwrap();
    let refuses = async |what: &str| {
        captured(&channel, "").await;
        let refused = restore(&channel, to_state(&first)).await.unwrap_err();
        assert_refused(&refused, Code::FailedPrecondition, Reason::PathInTheWay);
        assert!(refused.message().contains("here"), "{what}: {refused:?}");
        let other = fs::read_to_string(repo.path("other")).unwrap();
        assert_eq!(other, "2", "{what}");
        assert!(!repo.path(".heddle/restore").exists(), "{what}");
    };
    mknod(&repo.path("here"), SFlag::S_IFIFO, Mode::S_IRWXU, 0).unwrap();
    refuses("a FIFO").await;
    let kind = || repo.path("here").symlink_metadata().unwrap().file_type();
    assert!(kind().is_fifo());
    fs::remove_file(repo.path("here")).unwrap();

    let socket = UnixListener::bind(repo.path("here")).unwrap();
    refuses("a socket").await;
    assert!(kind().is_socket());
    drop(socket);
    fs::remove_file(repo.path("here")).unwrap();

    if is_root()
        && mknod(
            &repo.path("here"),
            SFlag::S_IFCHR,
            Mode::S_IRWXU,
            makedev(1, 3),
        )
        .is_ok()
    {
        refuses("a device").await;
        assert!(kind().is_char_device());
        fs::remove_file(repo.path("here")).unwrap();
    }

    fs::create_dir(repo.path("here")).unwrap();
    fs::write(repo.path("here/built.o"), "ignored").unwrap();
    refuses("a folder with ignored files").await;
    assert_eq!(
        fs::read_to_string(repo.path("here/built.o")).unwrap(),
        "ignored"
    );
    fs::remove_dir_all(repo.path("here")).unwrap();

    fs::create_dir(repo.path("here")).unwrap();
    restore(&channel, to_state(&first)).await.unwrap();
    assert_eq!(fs::read_to_string(repo.path("here")).unwrap(), "in the way");
}

#[tokio::test]
async fn g9_a_linked_folder_is_replaced_and_never_written_through() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::create_dir(repo.path("data")).unwrap();
    fs::write(repo.path("data/file"), "inside").unwrap();
    let first = captured(&channel, "").await;
    let outside = repo.around().join("outside");
    fs::rename(repo.path("data"), &outside).unwrap();
    symlink(&outside, repo.path("data")).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    let done = restore(&channel, to_state(&first)).await.unwrap();
    assert!(repo.path("data").symlink_metadata().unwrap().is_dir());
    assert_eq!(
        fs::read_to_string(repo.path("data/file")).unwrap(),
        "inside"
    );
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "outside");
    restore(&channel, to_state(&hex(&done.rescue_state_id)))
        .await
        .unwrap();
    assert_eq!(fs::read_link(repo.path("data")).unwrap(), outside);
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "outside");
    // One that no capture holds is in the way, and not a way.
    fs::write(repo.path(".git/info/exclude"), "/.heddle/\n/data\n").unwrap();
    fs::remove_file(outside.join("file")).unwrap();
    let refused = restore(&channel, to_state(&first)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::PathInTheWay);
    assert!(
        refused.message().starts_with("data is in the way"),
        "{refused}"
    );
    assert_eq!(fs::read_link(repo.path("data")).unwrap(), outside);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn g9_a_restore_that_was_cut_short_is_undone_beside_a_folder_moved_away_and_linked() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("g9_a_restore_that_was_cut_short_beside_a_link", &repo) else {
        return;
    };
    let mut daemon = Daemon::spawn(fault.serve(&repo));
    daemon.wait_for_line("serving");
    let channel = repo.channel().await;
    fs::create_dir(repo.path("data")).unwrap();
    fs::write(repo.path("data/file"), "the same").unwrap();
    let first = captured(&channel, "").await;
    let outside = repo.around().join("outside");
    fs::rename(repo.path("data"), &outside).unwrap();
    symlink(&outside, repo.path("data")).unwrap();
    // What is in the folder looks as if the restore had made it.
    fault.only("/.heddle/restore-writing");
    fault.arm(Act::KillBefore, 1, kinds::ALL);
    restore(&channel, to_state(&first)).await.unwrap_err();
    daemon.wait();
    fault.disarm();
    let daemon = repo.serve();
    assert_eq!(
        fs::read_to_string(outside.join("file")).unwrap(),
        "the same"
    );
    assert_eq!(fs::read_link(repo.path("data")).unwrap(), outside);
    let log = daemon.log().join("\n");
    assert!(!log.contains("could not be undone"), "{log}");
}

#[tokio::test]
async fn a_name_that_changes_its_case_only_goes_back_and_forth() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let first = captured(&channel, "").await;
    fs::rename(repo.path("README"), repo.path("readme")).unwrap();
    let second = captured(&channel, "").await;
    let names = || content(repo.root()).into_keys().collect::<Vec<_>>();
    restore(&channel, to_state(&first)).await.unwrap();
    assert_eq!(names(), ["README"]);
    restore(&channel, to_state(&second)).await.unwrap();
    assert_eq!(names(), ["readme"]);
}

/// Feeds a command; answers what it prints.
fn feed(mut command: Command, input: &[u8]) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn g9_a_state_whose_paths_lead_elsewhere_is_refused() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("a"), "1").unwrap();
    captured(&channel, "").await;
    let git = |args: &[&str]| {
        let mut git = repo.command("git");
        git.args(args);
        git
    };
    let blob = feed(
        git(&["hash-object", "-w", "--stdin"]),
        b"[core]\n\tpager = evil\n",
    );
    let mktree = |mode: &str, kind: &str, id: &str, name: &str| {
        let entry = format!("{mode} {kind} {id}\t{name}\0");
        feed(git(&["mktree", "-z", "--missing"]), entry.as_bytes())
    };
    let file = |name: &str| mktree("100644", "blob", &blob, name);
    let folder = |name: &str, tree: &str| mktree("040000", "tree", tree, name);
    let outside = repo.around().join("evil");
    let before = (
        fs::read(repo.path(".git/config")).unwrap(),
        content(repo.root()),
    );
    for tree in [
        file(".."),
        file("."),
        file(".git"),
        folder("..", &file("evil")),
        folder(".git", &file("config")),
        folder(".GIT", &file("config")),
        folder("GIT~1", &file("config")),
        folder("dir", &folder("..", &folder("..", &file("evil")))),
        folder(".g\u{200c}it", &file("config")),
        folder(".heddle", &file("evil")),
        folder(".Heddle", &file("evil")),
    ] {
        let commit = repo.git(&["commit-tree", "-m", "evil", &tree]);
        let refused = restore(&channel, to_state(commit.trim())).await;
        let refused = refused.expect_err(&repo.git(&["ls-tree", "-r", &tree]));
        assert_refused(&refused, Code::FailedPrecondition, Reason::PathInTheWay);
        let now = (
            fs::read(repo.path(".git/config")).unwrap(),
            content(repo.root()),
        );
        assert!(now == before, "{tree}");
        assert!(!outside.exists() && !repo.path(".heddle/evil").exists());
    }
}

#[tokio::test]
async fn an_object_that_a_power_cut_emptied_is_written_anew() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    fs::write(repo.path("a"), "some text\n").unwrap();
    let blob = repo.git(&["hash-object", "-w", "a"]);
    let (first, rest) = blob.trim().split_at(2);
    let object = repo.path(".git/objects").join(first).join(rest);
    fs::remove_file(&object).unwrap();
    fs::write(&object, "").unwrap();
    let state = captured(&channel, "").await;
    assert_eq!(repo.git(&["show", &format!("{state}:a")]), "some text\n");
    assert_eq!(repo.git(&["fsck", "--strict", "--no-dangling"]), "");
}

#[tokio::test]
async fn many_files_in_one_folder_are_captured_and_restored() {
    // By hand, with HEDDLE_TEST_FILES=1000000 and --nocapture, for the figures.
    let files = std::env::var("HEDDLE_TEST_FILES").ok();
    let files: usize = files.map_or(20_000, |files| files.parse().unwrap());
    let repo = if std::env::var_os("HEDDLE_TEST_FILES").is_some() {
        TestRepo::new()
    } else {
        in_memory()
    };
    let daemon = repo.serve();
    let channel = repo.channel().await;
    let folder = repo.path("many");
    fs::create_dir(&folder).unwrap();
    for n in 0..files {
        fs::write(folder.join(format!("file-{n}")), n.to_string()).unwrap();
    }
    let began = std::time::Instant::now();
    let state = captured(&channel, "").await;
    let took = |what: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()));
        let status = status.unwrap_or_default();
        let peak = status.lines().find(|line| line.starts_with("VmHWM"));
        println!("{what}: {:.2?}, {peak:?}", began.elapsed());
    };
    took("capture");
    assert!(capture(&channel, "").await.unwrap().unchanged);
    took("capture of nothing");
    let tree = format!("{state}:many");
    let names = repo.git(&["ls-tree", "--name-only", &tree]);
    assert_eq!(names.lines().count(), files);
    fs::remove_dir_all(&folder).unwrap();
    took("removed");
    let done = restore(&channel, to_state(&state)).await.unwrap();
    took("restore");
    assert_eq!(done.written as usize, files);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), files);
    let last = folder.join(format!("file-{}", files - 1));
    assert_eq!(fs::read_to_string(last).unwrap(), (files - 1).to_string());
}
