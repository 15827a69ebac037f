//! `heddle review show`, as a person sees it on a wide and a narrow terminal and in a pipe, and as a
//! script gets it.

use std::{fs, io::Read, os::fd::OwnedFd, process::Stdio};

use nix::pty::{OpenptyResult, Winsize, openpty};

use crate::{
    discussions::commit,
    harness::{HEDDLE, TestRepo},
    signing::Key,
};

const BEFORE: &str = "def load(path):\n    return open(path).read()\n\n\nLIMIT = 1\n";
const AFTER: &str =
    "def load(path):\n    with open(path) as file:\n        return file.read()\n\n\nLIMIT = 2\n";

/// A change with something in each part of its page.
fn with_page() -> TestRepo {
    let repo = TestRepo::new();
    fs::create_dir_all(repo.store_dir()).unwrap();
    let required = "[review]\nrequired = [\"1 read\", \"no open discussion\"]\n";
    fs::write(repo.store_dir().join("config.toml"), required).unwrap();
    fs::create_dir_all(repo.path("src/deep")).unwrap();
    fs::write(repo.path("src/deep/io.py"), BEFORE).unwrap();
    commit(&repo, "before");
    fs::write(repo.path("src/deep/io.py"), AFTER).unwrap();
    fs::write(repo.path("README"), "how to load\n").unwrap();
    let said = "Close what is opened\n\nFiles stayed open until the collector came, which on a machine with little memory is never: so they are closed now.";
    commit(&repo, said);
    repo.heddle([
        "discuss",
        "open",
        "src/deep/io.py:load",
        "-m",
        "And if it fails?",
    ])
    .ok();
    let key = Key::ssh(&repo.around().join("home"), "id");
    let Key::Ssh { private, .. } = &key else {
        panic!("another key");
    };
    repo.heddle([
        "review",
        "sign",
        "-m",
        "Read it",
        "--key",
        private.to_str().unwrap(),
    ])
    .ok();
    repo
}

