//! `heddle restore`, `undo` and `redo`: what people and scripts see of them.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
};

use serde_json::{Value, json};

use crate::{
    cli_capture::{capture, fields, heddle_in},
    harness::{HEDDLE, TestRepo, run},
};

/// A repository with a state `one` and then another, of three changes.
fn two_states() -> (TestRepo, String) {
    let repo = TestRepo::new();
    fs::create_dir(repo.path("src")).unwrap();
    fs::write(repo.path("src/a"), "a\n").unwrap();
    fs::write(repo.path("src/b"), "b\n").unwrap();
    let one = capture(&repo, "one");
    fs::write(repo.path("src/a"), "changed\n").unwrap();
    fs::remove_file(repo.path("src/b")).unwrap();
    fs::write(repo.path("src/c"), "new\n").unwrap();
    (repo, one)
}

fn names(changes: &Value) -> Vec<(&str, &str)> {
    let changes = changes.as_array().unwrap().iter();
    changes
        .map(|change| {
            let kind = change["kind"].as_str().unwrap();
            (kind, change["path"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn a_restore_says_what_it_wrote_and_removed_and_how_to_take_it_back() {
    let (repo, one) = two_states();
    let said = repo.heddle(["restore"]).ok();
    let rescue = said
        .lines()
        .find(|line| line.contains("`heddle undo`"))
        .unwrap();
    let rescue = rescue
        .split_whitespace()
        .nth(1)
        .unwrap()
        .trim_end_matches(',');
    assert_eq!(
        said,
        format!(
            "restored: the worktree is at {} on main\n  M src/a\n  A src/b\n  D src/c\n  \
             files      2 written, 1 removed\n  before     {rescue}, which `heddle undo` brings back\n  \
             left       3 to undo, 0 to redo\n",
            &one[..10]
        )
    );
    assert_eq!(fs::read_to_string(repo.path("src/a")).unwrap(), "a\n");
    assert!(repo.path("src/b").exists() && !repo.path("src/c").exists());
    assert_eq!(repo.git(&["show", &format!("{rescue}:src/c")]), "new\n");
}

#[test]
fn undo_and_redo_go_back_and_forth_and_count_what_is_left() {
    let (repo, one) = two_states();
    let two = capture(&repo, "two");
    let json = |args: &[&str]| repo.heddle(args.iter().chain(&["--output", "json"])).json();
    let undone = json(&["undo"]);
    assert_eq!(undone["state_id"], json!(one));
    assert_eq!(undone["rescue_state_id"], json!(two));
    assert_eq!(undone["redo_left"], 1);
    assert!(!repo.path("src/c").exists());
    let redone = json(&["redo"]);
    assert_eq!(redone["state_id"], json!(two));
    assert_eq!(redone["redo_left"], 0);
    assert!(repo.path("src/c").exists());

    let preview = json(&["undo", "--preview"]);
    assert_eq!(preview["state_id"], json!(one));
    assert!(repo.path("src/c").exists(), "a preview does nothing");
    let said = repo.heddle(["undo"]).ok();
    assert!(
        said.starts_with(&format!("undone: the worktree is at {}", &one[..10])),
        "{said}"
    );
    assert!(
        said.contains(", which `heddle redo` brings back\n"),
        "{said}"
    );
    let said = repo.heddle(["redo"]).ok();
    assert!(
        said.starts_with(&format!("redone: the worktree is at {}", &two[..10])),
        "{said}"
    );

    let error = repo.heddle(["redo"]).fails_with(1);
    assert!(error.starts_with("error[NOTHING_TO_UNDO]: "), "{error}");
    let error = repo.heddle(["undo", "99"]).fails_with(1);
    assert!(error.starts_with("error[NOTHING_TO_UNDO]: "), "{error}");
    let three = ["third", "fourth"].map(|text| {
        fs::write(repo.path("src/c"), text).unwrap();
        capture(&repo, text)
    });
    assert_eq!(json(&["undo", "-n", "3"])["state_id"], json!(one));
    assert_eq!(json(&["redo", "--steps", "2"])["state_id"], json!(three[0]));
    assert_eq!(json(&["undo", "2"])["state_id"], json!(one));
    repo.heddle(["undo", "-n", "2", "2"]).fails_with(2);
    assert!(error.contains("there are no 99 steps to undo"), "{error}");
    for steps in ["0", "-1", "x"] {
        repo.heddle(["undo", steps]).fails_with(2);
        repo.heddle(["undo", "-n", steps]).fails_with(2);
    }
}

#[test]
fn a_preview_tells_what_would_change_and_changes_nothing() {
    let (repo, one) = two_states();
    let said = repo.heddle(["restore", "--preview", &one]).ok();
    let first = format!("3 paths would change on the way to {}", &one[..10]);
    assert_eq!(said, format!("{first}\n  M src/a\n  A src/b\n  D src/c\n"));
    let would = repo
        .heddle(["restore", "--preview", &one, "--output", "json"])
        .json();
    assert_eq!(fields(&would), ["state_id", "thread", "changes"]);
    let wanted = [
        ("modified", "src/a"),
        ("added", "src/b"),
        ("deleted", "src/c"),
    ];
    assert_eq!(names(&would["changes"]), wanted);
    assert_eq!(fs::read_to_string(repo.path("src/a")).unwrap(), "changed\n");
    assert!(repo.path("src/c").exists());

    repo.heddle(["restore"]).ok();
    let said = repo.heddle(["restore", "--preview", &one]).ok();
    assert_eq!(
        said,
        format!(
            "nothing would change: the worktree is as in {}\n",
            &one[..10]
        )
    );
}

#[test]
fn a_restores_json_has_a_stable_shape() {
    let (repo, one) = two_states();
    let restored = repo.heddle(["restore", &one, "--output", "json"]).json();
    assert_eq!(
        fields(&restored),
        [
            "state_id",
            "rescue_state_id",
            "thread",
            "written",
            "removed",
            "changes",
            "truncated",
            "undo_left",
            "redo_left",
            "left_alone",
        ]
    );
    assert_eq!(restored["state_id"], json!(one));
    assert_eq!(
        (&restored["written"], &restored["removed"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        restored["changes"][0],
        json!({
            "path": "src/a", "kind": "modified", "old_path": null,
            "old_mode": "100644", "new_mode": "100644",
        })
    );
}

#[test]
fn paths_are_relative_to_the_current_folder() {
    let (repo, one) = two_states();
    let src = repo.path("src");
    heddle_in(&repo, &src, &["restore", &one, "a", "../src/./b"]).ok();
    assert_eq!(fs::read_to_string(repo.path("src/a")).unwrap(), "a\n");
    assert!(repo.path("src/b").exists());
    assert!(repo.path("src/c").exists(), "it was not named");

    // Absolute ones too, and through a link that leads to the worktree.
    let link = repo.around().join("link");
    symlink(repo.root(), &link).unwrap();
    let through = link.join("src/c");
    let base = repo.git(&["rev-parse", "HEAD"]);
    let args = ["restore", base.trim(), "--", through.to_str().unwrap()];
    heddle_in(
        &repo,
        &repo.around(),
        &["--repo", "repo", args[0], args[1], args[2], args[3]],
    )
    .ok();
    assert!(!repo.path("src/c").exists());
    assert!(repo.path("src/b").exists());
}

#[test]
fn a_word_is_a_state_or_a_path_and_never_guessed() {
    let (repo, one) = two_states();
    // A path, when it is no state; also one that was deleted, which is what a restore is for.
    repo.heddle(["restore", "src/b"]).ok();
    assert!(repo.path("src/b").exists());
    assert_eq!(fs::read_to_string(repo.path("src/a")).unwrap(), "changed\n");
    repo.heddle(["restore", &one, "src"]).ok();
    assert_eq!(fs::read_to_string(repo.path("src/a")).unwrap(), "a\n");

    fs::write(repo.path("main"), "a file like the branch\n").unwrap();
    let error = repo.heddle(["restore", "main"]).fails_with(1);
    assert_eq!(
        error,
        "error: `main` is a state and a path; write `main --` for the state, or `-- main` for the path\n"
    );
    let error = repo.heddle(["restore", &one, "main", "--"]).fails_with(1);
    assert!(error.contains("no more than one state can"), "{error}");
    repo.heddle(["restore", "main", "--"]).ok();
    assert!(!repo.path("main").exists() && !repo.path("src/a").exists());
    repo.heddle(["undo"]).ok();
    fs::write(repo.path("main"), "changed since\n").unwrap();
    repo.heddle(["restore", "--", "main"]).ok();
    let content = fs::read_to_string(repo.path("main")).unwrap();
    assert_eq!(content, "a file like the branch\n");
}

#[test]
fn g10_words_that_cannot_be_are_refused_however_long() {
    let (repo, one) = two_states();
    // As a variable that is not set leaves it: it does not mean everything.
    for (args, reason) in [
        (&["restore", ""][..], "STATE_UNKNOWN"),
        (&["restore", &one, ""], "STATE_UNKNOWN"),
        (&["restore", &one, "--", ""], "PATH_INVALID"),
        (&["diff", ""], "STATE_UNKNOWN"),
    ] {
        let error = repo.heddle(args).fails_with(1);
        let begins = format!("error[{reason}]: ");
        assert!(error.starts_with(&begins), "{args:?}: {error}");
    }
    assert!(repo.path("src/c").exists());
    let long = "é".repeat(50_000);
    for (args, reason) in [
        (&["restore", &long][..], "STATE_UNKNOWN"),
        (&["restore", "--", &long], "PATH_UNKNOWN"),
        (&["diff", &one, &long], "STATE_UNKNOWN"),
        (&["thread", "show", &long], "THREAD_NAME_INVALID"),
        (&["thread", "start", "x", "--from", &long], "STATE_UNKNOWN"),
        (
            &["thread", "start", "x", "--path", &long],
            "REPOSITORY_REFUSED",
        ),
    ] {
        let error = repo.heddle(args).fails_with(1);
        let begins = format!("error[{reason}]: ");
        assert!(error.starts_with(&begins), "{}", &error[..200]);
    }
}

#[test]
fn g10_restores_that_cannot_be_are_refused_with_the_reason() {
    let (repo, one) = two_states();
    let blob = repo.git(&["rev-parse", "HEAD:README"]);
    let tag = {
        repo.git(&["tag", "-am", "a tag", "v1"]);
        repo.git(&["rev-parse", "v1"])
    };
    let cases: [(&[&str], &str); 11] = [
        (&["restore", "nope"], "STATE_UNKNOWN"),
        (&["restore", "nope", "--"], "STATE_UNKNOWN"),
        (&["restore", "", "--"], "STATE_UNKNOWN"),
        (&["restore", &"f".repeat(40)], "STATE_UNKNOWN"),
        (&["restore", &"f".repeat(41)], "STATE_UNKNOWN"),
        (&["restore", &one[..3]], "STATE_UNKNOWN"),
        (&["restore", blob.trim()], "NOT_A_STATE"),
        (&["restore", tag.trim()], "NOT_A_STATE"),
        (&["restore", &one, "--", "../outside"], "PATH_INVALID"),
        (&["restore", &one, "--", ".git/config"], "PATH_INVALID"),
        (&["restore", &one, "--", "src/never"], "PATH_UNKNOWN"),
    ];
    for (args, reason) in cases {
        let error = repo.heddle(args).fails_with(1);
        assert!(
            error.starts_with(&format!("error[{reason}]: ")),
            "{args:?}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
    }
    assert_eq!(fs::read_to_string(repo.path("src/a")).unwrap(), "changed\n");

    let mut odd = repo.command(HEDDLE);
    let path = std::ffi::OsStr::from_bytes(b"\xff");
    let error = run(odd.args(["restore", "--"]).arg(path)).fails_with(1);
    assert!(
        error.starts_with("error[PATH_INVALID]: the path \"\\xFF\" is not UTF-8"),
        "{error}"
    );

    // The tag's name is Git's way to mean the commit.
    repo.heddle(["restore", "--preview", "v1"]).ok();
    let outside = heddle_in(
        &repo,
        &repo.around(),
        &["--repo", "repo", "restore", "--", "src/a"],
    );
    let error = outside.fails_with(1);
    assert!(
        error.contains("(written from ") && error.contains("PATH_INVALID"),
        "{error}"
    );
}

#[test]
fn an_id_that_is_short_for_more_than_one_state_is_refused() {
    let repo = TestRepo::new();
    // Enough commits that two begin with the same four digits.
    let mut seen = std::collections::HashSet::new();
    let short = (0..)
        .map(|n| {
            let message = n.to_string();
            let id = repo.git(&["commit-tree", "-m", &message, "HEAD^{tree}"]);
            id[..4].to_owned()
        })
        .find(|short| !seen.insert(short.clone()))
        .unwrap();
    let error = repo.heddle(["restore", &short]).fails_with(1);
    assert!(error.starts_with("error[STATE_AMBIGUOUS]: "), "{error}");
    // Where there is such a file, the word means that.
    fs::write(repo.path(&short), "here\n").unwrap();
    capture(&repo, "with the file");
    fs::write(repo.path(&short), "changed\n").unwrap();
    repo.heddle(["restore", &short]).ok();
    assert_eq!(fs::read_to_string(repo.path(&short)).unwrap(), "here\n");
}

#[test]
fn the_index_follows_only_when_asked() {
    let (repo, one) = two_states();
    let before = fs::read(repo.path(".git/index")).unwrap();
    repo.heddle(["restore", &one]).ok();
    assert_eq!(fs::read(repo.path(".git/index")).unwrap(), before);
    repo.heddle(["restore", &one, "--index"]).ok();
    assert_eq!(repo.git(&["diff", "--name-only", &one]), "");
    assert_eq!(repo.git(&["diff", "--name-only", "--cached", &one]), "");
}

#[test]
fn of_many_changes_a_few_are_listed_and_the_rest_counted() {
    let repo = TestRepo::new();
    for n in 0..1_100 {
        fs::write(repo.path(format!("{n:04}")), "new\n").unwrap();
    }
    let restored = repo.heddle(["restore"]).ok();
    let lines: Vec<&str> = restored.lines().collect();
    assert_eq!(lines[20], "  D 0019");
    assert_eq!(lines[21], "  and 1080 more");
    assert_eq!(lines[22], "  files      0 written, 1100 removed");
    let undone = repo.heddle(["undo", "--output", "json"]).json();
    assert_eq!(undone["written"], 1_100);
    assert_eq!(undone["changes"].as_array().unwrap().len(), 1_000);
    assert_eq!(undone["truncated"], true);
}

#[test]
fn a_restore_of_what_is_there_says_that_nothing_changed() {
    let (repo, one) = two_states();
    repo.heddle(["restore", &one]).ok();
    let said = repo.heddle(["restore", &one]).ok();
    let wanted = format!(
        "nothing changed: the worktree is as in {} on main, ",
        &one[..10]
    );
    assert!(said.starts_with(&wanted), "{said}");
}
