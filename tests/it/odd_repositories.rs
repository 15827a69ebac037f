//! Repositories of odd kinds, and in the middle of things, through the socket of a daemon as a service
//! manager starts it: a capture's tree is Git's own, and Git's view stays as it is (G9).

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    harness::{TestRepo, run},
    oddities::commit_all,
    states::content,
    trees::Served,
};

#[tokio::test]
async fn submodules_are_as_git_has_them() {
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
    fs::write(library.join("code"), "1").unwrap();
    git_at(&library, &["add", "-A"]);
    git_at(&library, &["commit", "-qm", "one"]);
    let source = library.to_str().unwrap().to_owned();
    for name in ["deps/one", "deps/two", "ignoring"] {
        git_at(repo.root(), &["submodule", "-q", "add", &source, name]);
    }
    git_at(
        repo.root(),
        &[
            "config",
            "-f",
            ".gitmodules",
            "submodule.ignoring.ignore",
            "all",
        ],
    );
    git_at(repo.root(), &["commit", "-qam", "modules"]);
    let served = Served::as_a_service(repo).await;
    let git_at = |path: &str, args: &[&str]| {
        let mut git = served.repo.command("git");
        git.current_dir(served.path(path));
        run(git
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
            .args(args))
        .ok()
    };
    served.same("clean").await;
    served.write("deps/one/code", "dirty");
    served.write("deps/one/new", "untracked");
    served.same("dirty within").await;
    for path in ["deps/one", "ignoring"] {
        git_at(path, &["commit", "-q", "--allow-empty", "-m", "moved"]);
    }
    served.same("moved").await;
    served.git(&["submodule", "-q", "deinit", "-f", "deps/two"]);
    served.same("not populated").await;
    served.write("deps/two/stray", "in a folder that Git does not look into");
    served.same("not populated, with a file").await;
    fs::remove_dir_all(served.path("deps/two")).unwrap();
    served.same("gone").await;
    served.write("deps/two", "a file now");
    served.same("a file in its place").await;
    fs::write(served.path(".gitignore"), "deps/two\nignored/\n").unwrap();
    served
        .same("a file in its place that would be ignored")
        .await;
    // Repositories of their own that are not submodules: tracked files in one, a bare one, a broken one.
    served.write("tracked/file", "x");
    commit_all(&served, "tracked");
    git_at("tracked", &["init", "-q"]);
    git_at("tracked", &["commit", "-q", "--allow-empty", "-m", "x"]);
    served.write("tracked/another", "y");
    served.same("a repository around tracked files").await;
    served.git(&["clone", "-q", "--bare", &source, "fixtures/bare.git"]);
    fs::create_dir_all(served.path("broken/.git")).unwrap();
    served.write("broken/file", "x");
    served.write("pointing/.git", "gitdir: /nowhere/at/all\n");
    served.write("pointing/file", "x");
    served.git(&["clone", "-q", &source, "ignored/clone"]);
    served.git(&["worktree", "add", "-q", "--detach", "linked"]);
    served.same("others").await;
    served.assert_sound();
}

