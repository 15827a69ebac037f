//! launchd's side of `heddle agent install`, `stop`, `restart` and `uninstall`, and the daemon that
//! it starts. Linux has no launchd: a stand-in for launchctl is on the path.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    process::Command,
};

use heddle_agent::local_daemon::LOG_LIMIT;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{HEDDLE, Ran, TestRepo, eventually, run, skip};

const LABEL: &str = "dev.heddle.agent.repo";

/// A repository of a user who has a launchd.
struct Session {
    repo: TestRepo,
}

impl Session {
    fn new(test: &str) -> Option<Self> {
        if Command::new("python3").arg("--version").output().is_err() {
            skip(test, "the stand-in for launchctl needs python3");
            return None;
        }
        let session = Self {
            repo: TestRepo::new(),
        };
        for folder in ["bin", "home/Library/LaunchAgents", "home/Library/Caches"] {
            fs::create_dir_all(session.repo.around().join(folder)).unwrap();
        }
        let launchctl = session.bin().join("launchctl");
        fs::write(&launchctl, include_str!("launchctl.py")).unwrap();
        fs::set_permissions(&launchctl, fs::Permissions::from_mode(0o700)).unwrap();
        Some(session)
    }

    fn bin(&self) -> PathBuf {
        self.repo.around().join("bin")
    }

