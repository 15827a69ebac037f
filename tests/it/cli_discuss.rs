//! `heddle discuss`, as a person and as a script sees it.

use std::{fs, process::Stdio};

use crate::harness::TestRepo;

fn with_code() -> TestRepo {
    let repo = TestRepo::new();
    fs::create_dir(repo.path("src")).unwrap();
    let text = "def load(path):\n    return open(path).read()\n";
    fs::write(repo.path("src/io.py"), text).unwrap();
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "load"]);
    repo
}

#[test]
fn a_discussion_is_opened_answered_found_by_the_end_of_its_id_and_settled() {
    let repo = with_code();
    let _daemon = repo.serve();
    let text = repo.heddle(["discuss", "list"]).ok();
    assert_eq!(
        text,
        "no open discussions; `heddle discuss open` opens one\n"
    );
    let open = [
        "--output",
        "json",
        "discuss",
        "open",
        "src/io.py:load",
        "-m",
        "who closes it?",
    ];
    let opened = repo.heddle(open).json();
    let id = opened["id"].as_str().unwrap();
    let end = &id[id.len() - 8..];
    let mut reply = repo.command(env!("CARGO_BIN_EXE_heddle"));
    reply.args(["discuss", "reply", end, "-m", "-"]);
    let mut reply = reply
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let stdin = reply.stdin.take().unwrap();
    std::io::Write::write_all(&mut { stdin }, b"nobody\nI shall\n").unwrap();
    assert!(reply.wait().unwrap().success());
    let shown = repo.heddle(["discuss", "show", end]).ok();
    assert!(
        shown.starts_with(&format!("src/io.py:load  open  {id}\n")),
        "{shown}"
    );
    assert!(shown.ends_with("  nobody\n  I shall\n"), "{shown}");
    let listed = repo.heddle(["discuss", "list"]).ok();
    assert!(
        listed.contains(&format!("{end}  src/io.py:load  open    2      nobody")),
        "{listed}"
    );

    let resolve = [
        "discuss",
        "resolve",
        end,
        "--annotate",
        "files are closed here",
        "--tag",
        "io",
    ];
    let resolved = repo.heddle(resolve).ok();
    assert!(resolved.contains("src/io.py:load  annotated"), "{resolved}");
    let again = repo
        .heddle(["discuss", "resolve", end, "--dismiss", "no"])
        .fails_with(1);
    assert!(again.contains("error[DISCUSSION_RESOLVED]"), "{again}");
    let on = [
        "--output",
        "json",
        "discuss",
        "list",
        "--status",
        "all",
        "--on",
        "src/io.py:load",
    ];
    let found = repo.heddle(on).json();
    assert_eq!(
        found["discussions"][0]["resolution"]["how"],
        "into_annotation"
    );
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let repo = with_code();
    let _daemon = repo.serve();
    let missing = repo
        .heddle(["discuss", "open", "src/io.py:loads", "-m", "x"])
        .fails_with(1);
    assert!(missing.contains("it has `load`"), "{missing}");
    let nobody = repo.heddle(["discuss", "show", "abcdef"]).fails_with(1);
    assert!(nobody.contains("error[DISCUSSION_UNKNOWN]"), "{nobody}");
    assert!(
        nobody.contains("`heddle discuss list --status all`"),
        "{nobody}"
    );
    repo.heddle(["discuss", "resolve", "abcdef"]).fails_with(2);
}
