//! `DiffStates` says what `git diff` says: the same pairs on every page, the same attributes wherever the
//! daemon runs, bytes as they are, and always something that gets its reader on.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::{
        local::{DiffStatesRequest, FileChange, file_change::Kind},
        v1::StartThreadRequest,
    },
};
use tonic::{Code, transport::Channel};

use crate::{
    harness::{Daemon, HEDDLE, TestRepo, channel_at, run},
    rpc::{assert_blames, assert_refused},
    states::{captured, diff, hex, preview, threads, to_state},
    trees::Served,
};

/// All pages, with patches.
async fn all_pages(channel: &Channel, from: &str, to: &str) -> Vec<FileChange> {
    let mut asked = DiffStatesRequest {
        from: from.into(),
        to: to.into(),
        patch: true,
        ..Default::default()
    };
    let mut changes = Vec::new();
    loop {
        let page = diff(channel, asked.clone()).await.unwrap();
        changes.extend(page.changes);
        assert_eq!(page.truncated, changes.len() < page.change_count as usize);
        if !page.truncated {
            return changes;
        }
        assert!(!page.next_path.is_empty());
        asked.after_path = page.next_path;
    }
}

/// What Git says of the same.
fn gits(served: &Served, from: &str, to: &str) -> String {
    served.git(&["diff-tree", "-r", "-M", "-p", "--full-index", from, to])
}

fn patches(changes: &[FileChange]) -> String {
    changes.iter().map(|change| change.patch.as_str()).collect()
}

#[tokio::test]
async fn pages_of_patches_pair_files_as_all_of_them_are_paired() {
    let served = Served::new(TestRepo::new()).await;
    // More than Git compares with each other, 1,000 if it is not told, so only those that are the same
    // to the byte are pairs; on a page of their own, others would be, too.
    served.git(&["config", "diff.renameLimit", "200"]);
    let lines = |n: usize| (0..20).map(|l| format!("{n} {l}\n")).collect::<String>();
    for n in 0..450 {
        served.write(format!("{n:04}/a"), lines(n));
    }
    // And pairs that could be others, were it not for all of them.
    for n in 0..60 {
        served.write(format!("same/{:04}", n * 7 % 60), format!("{}\n", n % 5));
    }
    let first = captured(&served.channel, "first").await;
    for n in 0..450 {
        fs::remove_file(served.path(format!("{n:04}/a"))).unwrap();
        let changed = if n % 3 == 0 { "" } else { "changed\n" };
        // Another name: files of one name are compared first.
        served.write(format!("{n:04}/b"), lines(n) + changed);
    }
    fs::rename(served.path("same"), served.path("other")).unwrap();
    let second = captured(&served.channel, "second").await;
    let told = all_pages(&served.channel, &first, &second).await;
    for change in &told {
        let names = match change.kind() {
            Kind::Renamed => format!("a/{} b/{}\n", change.old_path, change.path),
            _ => format!("a/{0} b/{0}\n", change.path),
        };
        let begins = format!("diff --git {names}");
        assert!(change.patch.starts_with(&begins), "{change:?}");
    }
    assert!(patches(&told) == gits(&served, &first, &second));
    let renamed = |change: &&FileChange| change.kind() == Kind::Renamed;
    assert_eq!(told.iter().filter(renamed).count(), 60 + 150);
    let numbers = served.git(&["diff", "-M", "--numstat", &first, &second]);
    let ours = told
        .iter()
        .map(|c| format!("{}\t{}", c.added_lines, c.removed_lines));
    let theirs = numbers
        .lines()
        .map(|line| line.rsplit_once('\t').unwrap().0.to_owned());
    assert!(ours.eq(theirs));
}

