//! Starts and stops that take longer than their unit gives them: the daemon asks for more time, and
//! a drain takes nobody's child away before its end.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::Child,
    sync::Arc,
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
    harness::eventually,
    manager::{Alone, UserManager, UserRepo, hierarchies, user_manager_alone},
};

/// A service whose daemon's syncs a test can hold up.
struct Slow {
    repo: UserRepo,
    service: String,
    fault: Fault,
    _lines: DropIn,
    // Dropped last: the others need it.
    manager: Alone,
}

impl Slow {
    /// Installed in a manager of its own, with `lines` added to its service; it serves.
    fn new(test: &str, tag: &str, lines: &str) -> Option<Self> {
        // systemd 252 forgets that a timeout was extended when it is told to reload.
        let manager = user_manager_alone(test, tag)?;
        let repo = manager.repo("slow");
        let (fault, environment) = fault(&manager, test, &repo)?;
        let service = "heddle-agent@slow.service".to_owned();
        let text = format!("[Service]\n{lines}\n{environment}\n");
        let lines = DropIn::new(&manager, &service, &text);
        repo.heddle(&["agent", "install", "--now"]).ok();
        repo.heddle(&["hook", "add", "kept", "true"]).ok();
        Some(Self {
            manager,
            repo,
            service,
            fault,
            _lines: lines,
        })
    }

    fn property(&self, name: &str) -> String {
        self.manager.property(&self.service, name)
    }

    /// Holds up every sync from now on; with a call in flight that waits for one.
    fn hold_a_call(&self) -> Child {
        self.fault.arm(Act::Hold, 1, kinds::SYNC);
        let call = self
            .repo
            .command("heddle")
            .args(["hook", "add", "late", "true"])
            .spawn()
            .unwrap();
        eventually("a write that waits", || self.fault.hit());
        call
    }

    /// Looks for this long, longer than the unit gives, and finds the service in the same state.
    fn stays(&self, state: &str, time: Duration) {
        let (end, pid) = (Instant::now() + time, self.property("MainPID"));
        while Instant::now() < end {
            let found = self.property("SubState");
            let status = ["status", "--no-pager", &self.service];
            let seen = (self.fault.hit(), self.manager.systemctl(&status).stdout);
            assert_eq!(found, state, "{seen:#?}");
            assert_eq!(self.property("MainPID"), pid);
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn hooks(&self) -> String {
        self.repo.heddle(&["hook", "list"]).ok()
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.fault.disarm();
    }
}

/// A process of the user's in the service's control group, as a hook's command will be.
struct Member(Child);

impl Member {
    fn start(manager: &Arc<UserManager>, service: &str) -> Self {
        let child = manager.command("sleep").arg("600").spawn().unwrap();
        let member = Self(child);
        let group = manager.property(service, "ControlGroup");
        for hierarchy in hierarchies() {
            let procs = format!("{}{group}/cgroup.procs", hierarchy.display());
            fs::write(&procs, member.0.id().to_string()).unwrap_or_else(|e| panic!("{procs}: {e}"));
        }
        member
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn g7_a_drain_may_take_long_and_kills_no_child_before_its_end() {
    let test = "service_slow::drain";
    let Some(slow) = Slow::new(test, "d", "TimeoutStopSec=2s") else {
        return;
    };
    let config = slow.repo.root().join(".git/heddle/config.toml");
    fs::write(config, "[agent]\ndrain_timeout = \"1m\"\n").unwrap();
    slow.manager.systemctl(&["restart", &slow.service]).ok();
    let mut child = Member::start(&slow.manager, &slow.service);
    let mut call = slow.hold_a_call();

    let stop = ["stop", "--no-block", &slow.service];
    slow.manager.systemctl(&stop).ok();
    slow.manager
        .wait_for(&slow.service, "SubState", "stop-sigterm");
    slow.stays("stop-sigterm", Duration::from_secs(3));
    // The signal to drain was for the daemon alone: the child has had none.
    assert_eq!(child.0.try_wait().unwrap(), None);
    assert!(call.try_wait().unwrap().is_none());

    slow.fault.disarm();
    assert!(call.wait().unwrap().success());
    slow.manager
        .wait_for(&slow.service, "ActiveState", "inactive");
    assert_eq!(slow.property("Result"), "success");
    let ended = child.0.wait().unwrap();
    assert_eq!(ended.signal(), Some(Signal::SIGKILL as i32));
    assert!(slow.hooks().contains("late"));
}

#[test]
fn a_recovery_may_take_longer_than_the_unit_gives_a_start() {
    let test = "service_slow::recovery";
    let Some(slow) = Slow::new(test, "r", "TimeoutStartSec=5s") else {
        return;
    };
    // What was written lies in the log, and the next start has to recover it.
    slow.fault.arm(Act::Hold, 1, kinds::SYNC);
    let pid = slow.property("MainPID").parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    slow.manager.wait_for(&slow.service, "SubState", "start");
    slow.stays("start", Duration::from_secs(6));

    slow.fault.disarm();
    slow.manager
        .wait_for(&slow.service, "ActiveState", "active");
    assert_eq!(slow.property("NRestarts"), "1");
    assert!(slow.hooks().contains("kept"));
}
