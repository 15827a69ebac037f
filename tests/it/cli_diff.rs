//! `heddle diff`: what people and scripts see of it.

use std::{fs, io::Write, process::Stdio};

use serde_json::json;

use crate::{
    cli_capture::{capture, fields, heddle_in},
    harness::{HEDDLE, TestRepo},
};

fn changed() -> (TestRepo, String) {
    let repo = TestRepo::new();
    fs::create_dir(repo.path("src")).unwrap();
    fs::write(repo.path("src/a"), "one\ntwo\n").unwrap();
    fs::write(repo.path("src/gone"), "gone\n").unwrap();
    fs::write(repo.path("binary"), b"\0\x01\x02").unwrap();
    let state = capture(&repo, "one");
    fs::write(repo.path("src/a"), "one\nthree\nfour\n").unwrap();
    fs::remove_file(repo.path("src/gone")).unwrap();
    fs::write(repo.path("src/new"), "new\n").unwrap();
    fs::write(repo.path("binary"), b"\0\x01\x03").unwrap();
    (repo, state)
}

#[test]
fn a_diff_lists_what_differs_from_the_newest_state() {
    let (repo, state) = changed();
    let wanted = "  M binary\n  M src/a\n  D src/gone\n  A src/new\n4 paths differ\n";
    assert_eq!(repo.heddle(["diff"]).ok(), wanted);
    assert_eq!(repo.heddle(["diff", &state]).ok(), wanted);
    let there = repo.heddle(["diff", &state, &state]).ok();
    assert_eq!(there, "nothing differs\n");
    let since = repo.heddle(["diff", "HEAD", &state]).ok();
    assert_eq!(
        since,
        "  A binary\n  A src/a\n  A src/gone\n3 paths differ\n"
    );
}

#[test]
fn paths_narrow_a_diff_and_are_relative_to_the_current_folder() {
    let (repo, state) = changed();
    let wanted = "  M src/a\n1 path differs\n";
    let src = repo.path("src");
    for args in [
        &["diff", "a"][..],
        &["diff", "--", "a"],
        &["diff", &state, "--", "../src/a"],
        &["diff", &state, "a"],
    ] {
        assert_eq!(heddle_in(&repo, &src, args).ok(), wanted, "{args:?}");
    }
    let gone = heddle_in(&repo, &src, &["diff", "gone"]).ok();
    assert_eq!(gone, "  D src/gone\n1 path differs\n");
    let all = heddle_in(&repo, &src, &["diff", "--", ".."]).ok();
    assert!(all.ends_with("4 paths differ\n"), "{all}");
    let error = heddle_in(&repo, &src, &["diff", "nope"]).fails_with(1);
    assert!(
        error.starts_with("error[STATE_UNKNOWN]: \"nope\" is neither a state nor a path"),
        "{error}"
    );
    let error = heddle_in(&repo, &src, &["diff", "--", "../.."]).fails_with(1);
    assert!(error.starts_with("error[PATH_INVALID]: "), "{error}");
}

#[test]
fn a_patch_in_a_pipe_is_plain_and_git_applies_it() {
    let (repo, _) = changed();
    fs::write(repo.path("src/steering"), "\x1b[31mred\x1b[0m\r\n").unwrap();
    let patch = repo.heddle(["diff", "-p"]).ok();
    assert!(
        patch.starts_with("diff --git a/binary b/binary\n"),
        "{patch}"
    );
    assert!(patch.contains("+\x1b[31mred\x1b[0m\r\n"), "{patch:?}");
    let apply = |args: &[&str]| {
        let mut git = repo.command("git");
        git.arg("apply").args(args).stdin(Stdio::piped());
        let mut git = git.spawn().unwrap();
        git.stdin
            .take()
            .unwrap()
            .write_all(patch.as_bytes())
            .unwrap();
        assert!(git.wait().unwrap().success(), "{patch}");
    };
    apply(&["-R"]);
    assert_eq!(repo.heddle(["diff"]).ok(), "nothing differs\n");
    assert_eq!(
        fs::read_to_string(repo.path("src/a")).unwrap(),
        "one\ntwo\n"
    );
    apply(&[]);
    assert!(!repo.path("src/gone").exists());
}