#[tokio::test]
async fn what_git_is_in_the_middle_of_goes_on() {
    for way in [
        "merge",
        "rebase",
        "cherry-pick",
        "revert",
        "bisect",
        "detached",
    ] {
        let repo = TestRepo::new();
        let write = |name: &str, text: &str| fs::write(repo.path(name), text).unwrap();
        let git = |args: &[&str]| run(repo.command("git").env("GIT_EDITOR", "true").args(args));
        write("README", "base\n");
        write("gone", "x");
        write("run", "x");
        fs::set_permissions(repo.path("run"), fs::Permissions::from_mode(0o755)).unwrap();
        git(&["add", "-A"]).ok();
        git(&["commit", "-qm", "base"]).ok();
        git(&["checkout", "-qb", "other"]).ok();
        write("README", "theirs\n");
        write("gone", "theirs");
        write("run", "theirs");
        git(&["commit", "-qam", "theirs"]).ok();
        git(&["checkout", "-q", "main"]).ok();
        write("README", "ours\n");
        write("run", "ours");
        git(&["rm", "-q", "gone"]).ok();
        git(&["commit", "-qam", "ours"]).ok();
        match way {
            "merge" => assert!(!git(&["merge", "-q", "other"]).status.success()),
            "rebase" => assert!(!git(&["rebase", "-q", "other"]).status.success()),
            "cherry-pick" => assert!(!git(&["cherry-pick", "other"]).status.success()),
            "revert" => assert!(!git(&["revert", "--no-edit", "HEAD~"]).status.success()),
            "bisect" => drop(git(&["bisect", "start", "HEAD", "HEAD~"]).ok()),
            _ => drop(git(&["checkout", "-q", "--detach", "HEAD~"]).ok()),
        }
        let served = Served::as_a_service(repo).await;
        let status = served.git(&["status"]);
        let first = served.same(way).await;
        served.git(&["config", "core.fileMode", "false"]);
        served.same(&format!("{way}, modes not believed")).await;
        served.git(&["config", "core.fileMode", "true"]);
        served.write("README", "resolved\n");
        served.write("new", "x");
        served.same(way).await;
        served.goes_to(way, &first).await;
        assert_eq!(served.git(&["status"]), status, "{way}");
        served.assert_sound();
    }
}

#[tokio::test]
async fn objects_that_lie_elsewhere_or_are_replaced_do_no_harm() {
    let origin = TestRepo::new();
    for n in 0..5 {
        fs::write(origin.path("README"), format!("{n}\n")).unwrap();
        fs::create_dir_all(origin.path("in/deep")).unwrap();
        fs::create_dir_all(origin.path("out")).unwrap();
        fs::write(origin.path(format!("in/deep/{n}")), format!("{n}")).unwrap();
        fs::write(origin.path(format!("out/{n}")), format!("out {n}")).unwrap();
        origin.git(&["add", "-A"]);
        origin.git(&["commit", "-qm", "more"]);
    }
    origin.git(&["config", "uploadpack.allowFilter", "true"]);
    let from = format!("file://{}", origin.root().display());
    for (way, args) in [
        ("alternates", &["--shared"][..]),
        ("shallow", &["--depth=2"]),
        ("partial", &["--filter=blob:none"]),
        ("partial and sparse", &["--filter=blob:none", "--sparse"]),
        ("treeless and sparse", &["--filter=tree:0", "--sparse"]),
        ("replaced", &[]),
        ("packed", &[]),
    ] {
        let repo = TestRepo::empty_at("clone");
        fs::remove_dir_all(repo.root()).unwrap();
        let from = if way == "alternates" {
            origin.root().to_str().unwrap()
        } else {
            &from
        };
        let mut clone = repo.command("git");
        clone
            .current_dir(repo.around())
            .args(["clone", "-q"])
            .args(args);
        run(clone.arg(from).arg("clone")).ok();
        repo.git(&["config", "user.name", "Ada"]);
        repo.git(&["config", "user.email", "ada@example.com"]);
        match way {
            "replaced" => {
                repo.git(&["replace", "HEAD:README", "HEAD~:README"]);
                repo.git(&["replace", "--graft", "HEAD~"]);
            }
            "packed" => drop(repo.git(&["gc", "-q"])),
            _ => {}
        }
        let served = Served::as_a_service(repo).await;
        let first = served.same(way).await;
        served.write("in/deep/new", "x");
        served.write("top", "y");
        if way.contains("sparse") {
            served.git(&["sparse-checkout", "add", "in"]);
        }
        let second = served.same(way).await;
        served.write("README", "another\n");
        served.same(way).await;
        served.goes_to(way, &second).await;
        served.goes_to(way, &first).await;
        if way.contains("sparse") {
            assert!(!served.path("out").exists(), "{way}");
        }
        served.git(&["fsck", "--no-dangling"]);
    }
}

