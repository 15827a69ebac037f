//! The life of a daemon as the user's service manager runs it: started by name and by path, stopped,
//! restarted, reloaded, crashed, cleaned away under it, and uninstalled.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    harness::{DEADLINE, Daemon, run},
    manager::{UserManager, UserRepo, user_manager},
};

/// The units of an instance: socket and service.
fn units(instance: &str) -> (String, String) {
    let unit = |kind| format!("heddle-agent@{instance}.{kind}");
    (unit("socket"), unit("service"))
}

/// An installed repository that listens, with a name of its own.
fn installed(manager: &Arc<UserManager>, name: &str) -> (UserRepo, String, String) {
    let repo = manager.repo(name);
    repo.heddle(&["agent", "install", "--now"]).ok();
    let (socket, service) = units(name);
    (repo, socket, service)
}

/// The process that answers a call, which may start it.
#[track_caller]
fn serving(repo: &UserRepo) -> String {
    repo.heddle(&["hook", "list"]).ok();
    repo.heddle(&["agent", "status", "--output", "json"]).json()["pid"].to_string()
}

fn inode(manager: &UserManager, instance: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let socket = manager.runtime().join(format!("heddle/{instance}.sock"));
    socket.symlink_metadata().unwrap().ino()
}

fn signal(pid: &str, signal: Signal) {
    kill(Pid::from_raw(pid.parse().unwrap()), signal).unwrap();
}

/// Waits until `holds` does: for what nothing tells of.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_service_is_started_and_stopped_by_its_name() {
    let Some(manager) = user_manager("service_life::by_name") else {
        return;
    };
    let (repo, socket, service) = installed(&manager, "by-name");
    manager.systemctl(&["start", &service]).ok();
    let pid = manager.property(&service, "MainPID");
    assert_eq!(serving(&repo), pid);
    let held = inode(&manager, "by-name");

    manager.systemctl(&["stop", &service]).ok();
    assert_eq!(manager.property(&service, "Result"), "success");
    assert_eq!(manager.property(&socket, "ActiveState"), "active");
    assert_eq!(inode(&manager, "by-name"), held);
    assert_ne!(serving(&repo), pid);
}

#[test]
fn a_restart_is_another_process_behind_the_same_socket() {
    let Some(manager) = user_manager("service_life::restart") else {
        return;
    };
    let (repo, socket, service) = installed(&manager, "restarted");
    let held = inode(&manager, "restarted");
    let mut pids = vec![serving(&repo)];
    repo.heddle(&["agent", "restart"]).ok();
    pids.push(serving(&repo));
    manager.systemctl(&["restart", &service]).ok();
    pids.push(serving(&repo));
    assert_eq!(pids[2], manager.property(&service, "MainPID"));
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), 3);
    assert_eq!(manager.property(&socket, "ActiveState"), "active");
    assert_eq!(inode(&manager, "restarted"), held);
}

#[test]
fn a_reload_reads_config_toml_again_without_a_new_process() {
    let Some(manager) = user_manager("service_life::reload") else {
        return;
    };
    let (repo, _, service) = installed(&manager, "reloaded");
    let pid = serving(&repo);
    let leaves = || {
        let status = repo.heddle(&["agent", "status", "--output", "json"]).json();
        status["idle_deadline_secs"].clone()
    };
    assert!(
        leaves().is_number(),
        "on demand, so it leaves: {}",
        leaves()
    );
    let config = repo.root().join(".git/heddle/config.toml");
    fs::write(&config, "[agent]\nidle_timeout = \"never\"\n").unwrap();
    manager.systemctl(&["reload", &service]).ok();
    manager.wait_for(&service, "ActiveState", "active");
    assert!(leaves().is_null(), "{}", leaves());
    assert_eq!(manager.property(&service, "MainPID"), pid);
}

#[test]
fn a_crashed_daemon_is_started_again() {
    let Some(manager) = user_manager("service_life::crash") else {
        return;
    };
    let (repo, _, service) = installed(&manager, "crashed");
    let pid = serving(&repo);
    repo.heddle(&["hook", "add", "kept", "true"]).ok();
    signal(&pid, Signal::SIGKILL);
    // Without any call: Restart=on-failure.
    manager.wait_for(&service, "NRestarts", "1");
    manager.wait_for(&service, "ActiveState", "active");
    assert_ne!(serving(&repo), pid);
    assert!(repo.heddle(&["hook", "list"]).ok().contains("kept"));
    // And a call that does not wait for the manager.
    signal(&serving(&repo), Signal::SIGKILL);
    assert!(repo.heddle(&["hook", "list"]).ok().contains("kept"));
}

