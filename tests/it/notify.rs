//! What the daemon tells a service manager, read from the manager's side (sd_notify(3)).

use std::{
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    drop_in::{DropIn, fault},
    fault::{Act, Fault, kinds},
    harness::{DEADLINE, Daemon, HEDDLE, TestRepo},
    left_out::{commit, write},
    manager::user_manager,
};

/// The manager's end.
struct Ear {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Ear {
    fn new(repo: &TestRepo) -> Self {
        let path = repo.around().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, path }
    }

    fn serve(&self, mut command: Command) -> Daemon {
        Daemon::spawn({
            command.env("NOTIFY_SOCKET", &self.path);
            command
        })
    }

    /// The next message, in lines.
    fn next(&self) -> std::io::Result<Vec<String>> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes[..length]);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The messages up to the one that has a line which begins so.
    #[track_caller]
    fn until(&self, beginning: &str) -> Vec<Vec<String>> {
        let mut heard = Vec::new();
        loop {
            match self.next() {
                Ok(message) => heard.push(message),
                Err(e) => panic!("no {beginning}: {e}: {heard:#?}"),
            }
            if field(heard.last().unwrap(), beginning).is_some() {
                return heard;
            }
        }
    }

    /// What was said and not yet heard.
    fn rest(&self) -> Vec<Vec<String>> {
        self.socket.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        let end = loop {
            match self.next() {
                Ok(message) => heard.push(message),
                Err(e) => break e,
            }
        };
        assert_eq!(end.kind(), ErrorKind::WouldBlock);
        self.socket.set_nonblocking(false).unwrap();
        heard
    }
}

fn field<'a>(message: &'a [String], beginning: &str) -> Option<&'a str> {
    message.iter().find_map(|line| line.strip_prefix(beginning))
}

fn serve(repo: &TestRepo) -> Command {
    let mut command = repo.command(HEDDLE);
    command.args(["agent", "serve"]);
    command
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "never {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn readiness_reload_and_stop_are_told_with_a_status_worth_reading() {
    let repo = TestRepo::new();
    let ear = Ear::new(&repo);
    let mut daemon = ear.serve(serve(&repo));
    let ready = ear.until("READY=1").pop().unwrap();
    let status = field(&ready, "STATUS=").unwrap();
    assert!(status.contains(repo.root().to_str().unwrap()), "{status}");
    assert!(status.contains("0 calls served, idle for"), "{status}");
    repo.heddle(["hook", "list"]).ok();

    daemon.signal(Signal::SIGHUP);
    let reloading = ear.until("RELOADING=1").pop().unwrap();
    let at: u64 = field(&reloading, "MONOTONIC_USEC=")
        .unwrap()
        .parse()
        .unwrap();
    assert!(at > 0);
    let ready = ear.until("READY=1").pop().unwrap();
    let status = field(&ready, "STATUS=").unwrap();
    assert!(!status.contains(": 0 calls served"), "{status}");

    daemon.signal(Signal::SIGTERM);
    let heard = ear.until("STOPPING=1");
    assert!(daemon.wait().success());
    // No watchdog was asked for, so none is fed.
    let all = heard.into_iter().chain(ear.rest());
    assert!(
        all.into_iter()
            .all(|said| field(&said, "WATCHDOG=").is_none())
    );
}

#[test]
fn readiness_is_told_only_when_the_daemon_serves() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("notify::readiness", &repo) else {
        return;
    };
    let ear = Ear::new(&repo);
    fault.arm(Act::Hold, 1, kinds::SYNC);
    let _daemon = ear.serve(fault.serve(&repo));
    wait_until("held at start", || fault.hit().is_some());
    assert!(!repo.heddle(["agent", "status"]).status.success());
    let early = ear.rest();
    assert!(
        early.iter().all(|said| field(said, "READY=1").is_none()),
        "{early:?}"
    );
    fault.disarm();
    ear.until("READY=1");
    repo.heddle(["agent", "status"]).ok();
}

#[test]
fn a_long_recovery_asks_for_more_time_before_it_is_ready() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("notify::recovery", &repo) else {
        return;
    };
    repo.heddle(["hook", "add", "kept", "true"]).ok();
    kill(Pid::from_raw(repo.holder().unwrap()), Signal::SIGKILL).unwrap();
    wait_until("gone", || repo.holder().is_none());
    let ear = Ear::new(&repo);
    // The log of the one that crashed is recovered, and made durable before anything is read.
    fault.arm(Act::Hold, 1, kinds::SYNC);
    let _daemon = ear.serve(fault.serve(&repo));
    let heard = ear.until("EXTEND_TIMEOUT_USEC=");
    assert_eq!(heard.concat(), ["EXTEND_TIMEOUT_USEC=20000000"]);
    let held = fault.hit().unwrap().path;
    assert!(held.contains("heddle.db"), "{held}");
    fault.disarm();
    ear.until("READY=1");
    assert!(repo.heddle(["hook", "list"]).ok().contains("kept"));
}