#[tokio::test]
async fn sparse_checkouts_stay_sparse_through_captures_and_restores() {
    for way in [
        &["--cone", "in"][..],
        &["--no-cone", "/*", "!/out/", "!*.big"],
        &["--cone", "--sparse-index", "in"],
    ] {
        let repo = TestRepo::new();
        for path in ["in/a", "in/deep/b.big", "out/c", "out/deep/d", "out/x.big"] {
            fs::create_dir_all(repo.path(path).parent().unwrap()).unwrap();
            fs::write(repo.path(path), path).unwrap();
        }
        repo.git(&["add", "-A"]);
        repo.git(&["commit", "-qm", "all"]);
        let mut args = vec!["sparse-checkout", "set"];
        args.extend(way);
        repo.git(&args);
        let served = Served::as_a_service(repo).await;
        let what = format!("{way:?}");
        let first = served.same(&what).await;
        served.write("in/a", "changed");
        served.write("in/new", "new");
        let second = served.same(&what).await;
        served.goes_to(&what, &first).await;
        assert!(!served.path("out").exists(), "{what}");
        assert_eq!(fs::read_to_string(served.path("in/a")).unwrap(), "in/a");
        served.goes_to(&what, &second).await;
        // The whole of it, and an old state then.
        served.git(&["sparse-checkout", "disable"]);
        let whole = served.same(&what).await;
        served.goes_to(&what, &first).await;
        assert_eq!(fs::read_to_string(served.path("out/c")).unwrap(), "out/c");
        served.goes_to(&what, &whole).await;
        served.assert_sound();
    }
}

#[tokio::test]
async fn a_sha256_repository_goes_back_and_forth() {
    let repo = TestRepo::empty_at("sha256");
    fs::remove_dir_all(repo.path(".git")).unwrap();
    repo.git(&["init", "-q", "-b", "main", "--object-format=sha256"]);
    repo.git(&["config", "user.name", "Ada"]);
    repo.git(&["config", "user.email", "ada@example.com"]);
    let served = Served::as_a_service(repo).await;
    served.write("a/b", "1");
    served.write("mark.id", "$Id$\n");
    served.write(".gitattributes", "*.id ident\n");
    let first = served.same("nothing committed").await;
    assert_eq!(first.len(), 64);
    commit_all(&served, "first");
    served.write("a/b", "2");
    let second = served.same("a change").await;
    served.goes_to("back", &first).await;
    served.goes_to("forth", &second).await;
    assert_eq!(fs::read_to_string(served.path("a/b")).unwrap(), "2");
    served.assert_sound();
}

#[tokio::test]
async fn an_empty_repository_and_a_detached_linked_worktree_go_back_and_forth() {
    let served = Served::as_a_service(TestRepo::empty_at("empty")).await;
    let view = served.view();
    served.write("a", "1");
    let first = served.same("the first file").await;
    served.write("a", "2");
    served.write("b/c", "2");
    served.same("more").await;
    served.goes_to("back", &first).await;
    fs::remove_file(served.path("a")).unwrap();
    assert_eq!(served.view(), view);

    let mut served = Served::as_a_service(TestRepo::new()).await;
    let linked = served.repo.around().join("linked");
    served.git(&[
        "worktree",
        "add",
        "-q",
        "--detach",
        linked.to_str().unwrap(),
    ]);
    served.git(&["config", "filter.here.clean", "./filter"]);
    fs::write(served.path(".git/info/exclude"), "*.left\n/.heddle/\n").unwrap();
    let main = content(&served.root);
    (served.root, served.git_dir) = (linked, served.path(".git/worktrees/linked"));
    served.write("filter", "#!/bin/sh\nexec tr a-z A-Z\n");
    fs::set_permissions(served.path("filter"), fs::Permissions::from_mode(0o755)).unwrap();
    served.write(".gitattributes", "*.here filter=here\n");
    served.write("x.here", "loud");
    served.write("y.left", "ignored");
    let first = served.same("a linked worktree").await;
    served.write("x.here", "louder");
    served.same("changed").await;
    served.goes_to("back", &first).await;
    assert_eq!(content(served.repo.root()), main);
    served.assert_sound();
}
