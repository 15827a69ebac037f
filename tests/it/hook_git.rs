//! Real pushes and merges with the hooks of contrib/: what Git's own hooks fire, and the gates that
//! people would use.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    harness::{HEDDLE, Ran, TestRepo, eventually, run},
    listening::{gate, on, register, veto},
    states::capture,
};

fn contrib(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib")
        .join(path)
}

/// Git, with heddle on the path.
fn git(repo: &TestRepo, args: &[&str]) -> Command {
    let ours = Path::new(HEDDLE).parent().unwrap().to_owned();
    let path = env::var_os("PATH").unwrap();
    let path = env::join_paths([ours].into_iter().chain(env::split_paths(&path))).unwrap();
    let mut git = repo.command("git");
    git.args(args).env("PATH", path);
    git
}

fn run_git(repo: &TestRepo, args: &[&str]) -> Ran {
    run(&mut git(repo, args))
}

/// A repository with all of contrib's Git hooks, and a remote to push to.
fn with_git_hooks() -> TestRepo {
    let repo = TestRepo::new();
    let hooks = repo.path(".git/hooks");
    for name in [
        "pre-push",
        "pre-merge-commit",
        "post-merge",
        "reference-transaction",
    ] {
        let to = hooks.join(name);
        fs::create_dir_all(&hooks).unwrap();
        fs::copy(contrib("git-hooks").join(name), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let remote = repo.around().join("remote.git");
    repo.git(&["init", "-q", "--bare", remote.to_str().unwrap()]);
    repo.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    repo
}

fn noted(repo: &TestRepo) -> String {
    fs::read_to_string(repo.around().join("noted")).unwrap_or_default()
}

const NOTE: &str = "echo $HEDDLE_EVENT $(cat) >> ../noted";

#[tokio::test]
async fn a_push_is_asked_about_and_told_of() {
    let repo = with_git_hooks();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let refuse = on("wip", "cat >&2; exit 1", &["pre_push"]);
    register(&channel, refuse).await;
    let refused = run_git(&repo, &["push", "-q", "origin", "main"]);
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("HOOK_VETOED"), "{}", refused.stderr);
    assert!(refused.stderr.contains("`wip`"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("refs/heads/main"),
        "{}",
        refused.stderr
    );
    let pushed = || {
        let remote = repo.around().join("remote.git");
        repo.git(&["--git-dir", remote.to_str().unwrap(), "for-each-ref"])
    };
    assert_eq!(pushed(), "");

    register(&channel, on("wip", NOTE, &["pre_push", "post_push"])).await;
    run_git(&repo, &["push", "-q", "origin", "main"]).ok();
    assert!(pushed().contains("refs/heads/main"));
    let head = repo.git(&["rev-parse", "HEAD"]);
    let noted = eventually("it is told", || {
        Some(noted(&repo)).filter(|noted| noted.contains("post_push"))
    });
    assert!(noted.contains(r#"pre_push {"remote":"origin""#), "{noted}");
    assert!(noted.contains(head.trim()), "{noted}");
    assert!(
        noted.contains(r#"post_push {"remote":"origin"}"#),
        "{noted}"
    );
    // A fetch moves the same branches, and is no push.
    run_git(&repo, &["update-ref", "-d", "refs/remotes/origin/main"]).ok();
    run_git(&repo, &["fetch", "-q", "origin"]).ok();
    run_git(&repo, &["push", "-q", "origin", "main:more"]).ok();
    let noted = eventually("it is told again", || {
        Some(self::noted(&repo)).filter(|noted| noted.matches("post_push").count() > 1)
    });
    assert_eq!(noted.matches("post_push").count(), 2, "{noted}");
}

#[tokio::test]
async fn a_merge_is_asked_about_and_told_of() {
    let repo = with_git_hooks();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let commit = |name: &str| {
        fs::write(repo.path(name), name).unwrap();
        repo.git(&["add", name]);
        repo.git(&["commit", "-qm", name]);
    };
    repo.git(&[
        "checkout",
        "-q",
        "-b",
        "topic \"x\"".replace([' ', '"'], "-").as_str(),
    ]);
    commit("topic");
    repo.git(&["checkout", "-q", "main"]);
    commit("main");
    let topic = "topic--x-";

    register(
        &channel,
        on("freeze", "echo frozen >&2; exit 1", &["pre_merge"]),
    )
    .await;
    let refused = run_git(&repo, &["merge", "--no-edit", topic]);
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("frozen"), "{}", refused.stderr);
    repo.git(&["merge", "--abort"]);

    register(&channel, on("freeze", NOTE, &["pre_merge", "post_merge"])).await;
    run_git(&repo, &["merge", "-q", "--no-edit", topic]).ok();
    let head = repo.git(&["rev-parse", "HEAD"]);
    let noted = eventually("it is told", || {
        Some(noted(&repo)).filter(|noted| noted.contains("post_merge"))
    });
    let asked = format!(r#"pre_merge {{"source":"{topic}","target":"main"}}"#);
    assert!(noted.contains(&asked), "{noted}");
    assert!(noted.contains(head.trim()), "{noted}");
}

#[test]
fn gits_hooks_do_nothing_where_heddle_is_not_installed() {
    let repo = with_git_hooks();
    // Only Git and a shell, and so no heddle.
    run(repo.command("git").args(["push", "-q", "origin", "main"])).ok();
    assert!(!repo.path(".heddle").exists());
}

/// The command line of a sample in contrib/hooks.
pub fn sample(name: &str, arguments: &str) -> String {
    format!("{} {arguments}", contrib("hooks").join(name).display())
}

#[tokio::test]
async fn secrets_are_kept_out_of_captures_and_pushes() {
    let repo = with_git_hooks();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    // Put together here, so that this file has none.
    let key = format!("AKIA{}", "ABCDEFGHIJKLMNOP");
    let random = "q9Zx7Lk2VbN4mT8wRj3Hs6Yd";
    let scan = on(
        "secrets",
        &sample("secret-scan", ""),
        &["pre_capture", "pre_push"],
    );
    register(&channel, scan).await;
    let write = |text: &str| fs::write(repo.path("config.py"), text).unwrap();

    write("api_key = 'an-example-of-a-name-and-no-secret'\npassword = os.environ['PASSWORD']\n");
    capture(&channel, "").await.unwrap();
    write(&format!("x = 1\nkey = '{key}'\n"));
    let (hook, reason) = veto(capture(&channel, "").await.map(drop));
    assert_eq!(
        (hook.as_str(), reason.as_str()),
        ("secrets", "config.py:2: an AWS access key")
    );
    write(&format!("API_KEY: \"{random}\"\n"));
    let (_, reason) = veto(capture(&channel, "").await.map(drop));
    assert_eq!(reason, "config.py:1: what looks like a secret");
    assert!(!reason.contains(random), "it is not told on");
    write(&format!(
        "key = '{key}'  # heddle:allow-secret: an example\n"
    ));
    capture(&channel, "").await.unwrap();

    // What a commit has brought is seen by a push, also when it was taken out again.
    write(&format!("key = '{key}'\n"));
    repo.git(&["add", "config.py"]);
    repo.git(&["commit", "-qm", "oops"]);
    repo.git(&["rm", "-q", "--cached", "config.py"]);
    repo.git(&["commit", "-qm", "better"]);
    let refused = run_git(&repo, &["push", "-q", "origin", "main"]);
    assert!(!refused.status.success());
    assert!(
        refused.stderr.contains("config.py:1: an AWS access key"),
        "{}",
        refused.stderr
    );
    // What was there before stops nobody: HEAD's parent has it already.
    repo.git(&["add", "-f", "config.py"]);
    repo.git(&["commit", "-qm", "there"]);
    write(&format!("key = '{key}'\nmore = 1\n"));
    capture(&channel, "").await.unwrap();
}

#[tokio::test]
async fn protected_paths_are_kept_as_they_are() {
    let repo = with_git_hooks();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let protect = sample(
        "protected-paths",
        ".github 'infra/*' '*.lock' '!infra/notes.md'",
    );
    register(&channel, gate("protect", &protect)).await;
    let write = |path: &str| {
        let path = repo.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    };
    for fine in [
        "src/.github-notes",
        "infrastructure",
        "infra/notes.md",
        "lock",
    ] {
        write(fine);
        capture(&channel, "")
            .await
            .unwrap_or_else(|e| panic!("{fine}: {e}"));
    }
    for protected in [
        ".github/workflows/ci.yml",
        "infra/a/b.tf",
        "deep/down/Cargo.lock",
    ] {
        write(protected);
        let (_, reason) = veto(capture(&channel, "").await.map(drop));
        assert_eq!(reason, format!("protected: {protected}"));
        fs::remove_file(repo.path(protected)).unwrap();
    }
}