    fn home(&self) -> PathBuf {
        self.repo.around().join("home")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.repo.command(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.bin().display()));
        command
    }

    fn heddle(&self, arguments: &[&str]) -> Ran {
        run(self.command(HEDDLE).args(arguments))
    }

    fn install(&self, arguments: &[&str]) -> Ran {
        let install = ["agent", "install", "--manager", "launchd"];
        self.heddle(&[&install, arguments].concat())
    }

    fn is_loaded(&self) -> bool {
        let target = format!("gui/{}/{LABEL}", nix::unistd::getuid());
        let printed = run(self.command("launchctl").args(["print", &target]));
        printed.status.success()
    }

    fn socket(&self) -> PathBuf {
        self.home().join("Library/Caches/heddle/repo.sock")
    }

    /// The process that answers a call, which may start it.
    #[track_caller]
    fn serving(&self) -> i32 {
        self.heddle(&["hook", "list"]).ok();
        self.repo.holder().unwrap()
    }

    /// Everything in the home but what the stand-in remembers.
    fn files(&self) -> Vec<String> {
        let home = self.home();
        let found = run(Command::new("find").arg(&home)).ok();
        let remembered = home.join("launchd").display().to_string();
        let mut lines: Vec<String> = found.lines().map(str::to_owned).collect();
        lines.retain(|line| !line.starts_with(&remembered));
        lines.sort();
        lines
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let launchd = fs::read_to_string(self.home().join("launchd").join(LABEL));
        if let Some(pid) = launchd.ok().and_then(|pid| pid.parse().ok())
            && self.is_loaded()
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[test]
fn an_installed_agent_costs_no_process_and_the_first_call_starts_it() {
    let Some(session) = Session::new("launchd::first_call") else {
        return;
    };
    // A daemon that runs by itself lies where the link is to be.
    session
        .heddle(&["hook", "add", "kept", "true", "--event", "pre_capture"])
        .ok();
    let direct = session.repo.holder().unwrap();
    let done = session.install(&["--now"]).ok();
    let socket = session.socket();
    let folder = socket.parent().unwrap();
    for what in [
        &format!("(process {direct})"),
        &format!("LaunchAgents/{LABEL}.plist"),
        &format!("made {}", folder.display()),
        &format!("linked {}", session.repo.socket().display()),
        &format!("started {LABEL}"),
    ] {
        assert!(done.contains(what.as_str()), "{what}: {done}");
    }
    assert!(!done.contains("lingering"), "{done}");
    assert_eq!(folder.metadata().unwrap().mode() & 0o7777, 0o700);
    assert_eq!(socket.metadata().unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_link(session.repo.socket()).unwrap(), socket);
    let said = session.heddle(&["agent", "status"]);
    assert!(
        said.stdout
            .contains(&format!("launchd holds its socket, as {LABEL}")),
        "{said:?}"
    );
    said.fails_with(3);
    assert_eq!(session.repo.holder(), None);

    assert!(session.heddle(&["hook", "list"]).ok().contains("kept"));
    let status = session
        .heddle(&["agent", "status", "--output", "json"])
        .json();
    assert_eq!(status["listener"]["path"], socket.to_str().unwrap());
    assert_eq!(status["listener"]["origin"], "held by the service manager");
    assert!(!session.repo.pidfile().exists());
}

#[test]
fn an_agent_that_was_installed_for_later_listens_for_the_first_command() {
    let Some(session) = Session::new("launchd::later") else {
        return;
    };
    let done = session.install(&[]).ok();
    assert!(done.contains("from the next login on"), "{done}");
    assert!(!session.is_loaded());
    // Whoever knows the address will find the socket there, once launchd binds it.
    assert_eq!(
        fs::read_link(session.repo.socket()).unwrap(),
        session.socket()
    );
    let said = session.heddle(&["agent", "status"]).stdout;
    assert!(said.contains("does not listen now"), "{said}");
    session.serving();
    assert!(session.is_loaded());
}

#[test]
fn a_restart_is_another_process_behind_the_same_socket() {
    let Some(session) = Session::new("launchd::restart") else {
        return;
    };
    session.install(&["--now"]).ok();
    let held = session.socket().metadata().unwrap().ino();
    let first = session.serving();
    let said = session.heddle(&["agent", "restart"]).ok();
    let second = session.repo.holder().unwrap();
    assert!(said.contains("launchd restarted repo"), "{said}");
    assert!(said.contains(&second.to_string()), "{said}");
    assert_ne!(first, second);
    assert_eq!(session.socket().metadata().unwrap().ino(), held);
    assert_eq!(session.serving(), second);
    // Also one that is not there.
    session.heddle(&["agent", "stop"]).ok();
    session.heddle(&["agent", "restart"]).ok();
    assert!(session.repo.holder().is_some());
}

#[test]
fn stop_takes_the_socket_away_and_the_next_command_brings_it_back() {
    let Some(session) = Session::new("launchd::stop") else {
        return;
    };
    session.install(&["--now"]).ok();
    let pid = session.serving();
    let stopped = session.heddle(&["agent", "stop"]);
    assert_eq!(stopped.stderr, "");
    assert!(stopped.ok().contains(&pid.to_string()));
    assert_eq!(session.repo.holder(), None);
    assert!(!session.is_loaded() && !session.socket().exists());
    session.heddle(&["agent", "stop"]).ok();

    assert_ne!(session.serving(), pid);
    assert!(session.is_loaded());
}

#[test]
fn a_socket_folder_that_was_cleaned_away_comes_back() {
    let Some(session) = Session::new("launchd::caches") else {
        return;
    };
    session.install(&["--now"]).ok();
    let folder = session.socket().parent().unwrap().to_owned();
    fs::remove_dir_all(&folder).unwrap();
    let said = session.heddle(&["hook", "list"]);
    assert_eq!(said.stderr, "");
    said.ok();
    assert_eq!(folder.metadata().unwrap().mode() & 0o7777, 0o700);
    assert!(session.is_loaded() && session.socket().exists());
}

#[test]
fn uninstall_leaves_nothing() {
    let Some(session) = Session::new("launchd::uninstall") else {
        return;
    };
    let before = session.files();
    session.install(&["--now"]).ok();
    session.serving();
    let undone = session.heddle(&["agent", "uninstall"]).ok();
    assert!(
        undone.contains(&format!("stopped and disabled {LABEL}")),
        "{undone}"
    );
    assert_eq!(session.files(), before);
    assert!(session.repo.socket().symlink_metadata().is_err());
    assert!(!session.repo.store_dir().join("service.toml").exists());
    assert!(!session.is_loaded());
    // The daemon may still be finishing; then clients start one by themselves.
    session.heddle(&["hook", "list"]).ok();
    eventually("a daemon of its own", || {
        session.repo.pidfile().exists().then_some(())
    });
}

#[test]
fn what_is_not_ours_stays_when_it_is_uninstalled() {
    let Some(session) = Session::new("launchd::others") else {
        return;
    };
    session.install(&["--now"]).ok();
    let other = session.socket().with_file_name("other.sock");
    fs::write(&other, "somebody else's").unwrap();
    // A daemon of its own may have taken the link's place.
    let link = session.repo.socket();
    fs::remove_file(&link).unwrap();
    fs::write(&link, "somebody else's").unwrap();
    session.heddle(&["agent", "uninstall"]).ok();
    assert!(other.exists() && link.exists());
    assert!(!session.socket().exists());
}

#[test]
fn g8_the_log_of_a_daemon_that_launchd_starts_is_bounded() {
    let Some(session) = Session::new("launchd::log") else {
        return;
    };
    session.install(&["--now"]).ok();
    let log = session.repo.path(".heddle/agent.log");
    fs::write(&log, "x".repeat(LOG_LIMIT as usize)).unwrap();
    session.serving();
    let (new, old) = (
        fs::read_to_string(&log).unwrap(),
        session.repo.path(".heddle/agent.log.1"),
    );
    assert!(new.contains("serving"), "{new}");
    assert_eq!(old.metadata().unwrap().len(), LOG_LIMIT);
}

#[test]
fn without_a_manager_that_answers_a_daemon_is_started_and_stopped_directly() {
    let Some(session) = Session::new("launchd::none") else {
        return;
    };
    session.install(&[]).ok();
    fs::remove_file(session.bin().join("launchctl")).unwrap();
    let listed = session.heddle(&["hook", "list"]);
    assert!(
        listed.stderr.contains("launchctl") && listed.stderr.contains("started without it"),
        "{listed:?}"
    );
    listed.ok();
    // It bound for itself.
    let pid = session.repo.holder().unwrap();
    assert!(session.repo.pidfile().exists());

    let stopped = session.heddle(&["agent", "stop"]);
    assert!(stopped.stdout.contains(&pid.to_string()), "{stopped:?}");
    assert_eq!(session.repo.holder(), None);
}

#[test]
fn an_installation_that_fails_leaves_nothing() {
    let Some(session) = Session::new("launchd::fails") else {
        return;
    };
    let before = session.files();
    fs::write(
        session.bin().join("launchctl"),
        "#!/bin/sh\necho 'Bootstrap failed: 125: Domain does not support specified action' >&2\nexit 125\n",
    )
    .unwrap();
    let said = session.install(&["--now"]).fails_with(1);
    assert!(said.contains("launchctl bootstrap"), "{said}");
    assert!(said.contains("125: Domain does not support"), "{said}");
    assert_eq!(session.files(), before);
    assert!(!session.repo.store_dir().join("service.toml").exists());
    assert!(session.repo.socket().symlink_metadata().is_err());
}
