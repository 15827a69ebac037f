//! Completions, manual pages, and what commands show on a terminal.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use nix::pty::openpty;

use crate::{
    cli_capture::capture,
    harness::{HEDDLE, TestRepo, run, skip},
};

#[test]
fn every_shell_has_completions_that_know_every_command() {
    let repo = TestRepo::new();
    let (folder, nothing) = (repo.around(), repo.around().join("nothing"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        // No repository is needed: a package is built where there is none.
        let mut command = repo.command(HEDDLE);
        let script = run(command.current_dir(&folder).args(["completions", shell])).ok();
        for word in [
            "capture",
            "restore",
            "undo",
            "thread",
            "complete",
            "doctor",
            "--preview",
        ] {
            let word = if shell == "fish" {
                word.trim_start_matches('-')
            } else {
                word
            };
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    assert!(!nothing.exists());
    repo.heddle(["completions", "nosh"]).fails_with(2);
}

#[test]
fn bash_completes_what_is_typed() {
    let repo = TestRepo::new();
    let script = repo.heddle(["completions", "bash"]).ok();
    let ask = "\nCOMP_WORDS=(heddle thread st); COMP_CWORD=2; _heddle heddle st thread; echo \"${COMPREPLY[@]}\"";
    if run(repo.command("bash").args(["-c", "true"])).status.code() != Some(0) {
        return skip("bash_completes_what_is_typed", "there is no bash");
    }
    let said = run(repo.command("bash").args(["-c", &(script + ask)])).ok();
    assert_eq!(said, "start\n");
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let repo = TestRepo::new();
    let folder = repo.around().join("man/man1");
    let said = repo.heddle(["man", "--dir", folder.to_str().unwrap()]).ok();
    let mut listed: Vec<String> = said.lines().map(str::to_owned).collect();
    listed.sort();
    let mut written: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    written.sort();
    assert_eq!(listed, written);
    for name in [
        "heddle",
        "heddle-capture",
        "heddle-thread-watch",
        "heddle-agent-serve",
    ] {
        let page = fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
        assert!(
            page.contains(&format!(".TH {name} 1")) && page.contains(".SH SYNOPSIS"),
            "{page}"
        );
    }
    let page = repo.heddle(["man"]).ok();
    assert!(
        page.contains(".TH heddle 1") && page.contains("Exit status"),
        "{page}"
    );
    let taken = repo.path("README");
    let error = repo
        .heddle(["man", "--dir", taken.to_str().unwrap()])
        .fails_with(1);
    assert!(
        error.starts_with("error: cannot make the folder of --dir"),
        "{error}"
    );
}

/// Runs a command with a terminal as its output and its error; hands what it shows to `seen`, piece by
/// piece, and answers all of it.
fn on_a_terminal(mut command: Command, mut seen: impl FnMut(&str)) -> String {
    let pty = openpty(None, None).unwrap();
    let slave: OwnedFd = pty.slave;
    command
        .env("TERM", "xterm")
        .stdout(Stdio::from(slave.try_clone().unwrap()))
        .stderr(Stdio::from(slave));
    let mut child = command.spawn().unwrap();
    // The last ends of the terminal that are ours.
    drop(command);
    let mut terminal = fs::File::from(pty.master);
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match terminal.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Linux says this when nobody has the other end open any more.
            Err(_) => break,
        }
        seen(&String::from_utf8_lossy(&all));
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(all).unwrap()
}

#[test]
fn a_patch_on_a_terminal_is_coloured_and_cannot_steer_it() {
    let repo = TestRepo::new();
    fs::write(repo.path("file"), "one\n-- two\n").unwrap();
    capture(&repo, "one");
    fs::write(repo.path("file"), "one\n\tthree\x1b[2J\n").unwrap();
    let mut diff = repo.command(HEDDLE);
    diff.args(["diff", "-p"]);
    let shown = on_a_terminal(diff, |_| {});
    assert!(
        shown.contains("\x1b[32m+\tthree\\u{1b}[2J\x1b[0m\r\n"),
        "{shown:?}"
    );
    // A removed line, although it looks like the name of a file.
    assert!(shown.contains("\x1b[31m--- two\x1b[0m\r\n"), "{shown:?}");
    assert!(
        shown.contains("\x1b[1mdiff --git a/file b/file\x1b[0m\r\n"),
        "{shown:?}"
    );

    let mut plain = repo.command(HEDDLE);
    plain.args(["diff", "-p"]).env("NO_COLOR", "1");
    let shown = on_a_terminal(plain, |_| {});
    assert!(shown.contains("\n+\tthree\\u{1b}[2J\r\n"), "{shown:?}");
    assert!(!repo.heddle(["diff", "-p"]).ok().contains("\x1b[32m"));
}

#[test]
fn what_takes_long_is_shown_on_a_terminal_only_and_is_gone_at_the_end() {
    let repo = TestRepo::new();
    repo.heddle(["agent", "address", "--start"]).ok();
    // A filter that takes as long as we want it to.
    let gate = repo.around().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let clean = format!("cat >/dev/null; cat '{}'", gate.display());
    repo.git(&["config", "filter.slow.clean", &clean]);
    repo.git(&["config", "filter.slow.required", "true"]);
    fs::write(repo.path(".gitattributes"), "slow filter=slow\n").unwrap();
    fs::write(repo.path("slow"), "slow\n").unwrap();
    let open = || {
        fs::File::options()
            .write(true)
            .open(&gate)
            .unwrap()
            .write_all(b"x")
            .unwrap()
    };

    let mut slow = repo.command(HEDDLE);
    slow.args(["capture"]);
    let mut opened = false;
    let shown = on_a_terminal(slow, |so_far| {
        if so_far.contains("capturing") && !opened {
            opened = true;
            open();
        }
    });
    assert!(opened, "{shown:?}");
    let (line, rest) = shown.rsplit_once("capturing").unwrap();
    assert!(
        line.contains('\r') && rest.contains("\x1b[2K"),
        "the line is wiped: {shown:?}"
    );
    assert!(rest.contains("captured "), "{shown:?}");

    fs::write(repo.path("slow"), "slow again\n").unwrap();
    let mut piped = repo.command(HEDDLE);
    let piped = piped
        .args(["capture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let piped = piped.spawn().unwrap();
    open();
    let output = piped.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}