#[test]
fn a_service_that_finds_another_serving_is_not_started_again() {
    let Some(manager) = user_manager("service_life::status_4") else {
        return;
    };
    let (repo, _, service) = installed(&manager, "twice");
    let pid = serving(&repo);
    // A second service for the same repository, and its own socket.
    let drop_in = manager
        .home()
        .join(".config/systemd/user/heddle-agent@twice.service.d");
    let second = manager
        .home()
        .join(".config/systemd/user/heddle-agent@second.service.d");
    manager
        .command("cp")
        .arg("-r")
        .arg(&drop_in)
        .arg(&second)
        .status()
        .unwrap();
    manager.systemctl(&["daemon-reload"]).ok();
    let other = "heddle-agent@second.service";
    let started = manager.systemctl(&["start", other]);
    assert!(!started.status.success(), "{started:?}");
    manager.wait_for(other, "ActiveState", "failed");
    assert_eq!(manager.property(other, "ExecMainStatus"), "4");
    assert_eq!(manager.property(other, "NRestarts"), "0");
    assert_eq!(manager.property(&service, "MainPID"), pid);
    assert_eq!(serving(&repo), pid);

    manager
        .systemctl(&["stop", "heddle-agent@second.socket", other])
        .ok();
    fs::remove_dir_all(second).unwrap();
    manager.systemctl(&["daemon-reload"]).ok();
    manager.systemctl(&["reset-failed", other]);
}

#[test]
fn after_an_idle_exit_the_next_call_starts_it_again() {
    let Some(manager) = user_manager("service_life::idle") else {
        return;
    };
    let (repo, socket, service) = installed(&manager, "idle");
    let config = repo.root().join(".git/heddle/config.toml");
    fs::write(&config, "[agent]\nidle_timeout = \"1ms\"\n").unwrap();
    for _ in 0..3 {
        repo.heddle(&["hook", "list"]).ok();
        manager.wait_for(&service, "ActiveState", "inactive");
        assert_eq!(manager.property(&service, "Result"), "success");
        assert_eq!(manager.property(&socket, "ActiveState"), "active");
    }
}

#[test]
fn git_clean_under_a_service_takes_nothing_that_does_not_come_back() {
    let Some(manager) = user_manager("service_life::clean") else {
        return;
    };
    let (repo, _, _) = installed(&manager, "cleaned");
    let pid = serving(&repo);
    let cleaned = repo.run("git", &["clean", "-fdx"]);
    assert_eq!(cleaned.stderr, "");
    cleaned.ok();
    until("the link is back", || repo.socket().exists());
    assert_eq!(serving(&repo), pid);
    assert_eq!(repo.run("git", &["status", "--porcelain"]).ok(), "");

    // And with nobody there to put it back: the socket is still the service manager's.
    manager.systemctl(&["stop", &units("cleaned").1]).ok();
    repo.run("git", &["clean", "-fdx"]).ok();
    assert_ne!(serving(&repo), pid);
    assert!(repo.socket().exists());
}

#[test]
fn two_repositories_have_a_daemon_each() {
    let Some(manager) = user_manager("service_life::two") else {
        return;
    };
    let (one, _, _) = installed(&manager, "one-of-two");
    let (two, _, service) = installed(&manager, "two-of-two");
    let pid = serving(&two);
    assert_ne!(serving(&one), pid);
    one.heddle(&["hook", "add", "here", "true"]).ok();
    assert!(!two.heddle(&["hook", "list"]).ok().contains("here"));
    one.heddle(&["agent", "uninstall"]).ok();
    assert_eq!(manager.property(&service, "MainPID"), pid);
    assert_eq!(serving(&two), pid);
}

/// Processes of the user's that run a daemon below `folder`.
fn daemons_below(folder: &Path) -> usize {
    let below = folder.display().to_string();
    let commands = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let bytes = fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        });
    commands
        .filter(|line| line.contains("\0serve\0") && line.contains(&below))
        .count()
}

