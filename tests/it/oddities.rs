//! Repositories as people have them, with every oddity of Git's, through the socket of a daemon as a
//! service manager starts it: a capture's tree is Git's own, and Git's view stays as it is (G9).

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use crate::{
    fault::{Act, Fault, kinds},
    harness::{TestRepo, eventually, run},
    states::{content, hex},
    trees::Served,
};

/// Commits everything.
pub fn commit_all(at: &Served, message: &str) {
    at.git(&["add", "-A"]);
    at.git(&["commit", "-qm", message]);
}

#[tokio::test]
async fn what_the_users_own_configuration_says_holds() {
    let repo = TestRepo::new();
    let home = repo.around().join("home");
    let at = |name: &str| home.join(name);
    fs::create_dir(at("bin")).unwrap();
    fs::write(
        at(".gitconfig"),
        "[core]\n\texcludesFile = ~/ignored\n\tattributesFile = ~/attributes\n[include]\n\tpath = more\n\
         [filter \"up\"]\n\tclean = ./tools/up\n",
    )
    .unwrap();
    fs::write(at("more"), "[core]\n\tautocrlf = input\n").unwrap();
    fs::write(at("ignored"), "*.tmp\n").unwrap();
    fs::write(at("attributes"), "*.up filter=up\n").unwrap();
    // A filter that lies in the worktree, as many do: it is run at the worktree's root.
    let served = Served::as_a_service(repo).await;
    served.write("tools/up", "#!/bin/sh\nexec tr a-z A-Z\n");
    fs::set_permissions(served.path("tools/up"), fs::Permissions::from_mode(0o755)).unwrap();
    served.write("deep/er/shout.up", "loud\n");
    served.write("crlf.txt", "a\r\nb\r\n");
    served.write("left.tmp", "x");
    served.same("the home's configuration").await;
    // Each of them changes while the daemon runs.
    fs::write(at("ignored"), "*.bak\n").unwrap();
    served.same("other rules").await;
    fs::write(at("attributes"), "*.txt filter=up\n").unwrap();
    served.same("other attributes").await;
    fs::write(at("more"), "[core]\n\tautocrlf = false\n").unwrap();
    served.same("an included file").await;
    fs::write(
        served.path(".git/info/attributes"),
        "*.up ident\n*.txt -filter\n",
    )
    .unwrap();
    served.write("deep/er/shout.up", "$Id: 0000 $\n");
    served.same("the repository's own attributes").await;
    fs::remove_file(at("attributes")).unwrap();
    served.same("none").await;
    served.git(&["config", "extensions.worktreeConfig", "true"]);
    served.git(&["config", "--worktree", "core.autocrlf", "true"]);
    served.write("more.txt", "c\r\n");
    served.same("a worktree's own configuration").await;
    served.assert_sound();
}

/// A filter process (gitattributes(5), "Long Running Filter Process") that swaps cases.
const PROCESS: &str = r#"#!/usr/bin/perl
use strict; binmode STDIN; binmode STDOUT; $| = 1;
sub get { my ($n, $s); return undef unless read(STDIN, $n, 4) == 4; $n = hex $n;
  return "" if $n == 0; read(STDIN, $s, $n - 4); return $s; }