#[tokio::test]
async fn a_patch_that_is_not_utf8_is_told_as_it_is() {
    let served = Served::new(TestRepo::new()).await;
    served.write("latin", b"un caf\xe9\nstays\n");
    served.write("utf8", "un café\n");
    let first = captured(&served.channel, "first").await;
    served.write("latin", b"deux caf\xe9s\nstays\n");
    served.write("utf8", "deux cafés\n");
    let second = captured(&served.channel, "second").await;
    let told = all_pages(&served.channel, &first, &second).await;
    assert_eq!(told[0].path, "latin");
    assert!(told[0].patch.contains("+deux caf\u{fffd}s"), "{told:?}");
    assert!(told[1].patch_bytes.is_empty() && told[1].patch.contains("+deux cafés"));
    served.goes_to("back", &first).await;
    let mut apply = served.command("git");
    let mut apply = apply.arg("apply").stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = apply.stdin.take().unwrap();
    stdin.write_all(&told[0].patch_bytes).unwrap();
    stdin.write_all(told[1].patch.as_bytes()).unwrap();
    drop(stdin);
    assert!(apply.wait().unwrap().success());
    served.assert_gits("applied", &second);
}

#[tokio::test]
async fn attributes_of_the_worktree_count_and_run_nothing() {
    let repo = TestRepo::new();
    let marker = repo.around().join("was-run");
    for key in ["textconv", "command"] {
        let touch = format!("touch {}; cat", marker.display());
        repo.git(&["config", &format!("diff.odd.{key}"), &touch]);
    }
    repo.git(&["config", "diff.odd.xfuncname", "^section .*$"]);
    // In `/`, as a service manager starts it.
    let served = Served::as_a_service(repo).await;
    served.write(
        ".gitattributes",
        "*.gen -diff\n*.bin binary\n*.odd diff=odd\ntext.* diff\n",
    );
    let write = |round: &str| {
        for name in ["a.gen", "b.bin", "text.raw"] {
            served.write(name, format!("\u{1}{round}\n"));
        }
        served.write("text.nul", format!("nul \0 {round}\n"));
        let filler = "line\n".repeat(9);
        served.write("c.odd", format!("section one\n{filler}{round}\n"));
    };
    write("one");
    let first = captured(&served.channel, "first").await;
    write("two");
    let second = captured(&served.channel, "second").await;
    let told = all_pages(&served.channel, &first, &second).await;
    let binary: Vec<_> = told.iter().map(|c| (c.path.as_str(), c.binary)).collect();
    assert_eq!(
        binary,
        [
            ("a.gen", true),
            ("b.bin", true),
            ("c.odd", false),
            ("text.nul", false),
            ("text.raw", false)
        ]
    );
    assert!(told[2].patch.contains("@@ section one\n"), "{told:?}");
    assert_eq!(patches(&told), gits(&served, &first, &second));
    let stat = run(served
        .command(HEDDLE)
        .args(["diff", "--stat", &first, &second]))
    .ok();
    assert!(stat.contains("binary          a.gen"), "{stat}");
    run(served.command(HEDDLE).args(["diff", "-p", &first, &second])).ok();
    assert!(!marker.exists(), "a program was run");
}

fn heddle_at(repo: &TestRepo, folder: &Path, args: &[&str]) -> Command {
    let mut command = repo.command(HEDDLE);
    command.current_dir(folder).args(args);
    command
}

#[tokio::test]
async fn two_states_are_told_apart_where_there_is_no_worktree() {
    let repo = TestRepo::new();
    fs::write(repo.path("README"), "hello again\n").unwrap();
    fs::write(repo.path("a.gen"), "generated\n").unwrap();
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "second"]);
    let bare = repo.around().join("bare.git");
    repo.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    fs::write(bare.join("info/attributes"), "*.gen -diff\n").unwrap();
    let daemon = Daemon::spawn(heddle_at(&repo, &bare, &["agent", "serve"]));
    daemon.wait_for_line("serving");
    let channel = channel_at(bare.join(".heddle/sockets/grpc.sock"))
        .await
        .unwrap();
    let told = all_pages(&channel, "main~1", "main").await;
    let said: Vec<_> = told.iter().map(|c| (c.path.as_str(), c.binary)).collect();
    assert_eq!(said, [("README", false), ("a.gen", true)]);
    assert!(told[0].patch.contains("+hello again"), "{told:?}");
    let args = ["diff", "main~1", "main", "--", "README"];
    let said = run(&mut heddle_at(&repo, &bare, &args)).ok();
    assert_eq!(said, "  M README\n1 path differs\n");
    let args = ["diff", "-p", "main~1", "main"];
    let said = run(&mut heddle_at(&repo, &bare, &args)).ok();
    assert!(said.starts_with(&told[0].patch), "{said}");
    assert!(said.contains("GIT binary patch"), "{said}");
    // The newest state is a worktree's.
    for (from, to) in [("main", ""), ("", "main"), ("", "")] {
        let asked = DiffStatesRequest {
            from: from.into(),
            to: to.into(),
            ..Default::default()
        };
        let refused = diff(&channel, asked).await.unwrap_err();
        assert_refused(&refused, Code::FailedPrecondition, Reason::NoWorktree);
    }
}

