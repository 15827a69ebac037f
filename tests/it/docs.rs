//! What is written for people is true: the table of reasons, the README's commands, tables and
//! links.

use std::{env, fs, path::Path};

use heddle_agent::{
    discussion, failure::Reason, grpc_local_impl, hook, local_daemon, mutation, operation, review,
    signal, store, symbol, transaction,
};

use crate::{
    harness::{HEDDLE, Ran, TestRepo, run},
    left_out::{commit, write},
};

const README: &str = include_str!("../../README.md");

fn project(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The README's fenced blocks of this language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("\n```{language}\n");
    let after = README.split(opening.as_str()).skip(1);
    after
        .map(|text| text.split_once("\n```").unwrap().0)
        .collect()
}

/// Runs a README block in a shell, as a user would who has heddle on the path.
fn shell(repo: &TestRepo, script: &str) -> Ran {
    let ours = Path::new(HEDDLE).parent().unwrap().to_owned();
    let path = env::var_os("PATH").unwrap();
    let path = env::join_paths([ours].into_iter().chain(env::split_paths(&path))).unwrap();
    run(repo.command("sh").env("PATH", path).args(["-ec", script]))
}

fn reasons() -> String {
    let mut text = String::from(
        "# Reasons\n\n\
         Every failed call carries a `google.rpc.ErrorInfo` with the domain `heddle` and one of these\n\
         reasons. They are stable: match on them, and not on messages. `google.rpc.BadRequest` names the\n\
         fields to blame, where there are any. A reason may be added; treat one that you do not know by\n\
         its code.\n\n\
         This file is written from `src/failure.rs`; `UPDATE_DOCS=1 cargo test --test it docs::` does it\n\
         again.\n\n\
         | reason | code | meaning |\n|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let code = screaming(&format!("{:?}", grpc_local_impl::code(*reason)));
        text += &format!("| `{reason}` | `{code}` | {} |\n", reason.meaning());
    }
    text
}

/// `InvalidArgument` as gRPC writes it: `INVALID_ARGUMENT`.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            text.push('_');
        }
        text.extend(letter.to_uppercase());
    }
    text
}

#[test]
fn the_table_of_reasons_is_that_of_the_code() {
    let path = project("proto/REASONS.md");
    let wanted = reasons();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let stale = wanted
        .lines()
        .find(|line| !found.lines().any(|l| l == *line));
    assert!(
        found == wanted,
        "proto/REASONS.md is not what src/failure.rs says (first line missing: {stale:?}); \
         write it again with `UPDATE_DOCS=1 cargo test --test it docs::`"
    );
}

#[test]
fn the_first_readme_command_shows_that_nothing_is_lost_and_can_be_repeated() {
    let (build, demo) = blocks("sh")[0].split_once(" && ").unwrap();
    assert_eq!(build, "cargo build");
    let folder = "$PWD/target/debug:";
    assert!(demo.contains(folder), "{demo}");
    let repo = TestRepo::new();
    let before = repo.git(&["status", "--porcelain=v2", "--branch"]);
    for times in 1..=2 {
        let said = shell(&repo, &demo.replace(folder, "")).ok();
        assert_eq!(said.matches("goto").count(), 2 * times, "{said}");
        assert!(
            said.contains("an idea")
                && said.contains("serving")
                && said.contains("new     idea.txt"),
            "{said}"
        );
        assert!(!repo.path("idea.txt").exists());
    }
    assert_eq!(repo.git(&["status", "--porcelain=v2", "--branch"]), before);
}

#[test]
fn the_second_readme_command_is_the_one_that_ci_ends_with() {
    let test = blocks("sh")[1];
    assert_eq!(test, "cargo test");
    let ci = fs::read_to_string(project(".ci/run")).unwrap();
    assert_eq!(ci.lines().last(), Some(test));
}

#[test]
fn the_commands_of_the_readme_work_as_they_stand() {
    let repo = TestRepo::new();
    for block in &blocks("sh")[2..5] {
        shell(&repo, block).ok();
    }
}

#[test]
fn the_hooks_of_the_readme_work_as_they_stand() {
    let repo = TestRepo::new();
    let hooks = blocks("sh")
        .into_iter()
        .find(|block| block.contains("hook test"));
    shell(&repo, hooks.unwrap()).ok();
}

