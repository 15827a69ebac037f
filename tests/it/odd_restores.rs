//! Restores where Git's files are not plain: filters and attributes that change on the way, modes that
//! are not believed in, submodules, ignored files in the way, and a service's umask.

use std::{
    fs::{self, File, FileTimes, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

use heddle_agent::{failure::Reason, grpc_local_impl::proto::local::restore_target::Target};
use tonic::Code;

use crate::{
    harness::{TestRepo, run},
    oddities::commit_all,
    rpc::assert_refused,
    states::{content, hex, preview, to},
    trees::Served,
};

/// As a clock that was wrong leaves it: its stamps do not tell whether it was changed since.
fn from_the_future(path: &Path) {
    let later = SystemTime::now() + Duration::from_secs(3600);
    let file = File::options().append(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(later))
        .unwrap();
}

#[tokio::test]
async fn attributes_that_change_on_the_way_do_not_stop_it() {
    let served = Served::as_a_service(TestRepo::new()).await;
    let files = ["!first.txt", "a/b/c.txt", "a/z.txt", "last.txt"];
    let write = |text: &str| {
        for path in files {
            served.write(path, text);
            from_the_future(&served.path(path));
        }
    };
    served.write(".gitattributes", "*.txt text eol=crlf\n");
    served.write("a/.gitattributes", "*.txt working-tree-encoding=UTF-16LE\n");
    let wide: Vec<u8> = "one\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    write("one\r\n");
    for path in &files[1..3] {
        served.write(path, &wide);
        from_the_future(&served.path(path));
    }
    let first = (served.same("with attributes").await, content(&served.root));
    fs::remove_file(served.path("a/.gitattributes")).unwrap();
    served.write(".gitattributes", "# none\n");
    write("two\n");
    let second = (served.same("without").await, content(&served.root));
    fs::remove_file(served.path(".gitattributes")).unwrap();
    write("three\r\n");
    let third = (served.same("and no file").await, content(&served.root));
    for (state, expected) in [&first, &second, &third, &second, &first, &third, &first] {
        served.goes_to("on the way", state).await;
        let now = content(&served.root);
        assert_eq!(&now, expected);
        for path in files {
            from_the_future(&served.path(path));
        }
    }
    served.assert_sound();
}

#[tokio::test]
async fn modes_and_links_that_are_not_believed_in_do_not_stop_it() {
    let repo = TestRepo::new();
    fs::write(repo.path("run"), "1").unwrap();
    fs::set_permissions(repo.path("run"), Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("README", repo.path("link")).unwrap();
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "modes"]);
    // A disk where everything is executable, and links are files.
    repo.git(&["config", "core.fileMode", "false"]);
    repo.git(&["config", "core.symlinks", "false"]);
    fs::remove_file(repo.path("link")).unwrap();
    fs::write(repo.path("link"), "README").unwrap();
    fs::set_permissions(repo.path("run"), Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(repo.path("README"), Permissions::from_mode(0o755)).unwrap();
    let served = Served::as_a_service(repo).await;
    let write = |text: &str| {
        for path in ["run", "README", "link", "new"] {
            served.write(path, text);
            from_the_future(&served.path(path));
        }
    };
    served.write("new", "0");
    fs::set_permissions(served.path("new"), Permissions::from_mode(0o755)).unwrap();
    write("one");
    let first = served.same("one").await;
    write("two");
    let second = served.same("two").await;
    served.goes_to("back", &first).await;
    for path in ["run", "README", "link", "new"] {
        assert_eq!(fs::read_to_string(served.path(path)).unwrap(), "one");
    }
    served.goes_to("forth", &second).await;
    served.assert_sound();
}

#[tokio::test]
async fn submodules_stay_as_they_are_and_undo_goes_on() {
    let repo = TestRepo::new();
    let library = repo.around().join("library");
    fs::create_dir(&library).unwrap();
    let git_at = |root: &Path, args: &[&str]| {
        let mut git = repo.command("git");
        git.current_dir(root)
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]);
        run(git.args(["-c", "protocol.file.allow=always"]).args(args)).ok()
    };
    git_at(&library, &["init", "-q", "-b", "main"]);
    git_at(&library, &["commit", "-q", "--allow-empty", "-m", "one"]);
    let source = library.to_str().unwrap().to_owned();
    git_at(repo.root(), &["submodule", "-q", "add", &source, "dep"]);
    git_at(repo.root(), &["commit", "-qm", "module"]);
    let served = Served::as_a_service(repo).await;
    let move_on = || {
        let mut git = served.repo.command("git");
        git.current_dir(served.path("dep"));
        run(git.args([
            "-c",
            "user.name=Ada",
            "-c",
            "user.email=ada@example.com",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "x",
        ]))
        .ok();
    };
    for text in ["1", "2", "3"] {
        served.write("a", text);
        move_on();
        served.same(text).await;
    }
    let there = fs::read_to_string(served.path(".git/modules/dep/refs/heads/main")).unwrap();
    // Each step back is one, although the submodule stands elsewhere all the time.
    for expected in [Some("2"), Some("1"), None] {
        let done = served.restore(Target::Undo(1)).await.unwrap();
        assert_eq!(done.left_alone.len(), 1, "{done:?}");
        assert!(done.left_alone[0].starts_with("dep: "), "{done:?}");
        assert_eq!(
            fs::read_to_string(served.path("a")).ok().as_deref(),
            expected
        );
    }
    let refused = served.restore(Target::Undo(1)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::NothingToUndo);
    for expected in ["1", "2", "3"] {
        served.restore(Target::Redo(1)).await.unwrap();
        assert_eq!(fs::read_to_string(served.path("a")).unwrap(), expected);
    }
    let now = fs::read_to_string(served.path(".git/modules/dep/refs/heads/main")).unwrap();
    assert_eq!(now, there);
    served.assert_sound();
}