#[test]
fn the_watchdog_is_fed_until_the_writer_sticks_and_a_drain_asks_for_more_time() {
    let repo = TestRepo::new();
    let Some(fault) = Fault::new("notify::watchdog", &repo) else {
        return;
    };
    let ear = Ear::new(&repo);
    let period = Duration::from_millis(200);
    let mut command = fault.serve(&repo);
    command.env("WATCHDOG_USEC", (period * 2).as_micros().to_string());
    let mut daemon = ear.serve(command);
    ear.until("READY=1");
    for _ in 0..3 {
        let fed = ear.until("WATCHDOG=1").pop().unwrap();
        assert!(field(&fed, "STATUS=").is_some());
    }

    fault.arm(Act::Hold, 1, kinds::SYNC);
    let mut stuck = repo
        .command(HEDDLE)
        .args(["hook", "add", "lint", "true", "--event", "pre_capture"])
        .spawn()
        .unwrap();
    wait_until("stuck", || fault.hit().is_some());
    // One may have been on its way. Silence has no event; a slow machine only shortens it.
    thread::sleep(period);
    ear.rest();
    thread::sleep(period * 6);
    let heard = ear.rest();
    assert!(
        heard.iter().all(|said| field(said, "WATCHDOG=1").is_none()),
        "{heard:?}"
    );

    daemon.signal(Signal::SIGTERM);
    ear.until("STOPPING=1");
    let more = ear.until("EXTEND_TIMEOUT_USEC=").pop().unwrap();
    let more: u64 = field(&more, "EXTEND_TIMEOUT_USEC=")
        .unwrap()
        .parse()
        .unwrap();
    assert!(more > 10_000_000, "{more}");
    fault.disarm();
    assert!(stuck.wait().unwrap().success());
    assert!(daemon.wait().success());
}

#[test]
fn a_daemon_with_a_stuck_writer_is_restarted_by_the_watchdog() {
    let test = "notify::stuck_writer";
    let Some(manager) = user_manager(test) else {
        return;
    };
    let repo = manager.repo("stuck");
    let Some((fault, environment)) = fault(&manager, test, &repo) else {
        return;
    };
    let service = "heddle-agent@stuck.service";
    let lines = format!("[Service]\nWatchdogSec=1s\n{environment}\n");
    let _lines = DropIn::new(&manager, service, &lines);
    repo.heddle(&["agent", "install", "--now"]).ok();
    repo.heddle(&["hook", "list"]).ok();
    let before = manager.property(service, "MainPID");

    fault.arm(Act::Hold, 1, kinds::SYNC);
    let mut stuck = repo
        .command("heddle")
        .args(["hook", "add", "lint", "true", "--event", "pre_capture"])
        .spawn()
        .unwrap();
    wait_until("stuck", || fault.hit().is_some());
    wait_until("ended by the watchdog", || {
        manager.property(service, "MainPID") != before
    });
    fault.disarm();
    manager.wait_for(service, "ActiveState", "active");
    assert_eq!(manager.property(service, "NRestarts"), "1");
    // Its caller was cut off and may be told so; whoever calls again is served.
    let _ = stuck.wait();
    repo.heddle(&["hook", "add", "lint", "true", "--event", "pre_capture"])
        .ok();
    let hooks = repo.heddle(&["hook", "list", "--output", "json"]).json();
    assert_eq!(hooks["hooks"].as_array().unwrap().len(), 1);
    let after = manager.property(service, "MainPID");
    assert!(after != before && after != "0");
}

#[test]
fn how_far_the_index_of_symbols_is_is_told_while_it_is_filled() {
    let repo = TestRepo::new();
    for at in 0..1_000 {
        write(
            &repo,
            &format!("m{}/f{at}.rs", at % 9),
            format!("fn f{at}() {{ f() }}\n").repeat(200),
        );
    }
    commit(&repo);
    let ear = Ear::new(&repo);
    let _daemon = ear.serve(serve(&repo));
    ear.until("READY=1");
    let status = || {
        let told = ear.until("STATUS=").pop().unwrap();
        field(&told, "STATUS=").unwrap().to_owned()
    };
    // While the files are counted, nothing is known of them.
    while !status().contains(" of 1000 files taken in") {}
}