/// What a command prints on a terminal of so many columns, without and with what is for its colours.
fn on_terminal(repo: &TestRepo, columns: u16, args: &[&str], no_color: bool) -> String {
    let size = Winsize {
        ws_row: 50,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
    let mut command = repo.command(HEDDLE);
    command.args(args).env("TERM", "xterm-256color");
    if no_color {
        command.env("NO_COLOR", "1");
    }
    command.stdout(Stdio::from(slave)).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // The terminal ends with the last that has it open.
    drop(command);
    let read = std::thread::spawn(move || read_all(master));
    assert!(child.wait().unwrap().success());
    read.join().unwrap().replace('\r', "")
}

fn read_all(terminal: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // A terminal that nobody writes to any more ends with an error.
    let _ = fs::File::from(terminal).read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

const PAGE: &str = "\
Close what is opened
STATE  compared with PARENT

  Files stayed open until the collector came, which on a machine with little memory is never: so they are closed now.

2 files changed  +4 -3  0 signals

Read: what users of the code see
  src/deep/io.py
   1  shape   LIMIT  constant, line 6

Read: what follows from it
  src/deep/io.py
   2  body    load  function, lines 1-3

Read: tests and documentation
   3  edited  README

What was said
  src/deep/io.py:load  open  ID
    Ada  WHEN
      And if it fails?

Who has looked at it
  read             Ada <ada@example.com>, WHEN: Read it

Before it is merged
  ✓ 1 signature of kind read for the whole change: 1 so far
  ✗ no open discussion: 1 so far

Next
  heddle diff -p PARENT STATE  read it
  heddle discuss open src/deep/io.py:LIMIT -m 'Why?'  ask about it
  heddle review sign                                  say that you have looked at it
  heddle review verdict sign                          or hold, or reject
";

/// The page with what differs from run to run replaced.
fn steady(repo: &TestRepo, page: &str) -> String {
    let short = |revision: &str| repo.git(&["rev-parse", revision])[..10].to_owned();
    let page = page
        .replace(&short("HEAD~"), "PARENT")
        .replace(&short("HEAD"), "STATE");
    let words = page.split_inclusive('\n').map(|line| {
        let mut line = line.to_owned();
        if let Some(at) = line.find("  open  ") {
            line.replace_range(at + 8..line.len() - 1, "ID");
        }
        if let Some(end) = line.find(" ago") {
            let begin = line[..end]
                .rfind("  ")
                .max(line[..end].rfind(", "))
                .unwrap()
                + 2;
            line.replace_range(begin..end + 4, "WHEN");
        }
        if line.starts_with("  heddle diff") {
            line = "  heddle diff -p PARENT STATE  read it\n".to_owned();
        }
        line
    });
    words.collect()
}

#[test]
fn a_page_is_whole_and_plain_in_a_pipe() {
    let repo = with_page();
    let page = repo.heddle(["review", "show"]).ok();
    assert_eq!(steady(&repo, &page), PAGE);
}

#[test]
fn a_page_is_as_wide_as_the_terminal_and_coloured_only_there() {
    let repo = with_page();
    for columns in [140, 60, 40] {
        let page = on_terminal(&repo, columns, &["review", "show"], true);
        assert!(!page.contains('\u{1b}'), "{page:?}");
        let all = page.lines().filter(|line| !line.starts_with("  heddle "));
        for line in all {
            assert!(line.chars().count() <= columns.into(), "{columns}: {line}");
        }
        assert!(page.contains("Before it is merged"), "{page}");
        // Commands are not broken: they are to be copied.
        assert!(
            page.contains("\n  heddle discuss open src/deep/io.py:LIMIT -m 'Why?'"),
            "{page}"
        );
    }
    let wide = on_terminal(&repo, 140, &["review", "show"], true);
    let narrow = on_terminal(&repo, 60, &["review", "show"], true);
    assert!(wide.contains("ask about it") && !narrow.contains("ask about it"));
    let coloured = on_terminal(&repo, 140, &["review", "show"], false);
    assert!(
        coloured.contains("\u{1b}[32m") || coloured.contains("\u{1b}[1m"),
        "{coloured:?}"
    );
}

#[test]
fn places_are_written_from_the_current_folder_and_commands_go_on_from_them() {
    let repo = with_page();
    let mut show = repo.command(HEDDLE);
    show.args(["review", "show", "main"])
        .current_dir(repo.path("src"));
    let page = crate::harness::run(&mut show).ok();
    assert!(page.contains("\n  deep/io.py\n"), "{page}");
    assert!(page.contains("edited  ../README"), "{page}");
    assert!(
        page.contains("heddle discuss open deep/io.py:LIMIT "),
        "{page}"
    );
    assert!(page.contains("heddle review sign main "), "{page}");
    let mut open = repo.command(HEDDLE);
    open.args(["discuss", "open", "deep/io.py:LIMIT", "-m", "Why?"]);
    crate::harness::run(open.current_dir(repo.path("src"))).ok();
}

#[test]
fn a_script_gets_all_of_a_page_under_stable_names() {
    let repo = with_page();
    let page = repo
        .heddle(["review", "show", "HEAD", "--all", "--output", "json"])
        .json();
    let names: Vec<_> = page.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        names.join(" "),
        "state_id parent_state headline narrative files_changed added_lines removed_lines in_budget_signal_count hidden_signal_count tick_budget signals_partial truncated counts_partial structural consequence tests_and_docs signals discussions signatures checks merge_requirements available_kinds"
    );
    assert_eq!(page["headline"], "Close what is opened");
    assert_eq!(
        (
            &page["files_changed"],
            &page["added_lines"],
            &page["removed_lines"]
        ),
        (&2.into(), &4.into(), &3.into())
    );
    assert_eq!(
        page["structural"],
        serde_json::json!([{
            "file": "src/deep/io.py", "symbol": "LIMIT", "change": "shape", "kind": "constant",
            "start_line": 6, "end_line": 6, "came_from": null, "left_out": null,
        }])
    );
    assert_eq!(page["consequence"][0]["change"], "body");
    assert_eq!(page["tests_and_docs"][0]["file"], "README");
    assert_eq!(
        page["discussions"][0]["turns"][0]["body"],
        "And if it fails?"
    );
    assert_eq!(page["signatures"][0]["justification"], "Read it");
    assert_eq!(page["merge_requirements"][1]["satisfied"], false);
    assert_eq!(page["available_kinds"][0], "read");
    let failed = repo
        .heddle(["review", "show", "no-such-thing"])
        .fails_with(1);
    assert!(failed.contains("STATE_UNKNOWN"), "{failed}");
}

#[test]
fn long_lists_are_cut_short_unless_all_is_asked_for() {
    let repo = TestRepo::new();
    let many: String = (0..60).map(|n| format!("A{n} = {n}\n")).collect();
    fs::write(repo.path("many.py"), many).unwrap();
    commit(&repo, "many");
    let page = repo.heddle(["review", "show"]).ok();
    assert!(
        page.contains("  40  new     A39") && !page.contains("A40"),
        "{page}"
    );
    assert!(page.contains("  and 20 more; --all shows all\n"), "{page}");
    let all = repo.heddle(["review", "show", "--all"]).ok();
    assert!(all.contains("  60  new     A59"), "{all}");
}