sub put { print map { sprintf("%04x%s", 4 + length $_, $_) } @_; }
sub flush { print "0000"; }
get(); get(); get(); put("git-filter-server\n", "version=2\n"); flush();
while ((get() // "") ne "") {}
put("capability=clean\n", "capability=smudge\n"); flush();
while (defined(my $command = get())) {
  while ((get() // "") ne "") {}
  my $all = ""; while ((my $part = get() // "") ne "") { $all .= $part; }
  $all =~ tr/a-zA-Z/A-Za-z/;
  put("status=success\n"); flush();
  while (length $all) { put(substr($all, 0, 65000, "")); }
  flush(); flush();
}
"#;

#[tokio::test]
async fn filters_of_every_kind_hold() {
    let served = Served::as_a_service(TestRepo::new()).await;
    let program = served.path(".git/swap");
    fs::write(&program, PROCESS).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    served.git(&["config", "filter.swap.process", program.to_str().unwrap()]);
    served.git(&["config", "filter.swap.required", "true"]);
    // More than a pipe holds, echoed as it comes.
    served.git(&["config", "filter.echo.clean", "cat"]);
    served.git(&["config", "filter.fails.clean", "cat; exit 1"]);
    served.git(&["config", "filter.absent.clean", "/nowhere/at/all"]);
    served.git(&["config", "filter.named.clean", "cat >/dev/null; echo %f"]);
    served.write(
        ".gitattributes",
        "*.swap filter=swap\n*.echo filter=echo\n*.fails filter=fails\n*.absent filter=absent\n*.named filter=named\n*.none filter=none\n",
    );
    for n in 0..12 {
        served.write(
            format!("many/{n}.swap"),
            format!("Number {n}\n").repeat(20_000),
        );
    }
    served.write("large.echo", "0123456789\n".repeat(300_000));
    for kind in ["fails", "absent", "none", "named"] {
        served.write(format!("file.{kind}"), "Content\r\n");
    }
    served.write("it's a \"name\".named", "x");
    let first = served.same("filters").await;
    let before = content(&served.root);
    served.write("many/3.swap", "Changed\n");
    fs::remove_file(served.path("many/4.swap")).unwrap();
    let second = served.same("a change").await;
    served.goes_to("back", &first).await;
    assert_eq!(content(&served.root), before);
    served.goes_to("forth", &second).await;
    served.assert_sound();
}

#[tokio::test]
async fn line_ends_encodings_and_marks_hold() {
    let served = Served::as_a_service(TestRepo::new()).await;
    let utf16 = |text: &str, bom: &[u8], big: bool| -> Vec<u8> {
        let unit = |unit: u16| {
            if big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        bom.iter()
            .copied()
            .chain(text.encode_utf16().flat_map(unit))
            .collect()
    };
    served.write(
        ".gitattributes",
        "*.txt text eol=crlf\n*.auto text=auto\n*.bin -text\n*.id ident\n*.both text eol=crlf ident\n*.le working-tree-encoding=UTF-16LE eol=crlf text\n*.bom working-tree-encoding=UTF-16 text\n*.latin working-tree-encoding=ISO-8859-1 text\n*.sjis working-tree-encoding=SHIFT-JIS\n",
    );
    served.write("a.txt", "one\r\ntwo\r\n");
    served.write("mixed.txt", "one\r\ntwo\nthree\rfour");
    served.write("a.auto", "one\r\ntwo\r\n");
    served.write("b.auto", b"one\r\n\0two\r\n");
    served.write("c.auto", "lone\rcr\r\n");
    served.write("ends.auto", "ends in ctrl-z\r\n\x1a");
    served.write("a.bin", "x\r\n");
    served.write("a.id", "$Id$ $Id: x $ $Id: no end\n$Id:$\n");
    served.write("a.both", "$Id: foreign stuff $\r\n");
    served.write("a.le", utf16("wide\r\n", &[], false));
    served.write("b.bom", utf16("with a mark\n", &[0xfe, 0xff], true));
    served.write("a.latin", b"caf\xe9\n");
    served.write("a.sjis", b"\x83n\x83\x8d\x81[\n");
    let first = served.same("by attributes").await;
    for setting in ["true", "input", "false"] {
        served.git(&["config", "core.autocrlf", setting]);
        served.write(format!("{setting}.md"), "x\r\ny\r\n");
        served.same(setting).await;
    }
    served.git(&["config", "core.autocrlf", "false"]);
    served.git(&["config", "core.eol", "crlf"]);
    served.write("eol.auto", "x\ny\r\n");
    served.same("core.eol").await;
    served.git(&["config", "--unset", "core.eol"]);
    let back = served.goes_to("back", &first).await;
    assert_eq!(back.left_alone, Vec::<String>::new());
    served.assert_sound();
}

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
async fn indexes_of_every_kind_are_read() {
    for kind in [
        "split",
        "untracked-cache",
        "fsmonitor",
        "many-files",
        "threads",
        "version-4",
    ] {
        let repo = TestRepo::new();
        for n in 0..300 {
            let path = repo.path(format!("dir-{}/sub/file-{n}", n % 7));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{n}\n")).unwrap();
        }
        repo.git(&["add", "-A"]);
        repo.git(&["commit", "-qm", "many"]);
        match kind {
            "split" => {
                repo.git(&["config", "splitIndex.maxPercentChange", "100"]);
                repo.git(&["update-index", "--split-index"]);
                fs::write(repo.path("dir-0/sub/file-0"), "changed").unwrap();
                repo.git(&["add", "-A"]);
                repo.git(&["rm", "-q", "dir-1/sub/file-1"]);
            }
            "untracked-cache" => drop(repo.git(&["update-index", "--untracked-cache"])),
            "fsmonitor" => {
                let hook = repo.path(".git/monitor");
                fs::write(&hook, "#!/bin/sh\nprintf 'token\\0/\\0'\n").unwrap();
                fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
                repo.git(&["config", "core.fsmonitor", hook.to_str().unwrap()]);
                repo.git(&["update-index", "--fsmonitor"]);
            }
            "many-files" => drop(repo.git(&["config", "feature.manyFiles", "true"])),
            "threads" => drop(repo.git(&["config", "index.threads", "4"])),
            _ => drop(repo.git(&["update-index", "--index-version", "4"])),
        }
        fs::write(repo.path("untracked"), "x").unwrap();
        repo.git(&["status"]);
        repo.git(&["add", "--renormalize", "."]);
        let served = Served::as_a_service(repo).await;
        served.write("dir-2/sub/file-2", "changed");
        fs::remove_dir_all(served.path("dir-3")).unwrap();
        served.write("dir-4/sub/new", "x");
        served.git(&["add", "-N", "dir-4/sub/new"]);
        served.git(&["update-index", "--assume-unchanged", "dir-5/sub/file-5"]);
        served.git(&["update-index", "--skip-worktree", "dir-6/sub/file-6"]);
        served.write("dir-5/sub/file-5", "not looked at");
        fs::remove_file(served.path("dir-6/sub/file-6")).unwrap();
        served.same(kind).await;
        served.git(&["commit", "-qam", "go on"]);
        served.write("dir-2/sub/file-2", "changed again");
        served.same(kind).await;
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
async fn names_that_git_refuses_are_left_out_and_named() {
    let served = Served::as_a_service(TestRepo::new()).await;
    served.write("kept", "x");
    let first = served.same("before").await;
    for name in ["git~1", ".GIT", "deep/.git ", "deep/GIT~1/file"] {
        served.write(name, "x");
    }
    symlink("kept", served.path(".gitmodules")).unwrap();
    let captured = served.capture().await.unwrap();
    let mut left_out: Vec<_> = captured
        .left_out
        .iter()
        .map(|left| left.path.as_str())
        .collect();
    left_out.sort_unstable();
    assert_eq!(
        left_out,
        [".GIT", ".gitmodules", "deep/.git ", "deep/GIT~1", "git~1"]
    );
    served.write("kept", "y");
    let second = hex(&served.capture().await.unwrap().state_id);
    let tree = served.git(&["ls-tree", "-r", "--name-only", &second]);
    assert_eq!(tree, "README\nkept\n");
    let done = served
        .restore(heddle_agent::grpc_local_impl::proto::local::restore_target::Target::State(first));
    done.await.unwrap();
    assert!(served.path("git~1").exists());
    served.assert_sound();
}

#[tokio::test]
async fn names_and_cases_are_as_git_has_them() {
    use std::os::unix::ffi::OsStrExt;
    let served = Served::as_a_service(TestRepo::new()).await;
    served.git(&["config", "core.precomposeUnicode", "true"]);
    let odd: [&[u8]; 14] = [
        b"new\nline",
        b"quo\"te",
        b"back\\slash",
        b"-x",
        b" lead",
        b"trail ",
        b"tab\there",
        b"not\xffutf8/\xfe",
        b"e\xcc\x81 decomposed",
        b"\xc3\xa9 composed",
        b"*",
        b"[x]",
        b":(top)x",
        b"\x01\x7f",
    ];
    for name in odd {
        served.write(std::ffi::OsStr::from_bytes(name), name);
    }
    let long = "n".repeat(255);
    let deep = format!("{}/file", vec!["d".repeat(200); 15].join("/"));
    served.write(&long, "long");
    served.write(&deep, "deep");
    let first = served.same("odd names").await;
    let before = content(&served.root);
    commit_all(&served, "odd");
    fs::rename(served.path("README"), served.path("readme")).unwrap();
    fs::rename(served.path(&long), served.path("N".repeat(255))).unwrap();
    fs::remove_dir_all(served.path("d".repeat(200))).unwrap();
    served.write(std::ffi::OsStr::from_bytes(odd[7]), "changed");
    served.same("other cases").await;
    served.goes_to("back", &first).await;
    assert_eq!(content(&served.root), before);
    served.assert_sound();
}

#[tokio::test]
async fn a_case_that_git_ignores_is_ignored() {
    let served = Served::as_a_service(TestRepo::new()).await;
    served.write("Folder/one", "1");
    served.write(".gitignore", "*.LOG\n");
    served.write(".gitattributes", "*.TXT text\n");
    commit_all(&served, "mixed");
    served.git(&["config", "core.ignoreCase", "true"]);
    served.write("x.log", "ignored");
    served.write("x.txt", "a\r\n");
    served.write("other", "x");
    served.same("patterns").await;
    // Where the filesystem tells two spellings apart, what Git would take for one, and lose, is two.
    served.write("folder/two", "2");
    let state = hex(&served.capture().await.unwrap().state_id);
    let names = served.git(&["ls-tree", "-r", "--name-only", &state]);
    assert!(
        names.contains("Folder/one\n") && names.contains("folder/two\n"),
        "{names}"
    );
    served.git(&["config", "core.ignoreCase", "false"]);
    served.same("two folders").await;
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

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_read_again() {
    let repo = TestRepo::new();
    let name = "a_file_that_changes_while_it_is_read_is_read_again";
    let Some(fault) = Fault::new(name, &repo) else {
        return;
    };
    let daemon = crate::harness::Daemon::spawn(fault.serve(&repo));
    daemon.wait_for_line("serving");
    let served = Served::by(repo, daemon).await;
    served.write("changing", "the old content");
    // Its end is looked for after its content was read: there it is held, and changed.
    fault.only("/changing");
    fault.arm(Act::Hold, 2, kinds::READ);
    let capture = tokio::spawn({
        let channel = served.channel.clone();
        async move { crate::states::capture(&channel, "").await }
    });
    let held = tokio::task::spawn_blocking(move || {
        eventually("it is being read", || fault.hit());
        fault
    });
    let fault = held.await.unwrap();
    served.write("changing", "another");
    fault.disarm();
    let state = hex(&capture.await.unwrap().unwrap().state_id);
    let captured = served.git(&["show", &format!("{state}:changing")]);
    assert_eq!(captured, "another");
    served.assert_gits("after it", &state);
}