#[tokio::test]
async fn ignored_files_are_left_and_one_with_the_same_content_is_not_in_the_way() {
    let served = Served::as_a_service(TestRepo::new()).await;
    served.write("build/out", "made\r\n");
    served.write("build/other", "made too");
    let first = served.same("before it is ignored").await;
    served.write(".gitignore", "build/\n");
    // By which the very same files would be kept otherwise.
    served.write(".gitattributes", "build/* text eol=crlf\n");
    let second = served.same("after").await;
    served.write("build/later", "ignored from the start");
    let ignored = content(&served.root);
    let done = served.restore(Target::State(first.clone())).await.unwrap();
    assert_eq!((done.written, done.removed), (0, 2));
    let mut expected = ignored.clone();
    expected.remove(".gitignore");
    expected.remove(".gitattributes");
    assert_eq!(content(&served.root), expected);
    // What no capture holds is never overwritten.
    fs::remove_file(served.path("build/later")).unwrap();
    served.goes_to("forth", &second).await;
    served.write("build/out", "another");
    let before = content(&served.root);
    let refused = served.restore(Target::State(first)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::PathInTheWay);
    assert!(refused.message().contains("build/out"), "{refused}");
    assert_eq!(content(&served.root), before);
}

#[tokio::test]
async fn what_is_written_has_the_modes_that_the_users_own_git_gives() {
    for umask in ["022", "002", "077"] {
        let mask = u32::from_str_radix(umask, 8).unwrap();
        let repo = TestRepo::empty_at("modes");
        let script = "umask \"$1\"; mkdir -p deep/er; for f in a deep/b deep/er/c run; do echo 1 >$f; done; chmod +x run; git add -A; git commit -qm x";
        run(repo.command("sh").args(["-c", script, "sh", umask])).ok();
        // The root of a temporary folder is often closed, and what lies in it is not.
        fs::set_permissions(repo.root(), Permissions::from_mode(0o700)).unwrap();
        let served = Served::as_a_service(repo).await;
        let modes = |path: &str| fs::metadata(served.path(path)).unwrap().mode() & 0o7777;
        let all = ["a", "deep", "deep/b", "deep/er", "deep/er/c", "run"];
        let before = all.map(modes);
        let first = served.same("first").await;
        fs::remove_dir_all(served.path("deep")).unwrap();
        for path in ["a", "run"] {
            fs::remove_file(served.path(path)).unwrap();
        }
        served.write("fresh", "x");
        let gone = served.same("all gone").await;
        served.goes_to("back", &first).await;
        assert_eq!(all.map(modes), before, "umask {umask}");
        // What the daemon adds to Git's folders is read by those who read what Git adds.
        let objects = served.path(".git/objects");
        let of_git = fs::metadata(&objects).unwrap().mode() & 0o777;
        let loose = objects.join(&gone[..2]).join(&gone[2..]);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&loose), of_git & 0o444);
        assert!([of_git, 0o777 & !mask].contains(&mode(loose.parent().unwrap())));
    }
}

