//! The units as a distribution installs them: started for the path of a repository that nothing was
//! installed for, and known to our commands all the same.

use std::{fs, path::Path, process::Command};

use crate::{
    harness::run,
    manager::{UserManager, user_manager_alone},
};

/// Puts the packaged units where the user's manager finds them.
fn package(manager: &UserManager) {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd/user");
    let folder = manager.home().join(".config/systemd/user");
    run(manager.command("mkdir").arg("-p").arg(&folder)).ok();
    for kind in ["service", "socket"] {
        let name = format!("heddle-agent@.{kind}");
        let text = fs::read_to_string(packaging.join(&name)).unwrap();
        let heddle = manager.heddle().display().to_string();
        fs::write(folder.join(name), text.replace("/usr/bin/heddle", &heddle)).unwrap();
    }
    manager.systemctl(&["daemon-reload"]).ok();
}

#[test]
fn packaged_units_serve_an_escaped_path_and_our_commands_know_them() {
    // systemd 252 loses a listening socket with a backslash in its path when it reloads, as other
    // tests have it do.
    let Some(manager) = user_manager_alone("service_packaged::escaped", "p") else {
        return;
    };
    package(&manager);
    let repo = manager.repo("a folder/by-päth_1.x");
    let escape = Command::new("systemd-escape")
        .arg("--path")
        .arg(repo.root())
        .output();
    let escaped = String::from_utf8(escape.unwrap().stdout).unwrap();
    let instance = escaped.trim();
    let socket = format!("heddle-agent@{instance}.socket");
    let service = format!("heddle-agent@{instance}.service");
    manager
        .systemctl(&["enable", "--now", "--quiet", &socket])
        .ok();
    let state = |unit: &str| manager.property(unit, "ActiveState");
    assert_eq!(
        (state(&socket), state(&service)),
        ("active".into(), "inactive".into())
    );
    let status = repo.heddle(&["agent", "status"]);
    assert!(
        status.stdout.contains("systemd holds its socket"),
        "{status:?}"
    );
    status.fails_with(3);

    let serving = || {
        repo.heddle(&["hook", "list"]).ok();
        repo.heddle(&["agent", "status", "--output", "json"]).json()["pid"].to_string()
    };
    let first = serving();
    assert_eq!(first, manager.property(&service, "MainPID"));
    // The daemon has made the link.
    assert!(repo.socket().is_symlink());
    repo.heddle(&["agent", "restart"]).ok();
    let second = serving();
    assert_eq!(second, manager.property(&service, "MainPID"));
    assert_ne!(first, second);

    let stopped = repo.heddle(&["agent", "stop"]);
    assert_eq!(stopped.stderr, "");
    assert!(stopped.ok().contains(&second));
    assert_eq!(
        (state(&socket), state(&service)),
        ("inactive".into(), "inactive".into())
    );
    let uninstalled = repo.heddle(&["agent", "uninstall"]).fails_with(1);
    assert!(
        uninstalled.contains("no service is installed"),
        "{uninstalled}"
    );
    // Until systemd listens again, a command starts a daemon by itself.
    serving();
    assert!(repo.root().join(".heddle/sockets/grpc.pid").exists());
    assert_eq!(state(&service), "inactive");
}
