//! `heddle agent install` and `uninstall`: what they say, what they refuse, what they leave.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    harness::{HEDDLE, Ran, TestRepo, run},
    manager::user_manager,
};

/// Our files among the user's units.
fn units(home: &Path) -> Vec<String> {
    let folder = home.join(".config/systemd/user");
    let found = run(std::process::Command::new("find")
        .arg(&folder)
        .args(["-not", "-type", "d", "-name", "*heddle*"]));
    let mut lines: Vec<String> = found.stdout.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn without_a_user_manager_nothing_is_left_behind() {
    let repo = TestRepo::new();
    for environment in [Some(repo.around().join("run")), None] {
        let mut install = repo.command(HEDDLE);
        install.args(["agent", "install", "--now"]);
        match &environment {
            Some(folder) => install.env("XDG_RUNTIME_DIR", folder),
            None => install.env_remove("XDG_RUNTIME_DIR"),
        };
        let said = run(&mut install).fails_with(1);
        let cause = match environment {
            Some(_) => "systemctl --user",
            None => "XDG_RUNTIME_DIR is not set",
        };
        assert!(said.contains(cause), "{said}");
        assert_eq!(units(&repo.around().join("home")), [""; 0]);
        assert!(!repo.store_dir().join("service.toml").exists());
        // As before: a client starts a daemon by itself.
        repo.heddle(["hook", "list"]).ok();
    }
}

#[test]
fn where_the_manager_does_not_answer_a_daemon_is_started_and_stopped_without_it() {
    let repo = TestRepo::new();
    repo.heddle(["init"]).ok();
    // As `install` leaves it, at a time when there was a manager.
    let record = format!(
        "manager = \"systemd\"\ninstance = \"repo\"\nheddle = \"{HEDDLE}\"\nrepository = \"{}\"\n",
        repo.root().display()
    );
    fs::write(repo.store_dir().join("service.toml"), record).unwrap();
    let told = |ran: &Ran, what: &str| {
        let said = &ran.stderr;
        assert!(said.contains("`systemctl --user"), "{ran:?}");
        assert!(said.contains(what), "{ran:?}");
    };
    let listed = repo.heddle(["hook", "list"]);
    told(&listed, "a daemon is started without it");
    listed.ok();
    let pid = repo.holder().unwrap();
    assert!(repo.pidfile().exists());

    let stopped = repo.heddle(["agent", "stop"]);
    told(&stopped, "the daemon is stopped without systemd");
    assert!(stopped.ok().contains(&pid.to_string()));
    assert_eq!(repo.holder(), None);
}

#[test]
fn a_name_that_cannot_be_one_is_refused_with_a_reason() {
    let repo = TestRepo::new();
    let long = "n".repeat(100);
    for (name, why) in [
        ("a b", "letters, digits"),
        ("a/b", "letters, digits"),
        ("", "letters, digits"),
        (long.as_str(), "107"),
    ] {
        let said = repo
            .heddle(["agent", "install", "--name", name])
            .fails_with(1);
        assert!(said.contains(why) && said.contains("--name"), "{said}");
        assert_eq!(units(&repo.around().join("home")), [""; 0]);
    }
}

#[test]
fn each_thing_done_is_said_and_said_once() {
    let Some(manager) = user_manager("install::said") else {
        return;
    };
    let repo = manager.repo("said");
    let socket = "heddle-agent@said.socket";
    let done = repo.heddle(&["agent", "install"]).ok();
    for what in [
        "heddle-agent@said.service.d/50-heddle.conf",
        "heddle-agent@said.socket.d/50-heddle.conf",
        "reloaded the user manager",
        "enabled heddle-agent@said.socket",
        "no lingering",
        "loginctl enable-linger",
    ] {
        assert!(done.contains(what), "{what}: {done}");
    }
    assert_eq!(manager.property(socket, "ActiveState"), "inactive");
    assert_eq!(manager.property(socket, "UnitFileState"), "enabled");

    let again = repo
        .heddle(&["agent", "install", "--now", "--output", "json"])
        .json();
    assert_eq!(again["instance"], "said");
    let said = |value: &Value, what: &str| {
        let lines = value["done"].as_array().unwrap();
        lines
            .iter()
            .any(|line| line.as_str().unwrap().contains(what))
    };
    assert!(!said(&again, "wrote") && said(&again, "started"), "{again}");
    assert_eq!(manager.property(socket, "ActiveState"), "active");
    let other = repo.heddle(&["agent", "install", "--name", "other"]);
    assert!(other.fails_with(1).contains("agent uninstall"));

    repo.heddle(&["hook", "list"]).ok();
    let undone = repo
        .heddle(&["agent", "uninstall", "--output", "json"])
        .json();
    assert!(said(&undone, "stopped and disabled") && said(&undone, "removed"));
    let ours = |path: &String| path.contains("@said.");
    assert!(!units(&manager.home()).iter().any(ours));
    assert!(!manager.runtime().join("heddle/said.sock").exists());
    let again = repo.heddle(&["agent", "uninstall"]).fails_with(1);
    assert!(again.contains("no service is installed"), "{again}");
}

#[test]
fn two_repositories_of_one_name_are_kept_apart() {
    let Some(manager) = user_manager("install::two") else {
        return;
    };
    let (one, two) = (manager.repo("left/twin"), manager.repo("right/twin"));
    one.heddle(&["agent", "install", "--now"]).ok();
    let said = two.heddle(&["agent", "install", "--now"]).fails_with(1);
    assert!(said.contains(one.root().to_str().unwrap()), "{said}");
    let proposal = said
        .split_once("--name ")
        .map(|(_, name)| name.trim().trim_end_matches('.'))
        .unwrap();
    two.heddle(&["agent", "install", "--now", "--name", proposal])
        .ok();
    for (repo, hook) in [(&one, "of-one"), (&two, "of-two")] {
        repo.heddle(&["hook", "add", hook, "true", "--event", "pre_capture"])
            .ok();
        let hooks = repo.heddle(&["hook", "list", "--output", "json"]).json();
        assert_eq!(hooks["hooks"].as_array().unwrap().len(), 1);
        assert_eq!(hooks["hooks"][0]["name"], hook);
    }
    // The templates stay while the other needs them.
    one.heddle(&["agent", "uninstall"]).ok();
    two.heddle(&["agent", "restart"]).ok();
    two.heddle(&["hook", "list"]).ok();
}

#[test]
fn a_unit_that_somebody_else_wrote_is_left_alone() {
    let Some(manager) = user_manager("install::foreign") else {
        return;
    };
    let repo = manager.repo("theirs");
    let folder = manager
        .home()
        .join(".config/systemd/user/heddle-agent@theirs.service.d");
    repo.run("mkdir", &["-p", folder.to_str().unwrap()]).ok();
    let theirs = folder.join("50-heddle.conf");
    fs::write(&theirs, "[Service]\nNice=5\n").unwrap();
    let said = repo.heddle(&["agent", "install", "--now"]).fails_with(1);
    assert!(said.contains(theirs.to_str().unwrap()), "{said}");
    assert!(said.contains("was not written by heddle"), "{said}");
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "[Service]\nNice=5\n");
    assert!(
        !folder
            .with_file_name("heddle-agent@theirs.socket.d")
            .exists()
    );
    fs::remove_dir_all(folder).unwrap();
}