#[test]
fn the_reviews_of_the_readme_work_as_they_stand() {
    let repo = TestRepo::new();
    let mut blocks = blocks("sh").into_iter();
    let reviews = blocks.find(|block| block.contains("review sign -m"));
    write(
        &repo,
        "src/parse.rs",
        "impl Parser {\n    fn next(self) {}\n}\n",
    );
    write(&repo, "README.md", "A parser\n");
    commit(&repo);
    let said = shell(&repo, reviews.unwrap()).ok();
    for told in [
        "signed ",
        "agent_co_review",
        "README.md",
        "Wait for the benchmark",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
}

#[test]
fn the_discussions_of_the_readme_work_as_they_stand() {
    let repo = TestRepo::new();
    let mut blocks = blocks("sh").into_iter();
    let discussions = blocks.find(|block| block.contains("discuss resolve"));
    let said = shell(&repo, discussions.unwrap()).ok();
    for told in ["load.py:load  open, orphaned", "load.py:load  annotated"] {
        assert!(said.contains(told), "{said}");
    }
}

#[test]
fn the_signals_of_the_readme_work_as_they_stand() {
    let repo = TestRepo::new();
    repo.git(&["commit", "-q", "--allow-empty", "-m", "base"]);
    let mut blocks = blocks("sh").into_iter();
    let signals = blocks.find(|block| block.contains("signals --health"));
    let said = shell(&repo, signals.unwrap()).ok();
    assert!(said.contains("no signals at "), "{said}");
    assert!(said.contains("test_reachability"), "{said}");
}

#[test]
fn the_transactions_of_the_readme_work_as_they_stand() {
    let repo = TestRepo::new();
    let blocks = blocks("sh").into_iter();
    let transactions = blocks.filter(|block| block.contains("heddle txn"));
    for block in transactions.collect::<Vec<_>>() {
        let said = shell(&repo, block).ok();
        assert!(
            said.contains("status 3, and name.txt is there: renamed"),
            "{said}"
        );
        assert!(
            said.contains("thought better of it") || said.contains("aborted"),
            "{said}"
        );
    }
}

#[test]
fn the_settings_of_the_readme_are_understood() {
    let repo = TestRepo::new();
    repo.heddle(["init"]).ok();
    fs::write(repo.store_dir().join("config.toml"), blocks("toml")[0]).unwrap();
    repo.heddle(["agent", "address", "--start"]).ok();
    let status = repo.heddle(["agent", "status", "--output", "json"]).json();
    assert!(status["idle_deadline_secs"].is_number(), "{status}");
    let page = repo.heddle(["review", "show"]).ok();
    assert!(page.contains("no open discussion"), "{page}");
}

#[test]
fn the_exit_statuses_of_the_readme_are_those_of_the_help() {
    let help = run(TestRepo::new().command(HEDDLE).arg("--help")).ok();
    for status in 0..=5 {
        let row = format!("\n| {status} | ");
        assert!(README.contains(&row), "no row {row:?}");
        assert!(help.contains(&format!("\n  {status}  ")), "{help}");
    }
    assert!(!help.contains("\n  6  "), "{help}");
}

#[test]
fn the_limits_of_the_readme_are_those_of_the_code() {
    const MIB: usize = 1024 * 1024;
    let seconds = local_daemon::PREFACE_DEADLINE.as_secs();
    let days = store::DEDUP_RETENTION.as_secs() / 86_400;
    let rows = [
        (
            "one request",
            format!("{} MiB", grpc_local_impl::REQUEST_LIMIT / MIB),
        ),
        (
            "operations in one answer",
            format!("{} (", thousands(operation::QUERY_LIMIT as usize)),
        ),
        (
            "open connections",
            local_daemon::CONNECTION_LIMIT.to_string(),
        ),
        (
            "open event streams",
            grpc_local_impl::STREAM_LIMIT.to_string(),
        ),
        ("writes waiting for the disk", thousands(store::QUEUE_LIMIT)),
        ("silence on a new connection", format!("{seconds} s")),
        (
            "text of a signed statement",
            format!("{} KiB", review::TEXT_LIMIT / 1024),
        ),
        (
            "symbols in a signed statement",
            format!(
                "{}, with {} KiB of names",
                thousands(review::SYMBOLS_LIMIT),
                review::SCOPE_LIMIT / 1024
            ),
        ),
        (
            "public key, and signature",
            format!("{} KiB", review::PROOF_LIMIT / 1024),
        ),
        (
            "source file whose symbols are known",
            format!("{} KiB", symbol::SIZE_LIMIT / 1024),
        ),
        (
            "a turn of a discussion, an annotation",
            format!("{} KiB", discussion::BODY_LIMIT / 1024),
        ),
        (
            "all turns of a discussion",
            format!("{} MiB", discussion::DISCUSSION_BYTES / MIB),
        ),
        (
            "time of a signed statement",
            format!("within {} s", review::CLOCK_LIMIT_SECS),
        ),
        (
            "changed files whose symbols are on the page of a review",
            thousands(symbol::FILES_LIMIT),
        ),
        (
            "steps in the reading order of a page",
            thousands(review::STEPS_LIMIT),
        ),
        (
            "checks on a page of `GetReviewProgress`",
            format!(
                "{} ({} unless asked)",
                thousands(review::CHECKS_LIMIT as usize),
                review::DEFAULT_CHECKS
            ),
        ),
        (
            "`ssh-keygen`, for one signature",
            format!("{} s", review::KEYGEN_TIME.as_secs()),
        ),
        (
            "changed files that are looked into for signals",
            thousands(symbol::FILES_LIMIT),
        ),
        (
            "pages of reviews and sets of signals made at once",
            grpc_local_impl::PAGES.to_string(),
        ),
        ("signals of one module", signal::MODULE_LIMIT.to_string()),
        (
            "annotations that signals look at",
            discussion::FOLLOWED.to_string(),
        ),
        (
            "captures that `GetRepoSignalHealth` looks at",
            format!(
                "{} ({} unless asked)",
                thousands(signal::WINDOW_LIMIT as usize),
                signal::WINDOW
            ),
        ),
        ("hooks in a repository", hook::HOOK_LIMIT.to_string()),
        ("name of a hook", format!("{} bytes", hook::NAME_LIMIT)),
        (
            "command of a hook",
            format!("{} KiB", hook::COMMAND_LIMIT / 1024),
        ),
        (
            "time given to a hook",
            format!("{} min", hook::TIMEOUT_LIMIT_MS / 60_000),
        ),
        (
            "output of a hook",
            format!("{} KiB", hook::OUTPUT_LIMIT / 1024),
        ),
        (
            "commands of hooks running at once",
            hook::RUNNING_LIMIT.to_string(),
        ),
        (
            "hooks inside one another",
            mutation::DEPTH_LIMIT.to_string(),
        ),
        (
            "payload given to `hook run`",
            format!("{} MiB", hook::PAYLOAD_LIMIT / MIB),
        ),
        (
            "notices waiting to be told",
            thousands(store::NOTICE_LIMIT as usize),
        ),
        (
            "notices waiting for one listener",
            thousands(hook::LAG_LIMIT as usize),
        ),
        (
            "calls in a transaction",
            transaction::CALL_LIMIT.to_string(),
        ),
        ("active transactions", transaction::ACTIVE_LIMIT.to_string()),
        (
            "answer to a `client_operation_id`",
            format!("kept for {days} days"),
        ),
        (
            "`agent.log`",
            format!("{} MiB", local_daemon::LOG_LIMIT as usize / MIB),
        ),
    ];
    for (what, limit) in rows {
        let row = format!("\n| {what} | {limit}");
        assert!(README.contains(&row), "the README has no row {row:?}");
    }
    assert!(grpc_local_impl::RESPONSE_LIMIT as f64 <= 3.5 * MIB as f64);
}

/// A number as people write it: `10,000`.
fn thousands(number: usize) -> String {
    format!("{},{:03}", number / 1_000, number % 1_000)
}

#[test]
fn the_readme_names_only_reasons_and_files_that_there_are() {
    let known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    let codes = [
        "CANCELLED",
        "HEAD",
        "SIGHUP",
        "SIGTERM",
        "UNAVAILABLE",
        "UNIMPLEMENTED",
        "UNKNOWN",
    ];
    let quoted = README.split('`').skip(1).step_by(2);
    let shouted = quoted
        // Fields of the journal are no reasons.
        .filter(|word| !word.starts_with("HEDDLE_"))
        .filter(|word| word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    for word in shouted {
        assert!(
            known.contains(&word) || codes.contains(&word),
            "no reason {word}"
        );
    }
    for (at, _) in README.match_indices("](") {
        let target = README[at + 2..].split(')').next().unwrap();
        let there = target.starts_with('#') || project(target).exists();
        assert!(there, "the README links to {target}, which is not there");
    }
}