#[test]
fn a_diffs_json_has_a_stable_shape() {
    let (repo, state) = changed();
    let diff = repo.heddle(["diff", "--output", "json"]).json();
    assert_eq!(fields(&diff), ["from_tree", "to_tree", "changes"]);
    let tree = repo.git(&["rev-parse", &format!("{state}^{{tree}}")]);
    assert_eq!(diff["from_tree"], tree.trim());
    let mut change = diff["changes"][1].clone();
    assert_eq!(
        change,
        json!({
            "path": "src/a", "kind": "modified", "old_path": null,
            "old_mode": "100644", "new_mode": "100644",
            "added_lines": 2, "removed_lines": 1, "binary": false,
        })
    );
    let with_patch = repo.heddle(["diff", "-p", "--output", "json"]).json();
    let patch = with_patch["changes"][1]["patch"].clone();
    assert!(
        patch.as_str().unwrap().starts_with("diff --git a/src/a"),
        "{patch}"
    );
    change["patch"] = patch;
    assert_eq!(with_patch["changes"][1], change);
}

#[test]
fn lines_are_counted_when_asked() {
    let (repo, _) = changed();
    assert_eq!(
        repo.heddle(["diff", "--stat"]).ok(),
        "   binary          binary\n       +2      -1  src/a\n       +0      -1  src/gone\n       \
         +1      -0  src/new\n4 paths differ, 3 lines added, 2 removed\n"
    );
    repo.heddle(["diff", "--stat", "-p"]).fails_with(2);
}

#[test]
fn a_diff_of_thousands_of_files_is_whole_however_many_answers_it_takes() {
    let repo = TestRepo::new();
    let state = capture(&repo, "before");
    // A million bytes of names for each thousand of files: one answer holds 3.5.
    let folder = vec!["a-rather-long-name-".repeat(12); 5].join("/");
    fs::create_dir_all(repo.path(&folder)).unwrap();
    let count = 4_500;
    for n in 0..count {
        fs::write(repo.path(format!("{folder}/{n:04}")), format!("{n}\n")).unwrap();
    }
    let text = repo.heddle(["diff"]).ok();
    let listed: Vec<&str> = text.lines().collect();
    assert_eq!(listed.len(), count + 1);
    for (n, line) in listed[..count].iter().enumerate() {
        assert_eq!(*line, format!("  A {folder}/{n:04}"));
    }
    let patch = repo.heddle(["diff", &state, "-p"]).ok();
    assert_eq!(patch.matches("diff --git ").count(), count);
    let diff = repo.heddle(["diff", "-p", "--output", "json"]).json();
    let changes = diff["changes"].as_array().unwrap();
    assert_eq!(changes.len(), count);
    for (n, change) in changes.iter().enumerate() {
        assert_eq!(change["path"], format!("{folder}/{n:04}"));
        let patch = change["patch"].as_str().unwrap();
        assert!(patch.ends_with(&format!("\n+{n}\n")), "{patch}");
    }
    let args = ["restore", "--preview", "--output", "json"];
    let preview = repo.heddle(args).json();
    assert_eq!(preview["changes"].as_array().unwrap().len(), count);
}

#[test]
fn a_patch_is_whole_however_large_a_file_is_and_in_whatever_encoding() {
    let repo = TestRepo::new();
    capture(&repo, "before");
    let large = "0123456789abcdef\n".repeat(400_000);
    fs::write(repo.path("large"), &large).unwrap();
    fs::write(repo.path("latin-1"), b"caf\xe9\n").unwrap();
    let mut diff = repo.command(HEDDLE);
    let patch = diff.args(["diff", "-p"]).output().unwrap().stdout;
    assert!(patch.len() > large.len());
    fs::remove_file(repo.path("large")).unwrap();
    fs::remove_file(repo.path("latin-1")).unwrap();
    let mut git = repo.command("git");
    let mut git = git.arg("apply").stdin(Stdio::piped()).spawn().unwrap();
    git.stdin.take().unwrap().write_all(&patch).unwrap();
    assert!(git.wait().unwrap().success());
    assert_eq!(fs::read_to_string(repo.path("large")).unwrap(), large);
    assert_eq!(fs::read(repo.path("latin-1")).unwrap(), b"caf\xe9\n");
}