#[tokio::test]
async fn g8_what_no_answer_can_hold_is_said_and_does_not_stop_its_reader() {
    let served = Served::new(TestRepo::new()).await;
    served.write("after", "1\n");
    let first = captured(&served.channel, "first").await;
    // As text each byte is three, and that is told beside the bytes.
    let line = [&[0xe9; 79][..], b"\n"].concat();
    served.write("accents", line.repeat(14_000));
    served.write("after", "2\n");
    let second = captured(&served.channel, "second").await;
    let told = all_pages(&served.channel, &first, &second).await;
    let said: Vec<_> = told
        .iter()
        .map(|c| (c.path.as_str(), c.patch_left_out, c.patch.is_empty()))
        .collect();
    assert_eq!(said, [("accents", true, true), ("after", false, false)]);

    let long = commit_of_one_name(&served, 4_000_000);
    let asked = DiffStatesRequest {
        from: "HEAD".into(),
        to: long.clone(),
        ..Default::default()
    };
    for refused in [
        diff(&served.channel, asked).await.unwrap_err(),
        preview(&served.channel, to_state(&long)).await.unwrap_err(),
    ] {
        assert_refused(&refused, Code::ResourceExhausted, Reason::AnswerTooLarge);
    }
}

/// A commit whose tree has README and one more name of so many bytes.
fn commit_of_one_name(served: &Served, bytes: usize) -> String {
    let blob = served.git(&["rev-parse", "HEAD:README"]);
    let id: Vec<u8> = (0..40)
        .step_by(2)
        .map(|at| u8::from_str_radix(&blob[at..at + 2], 16).unwrap())
        .collect();
    // Before all others.
    let long = "!".repeat(bytes);
    let mut tree = Vec::new();
    for name in [long.as_str(), "README"] {
        tree.extend_from_slice(format!("100644 {name}\0").as_bytes());
        tree.extend_from_slice(&id);
    }
    let mut write = served.command("git");
    write.args(["hash-object", "-t", "tree", "-w", "--literally", "--stdin"]);
    write.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut write = write.spawn().unwrap();
    write.stdin.take().unwrap().write_all(&tree).unwrap();
    let tree = String::from_utf8(write.wait_with_output().unwrap().stdout).unwrap();
    let commit = served.git(&["commit-tree", "-p", "HEAD", "-m", "long", tree.trim()]);
    commit.trim().to_owned()
}

#[tokio::test]
async fn g8_a_thread_is_small_enough_to_be_listed() {
    let served = Served::new(TestRepo::new()).await;
    let start = |provider: &str, model: &str| StartThreadRequest {
        name: "agent".into(),
        provider: provider.into(),
        model: model.into(),
        ..Default::default()
    };
    let long = "x".repeat(3_900_000);
    for (request, field) in [(start(&long, ""), "provider"), (start("", &long), "model")] {
        let refused = threads(&served.channel).start_thread(request).await;
        assert_blames(&refused.unwrap_err(), Reason::InvalidField, field);
    }
    let started = threads(&served.channel)
        .start_thread(start("provider", "model"))
        .await;
    let started = started.unwrap().into_inner();
    assert_eq!(hex(started.current_state()).len(), 40);
}

#[tokio::test]
async fn what_was_never_captured_is_told_apart_from_its_commit() {
    let repo = TestRepo::new();
    fs::write(repo.path("a"), "one\n").unwrap();
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "one"]);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    assert!(all_pages(&channel, "", "HEAD").await.is_empty());
    assert!(all_pages(&channel, "", "").await.is_empty());
}