#[tokio::test]
async fn folders_of_a_group_stay_its_own() {
    let served = Served::as_a_service(TestRepo::new()).await;
    served.write("shared/stays", "1");
    served.write("shared/deep/a", "1");
    for path in ["shared", "shared/deep"] {
        fs::set_permissions(served.path(path), Permissions::from_mode(0o2775)).unwrap();
    }
    let first = served.same("first").await;
    fs::remove_dir_all(served.path("shared/deep")).unwrap();
    served.write("shared/b", "x");
    served.same("gone").await;
    served.goes_to("back", &first).await;
    let mode = fs::metadata(served.path("shared/deep")).unwrap().mode() & 0o7000;
    assert_eq!(mode, 0o2000, "the folder's group is that of the one above");
}

#[tokio::test]
async fn a_restore_that_changes_nothing_is_no_step() {
    let served = Served::as_a_service(TestRepo::new()).await;
    served.write("a", "1");
    served.same("one").await;
    served.write("a", "2");
    let second = served.same("two").await;
    for _ in 0..3 {
        served.goes_to("to where it is", &second).await;
    }
    let told = preview(&served.channel, to(Target::Undo(1))).await.unwrap();
    assert_eq!(told.change_count, 1);
    served.restore(Target::Undo(1)).await.unwrap();
    assert_eq!(fs::read_to_string(served.path("a")).unwrap(), "1");
}

#[tokio::test]
async fn an_interrupted_undo_of_filtered_files_is_none() {
    let served = Served::as_a_service(TestRepo::new()).await;
    served.git(&["config", "filter.up.clean", "tr a-z A-Z"]);
    served.git(&["config", "filter.up.smudge", "tr A-Z a-z"]);
    served.git(&["config", "filter.up.required", "true"]);
    served.write(".gitattributes", "*.up filter=up\n");
    served.write("a.up", "one");
    served.write("z", "1");
    commit_all(&served, "filtered");
    served.write("a.up", "two");
    let first = served.same("first").await;
    served.write("a.up", "three");
    fs::remove_file(served.path("z")).unwrap();
    let second = served.same("second").await;
    // A smudge that fails changes nothing.
    served.git(&["config", "filter.up.smudge", "false"]);
    let before = content(&served.root);
    let refused = served
        .restore(Target::State(first.clone()))
        .await
        .unwrap_err();
    assert!(refused.message().contains("a.up"), "{refused}");
    assert_eq!(content(&served.root), before);
    assert_eq!(hex(&served.capture().await.unwrap().state_id), second);
    served.git(&["config", "filter.up.smudge", "tr A-Z a-z"]);
    served.goes_to("back", &first).await;
    assert_eq!(fs::read_to_string(served.path("a.up")).unwrap(), "two");
    assert_eq!(fs::read_to_string(served.path("z")).unwrap(), "1");
}

#[tokio::test]
async fn empty_folders_make_way_and_come_back_when_it_fails() {
    let served = Served::as_a_service(TestRepo::new()).await;
    served.write("a", "a file");
    served.write("z", "1");
    let first = served.same("a file").await;
    fs::remove_file(served.path("a")).unwrap();
    fs::remove_file(served.path("z")).unwrap();
    fs::create_dir_all(served.path("a/b/c")).unwrap();
    fs::create_dir_all(served.path("a/d")).unwrap();
    // What comes later is refused: the folders are there again.
    served.write("z", "ignored");
    fs::write(served.path(".git/info/exclude"), "/.heddle/\nz\n").unwrap();
    served.same("folders").await;
    let refused = served
        .restore(Target::State(first.clone()))
        .await
        .unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::PathInTheWay);
    assert!(served.path("a/b/c").is_dir() && served.path("a/d").is_dir());
    fs::remove_file(served.path("z")).unwrap();
    served.restore(Target::State(first)).await.unwrap();
    assert_eq!(fs::read_to_string(served.path("a")).unwrap(), "a file");
}