#[test]
fn two_hundred_idle_repositories_cost_no_process() {
    let Some(manager) = user_manager("service_life::many") else {
        return;
    };
    const MANY: usize = 200;
    let folder = manager.home().join("many");
    let first = manager.repo("many/0");
    first
        .heddle(&["agent", "install", "--name", "many-0", "--now"])
        .ok();
    // The rest as `install` leaves them, without a manager that is told two hundred times.
    let script = r#"
        set -eu
        cd "$HOME/.config/systemd/user"
        for i in $(seq 1 $1); do
            git init -q "$HOME/many/$i"
            mkdir -p "$HOME/many/$i/.git/heddle"
            sed "s/many-0/many-$i/" "$HOME/many/0/.git/heddle/service.toml" > "$HOME/many/$i/.git/heddle/service.toml"
            for kind in service socket; do
                mkdir "heddle-agent@many-$i.$kind.d"
                sed "s,/many/0,/many/$i," "heddle-agent@many-0.$kind.d/50-heddle.conf" > "heddle-agent@many-$i.$kind.d/50-heddle.conf"
            done
        done
        systemctl --user daemon-reload
        systemctl --user start $(seq -f 'heddle-agent@many-%g.socket' 1 $1)
    "#;
    let count = (MANY - 1).to_string();
    run(manager.command("sh").args(["-c", script, "sh", &count])).ok();
    let listening = manager
        .systemctl(&[
            "list-units",
            "--no-legend",
            "--plain",
            "heddle-agent@many-*.socket",
        ])
        .ok();
    let listening = listening.lines().filter(|line| line.contains("listening"));
    assert_eq!(listening.count(), MANY);
    assert_eq!(daemons_below(&folder), 0);

    let one = manager
        .command("heddle")
        .args(["hook", "list"])
        .current_dir(folder.join("123"))
        .output()
        .unwrap();
    assert!(one.status.success(), "{one:?}");
    assert_eq!(daemons_below(&folder), 1);
    assert_eq!(
        manager.property("heddle-agent@many-123.service", "ActiveState"),
        "active"
    );

    let script = r#"
        systemctl --user stop 'heddle-agent@many-*.socket' 'heddle-agent@many-*.service'
        rm -r "$HOME"/.config/systemd/user/heddle-agent@many-[1-9]*.d
    "#;
    run(manager.command("sh").args(["-c", script])).ok();
    first.heddle(&["agent", "uninstall"]).ok();
    drop(first);
    fs::remove_dir_all(folder).unwrap();
}

/// Everything below a folder that has to do with an instance.
fn traces(folder: &Path, instance: &str) -> Vec<String> {
    let found = run(Command::new("find")
        .arg(folder)
        .args(["-name", &format!("*{instance}*")]));
    found.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn uninstall_leaves_nothing() {
    let Some(manager) = user_manager("service_life::uninstall") else {
        return;
    };
    let (repo, socket, service) = installed(&manager, "uninstalled");
    let pid = serving(&repo);
    repo.heddle(&["agent", "uninstall"]).ok();
    until("the process is gone", || {
        !Path::new("/proc").join(&pid).exists()
    });
    for unit in [&socket, &service] {
        assert_eq!(manager.property(unit, "ActiveState"), "inactive");
    }
    assert_eq!(
        traces(&manager.home().join(".config"), "uninstalled"),
        [""; 0]
    );
    assert_eq!(traces(&manager.runtime(), "uninstalled"), [""; 0]);
    assert!(!repo.root().join(".git/heddle/service.toml").exists());
    assert!(repo.socket().symlink_metadata().is_err());
    repo.heddle(&["agent", "uninstall"]).fails_with(1);
    // And what clients do without a service works again.
    let direct = serving(&repo);
    assert!(repo.root().join(".heddle/sockets/grpc.pid").exists());
    assert_ne!(direct, pid);
}

#[test]
fn a_service_takes_over_from_a_direct_daemon() {
    let Some(manager) = user_manager("service_life::takeover") else {
        return;
    };
    let repo = manager.repo("taken-over");
    // Installed first, so that `install` does not see it.
    repo.heddle(&["agent", "install"]).ok();
    let (ids, mut serve) = (manager.ids(), repo.command("heddle"));
    serve.args(["agent", "serve"]).uid(ids.0).gid(ids.1);
    let mut direct = Daemon::spawn(serve);
    direct.wait_for_line("serving");
    assert_eq!(serving(&repo), direct.pid().to_string());

    // Calls go on all the while, and none fails.
    let (socket, service) = units("taken-over");
    thread::scope(|scope| {
        let calls = scope.spawn(|| {
            for _ in 0..20 {
                repo.heddle(&["hook", "list"]).ok();
            }
        });
        manager.systemctl(&["start", &socket]).ok();
        manager.systemctl(&["start", &service]).ok();
        assert!(direct.wait().success());
        calls.join().unwrap();
    });
    let pid = manager.property(&service, "MainPID");
    assert_eq!(serving(&repo), pid);
    assert!(repo.socket().is_symlink());
    assert!(!repo.root().join(".heddle/sockets/grpc.pid").exists());
}

#[test]
fn stop_goes_through_the_manager_and_nothing_comes_back_by_itself() {
    let Some(manager) = user_manager("service_life::stop") else {
        return;
    };
    let (repo, socket, service) = installed(&manager, "stopped");
    let pid = serving(&repo);
    let said = repo.heddle(&["agent", "stop"]).ok();
    assert!(said.contains(&pid), "{said}");
    repo.heddle(&["agent", "status"]).fails_with(3);
    for unit in [&socket, &service] {
        assert_eq!(manager.property(unit, "ActiveState"), "inactive");
        assert_eq!(manager.property(unit, "NRestarts").trim_matches('0'), "");
    }
    assert_eq!(manager.property(&service, "Result"), "success");
    // A command that needs it has the manager listen again.
    assert_ne!(serving(&repo), pid);
    assert_eq!(manager.property(&socket, "ActiveState"), "active");
}
