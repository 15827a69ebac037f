//! The units and the property list as they are shipped and as they are installed.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    harness::{HEDDLE, Ran, TestRepo, run, skip},
    manager::user_manager,
};

const SERVICE: &str = include_str!("../../packaging/systemd/user/heddle-agent@.service");
const SOCKET: &str = include_str!("../../packaging/systemd/user/heddle-agent@.socket");

/// Paths that mean something to systemd, to XML or to a shell.
const ODD: &str = "a b %h $HOME \"q\" 'p' & <ü>";

/// What `install --print` prints: path and text of each file.
fn printed(repo: &TestRepo, manager: &str) -> Vec<(String, String)> {
    let out = repo
        .heddle(["agent", "install", "--print", manager, "--output", "json"])
        .ok();
    let values = serde_json::Deserializer::from_str(&out).into_iter::<Value>();
    values
        .map(|value| {
            let value = value.unwrap();
            let text = |name: &str| value[name].as_str().unwrap().to_owned();
            (text("path"), text("text"))
        })
        .collect()
}

/// Everything below a folder.
fn tree(folder: &Path) -> Vec<String> {
    let listed = run(std::process::Command::new("find").arg(folder)).ok();
    let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[track_caller]
fn silent(ran: &Ran) {
    assert!(ran.status.success(), "{ran:#?}");
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
}

#[test]
fn the_packaged_units_are_what_systemd_takes_without_a_word() {
    let repo = TestRepo::new();
    let folder = repo.around().join("units");
    fs::create_dir(&folder).unwrap();
    let mut verify = repo.command("systemd-analyze");
    verify.args(["--user", "verify", "--man=no"]);
    for (kind, text) in [("service", SERVICE), ("socket", SOCKET)] {
        let path = folder.join(format!("heddle-agent@.{kind}"));
        fs::write(&path, text.replace("/usr/bin/heddle", HEDDLE)).unwrap();
        verify.arg(path);
    }
    match verify.output() {
        Err(why) => skip("packaging::verify", &format!("systemd-analyze: {why}")),
        Ok(_) => silent(&run(&mut verify)),
    }
}

#[test]
fn the_packaged_units_say_what_keeps_the_promises() {
    let lines = |text: &'static str| -> Vec<&str> { text.lines().collect() };
    for line in [
        "Requires=heddle-agent@%i.socket",
        "Type=notify",
        "WatchdogSec=30s",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "KillMode=mixed",
        "OOMPolicy=continue",
        "Restart=on-failure",
        "RestartPreventExitStatus=1 2 4 5",
        "StartLimitIntervalSec=2s",
        "StartLimitBurst=1000",
        "UMask=0077",
        "LimitCORE=0",
    ] {
        assert!(lines(SERVICE).contains(&line), "{line}");
    }
    for line in [
        "ListenStream=%t/heddle/%i.sock",
        "SocketMode=0600",
        "DirectoryMode=0700",
        "RemoveOnStop=yes",
        "Accept=no",
        "TriggerLimitIntervalSec=2s",
        "TriggerLimitBurst=1000",
    ] {
        assert!(lines(SOCKET).contains(&line), "{line}");
    }
}

#[test]
fn printing_changes_nothing_on_disk() {
    let repo = TestRepo::new();
    let before = tree(&repo.around());
    for manager in ["systemd", "launchd"] {
        let text = repo.heddle(["agent", "install", "--print", manager]).ok();
        assert!(text.contains(repo.root().to_str().unwrap()), "{text}");
    }
    assert_eq!(tree(&repo.around()), before);
}

#[test]
fn the_property_list_is_one_for_any_path() {
    let repo = TestRepo::at(ODD);
    let list = &printed(&repo, "launchd")[0];
    assert!(list.0.ends_with(".plist"), "{}", list.0);
    let path = repo.around().join("agent.plist");
    fs::write(&path, &list.1).unwrap();
    let script = "import json, plistlib, sys\n\
        print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
    let mut python = repo.command("python3");
    python.args(["-c", script]).arg(&path);
    if let Err(why) = python.output() {
        return skip("packaging::property_list", &format!("python3: {why}"));
    }
    let read = run(&mut python).json();
    let arguments: Vec<&str> = read["ProgramArguments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_str().unwrap())
        .collect();
    let root = repo.root().to_str().unwrap();
    assert_eq!(arguments[1..5], ["agent", "serve", "--repo", root]);
    assert!(Path::new(arguments[0]).is_absolute());
    let listener = &read["Sockets"]["Listeners"];
    assert_eq!(listener["SockPathMode"], 384);
    let socket = listener["SockPathName"].as_str().unwrap();
    assert!(Path::new(socket).is_absolute() && socket.ends_with(".sock"));
    assert_eq!(read["ThrottleInterval"], 1);
    assert_eq!(read["ProcessType"], "Adaptive");
    // Time for a drain before launchd kills, as systemd's unit gives it; and a log with a bound.
    assert!(SERVICE.contains("\nTimeoutStopSec=30s\n") && read["ExitTimeOut"] == 30);
    assert_eq!(arguments[5..], ["--log", "file"]);
    assert!(read["StandardErrorPath"].is_null());
    let label = read["Label"].as_str().unwrap();
    assert!(list.0.ends_with(&format!("/{label}.plist")), "{label}");
}

#[test]
fn a_service_starts_for_any_path_and_its_units_are_silent() {
    let Some(manager) = user_manager("packaging::any_path") else {
        return;
    };
    let repo = manager.repo(ODD);
    let done = repo.heddle(&["agent", "install", "--now", "--name", "odd"]);
    done.ok();
    let hooks = ["hook", "add", "lint", "true", "--event", "pre_capture"];
    repo.heddle(&hooks).ok();
    let service = "heddle-agent@odd.service";
    assert_eq!(manager.property(service, "ActiveState"), "active");
    let status = repo.heddle(&["agent", "status", "--output", "json"]).json();
    assert_eq!(status["repository"], repo.root().to_str().unwrap());
    assert_eq!(
        status["pid"].to_string(),
        manager.property(service, "MainPID")
    );
    assert!(repo.socket().is_symlink());
    let verify = ["--user", "verify", "--man=no", service];
    silent(&repo.run("systemd-analyze", &verify));
}
