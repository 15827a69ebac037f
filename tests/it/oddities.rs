//! Repositories as people have them, with every oddity of Git's, through the socket of a daemon as a
//! service manager starts it: a capture's tree is Git's own, and Git's view stays as it is (G9).

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use crate::{
    fault::{Act, Fault, kinds},
    harness::{TestRepo, eventually},
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
        for n in 0..120 {
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
