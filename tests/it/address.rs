//! The address that `heddle agent address` prints, and the short paths behind it.

use std::{
    fs::Permissions,
    os::unix::{fs::PermissionsExt, net::UnixStream},
};

use crate::harness::{Daemon, HEDDLE, TestRepo, run};

/// Where repositories may lie that are hard to name in an address.
pub fn awkward_paths() -> Vec<String> {
    let awkward = [
        "with space",
        "grün",
        "100%",
        "%20%2F",
        "q?x#y&z=1",
        "a:b@c;d,e+f",
        "[brackets] 'and' \"quotes\" \\ $HOME `x`",
        "unix:x",
    ];
    let deep = ["a folder of some length"; 6].join("/");
    awkward
        .map(str::to_owned)
        .into_iter()
        .chain([deep])
        .collect()
}

/// Some clients decode an address and some do not: one without odd bytes is the same to all.
#[test]
fn the_printed_address_is_plain_and_opens_wherever_the_repository_lies() {
    for path in awkward_paths().into_iter().chain(["repo".to_owned()]) {
        let repo = TestRepo::at(&path);
        let address = repo.address();
        let socket = address.strip_prefix("unix:").unwrap();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/@".contains(c);
        assert!(socket.chars().all(plain), "{address}");
        UnixStream::connect(socket).unwrap_or_else(|e| panic!("{address}: {e}"));
        assert_eq!(repo.address(), address);
    }
}

#[test]
fn the_printed_address_opens_again_after_the_heddle_folder_was_removed() {
    let repo = TestRepo::new();
    let address = repo.address();
    repo.heddle(["agent", "stop"]).ok();
    std::fs::remove_dir_all(repo.path(".heddle")).unwrap();
    assert_eq!(repo.address(), address);
    UnixStream::connect(address.strip_prefix("unix:").unwrap()).unwrap();
}

#[test]
fn deep_repositories_that_start_at_once_keep_their_own_sockets() {
    let runtime = tempfile::tempdir().unwrap();
    std::fs::set_permissions(runtime.path(), Permissions::from_mode(0o700)).unwrap();
    let deep = ["a folder of some length"; 6].join("/");
    let repos: Vec<TestRepo> = (0..16).map(|_| TestRepo::at(&deep)).collect();
    let heddle = |repo: &TestRepo, args: &[&str]| {
        let mut command = repo.command(HEDDLE);
        command.env("XDG_RUNTIME_DIR", runtime.path()).args(args);
        command
    };
    for _ in 0..6 {
        let start = |repo| Daemon::spawn(heddle(repo, &["agent", "serve"]));
        let mut daemons: Vec<Daemon> = repos.iter().map(start).collect();
        for (daemon, repo) in daemons.iter().zip(&repos) {
            daemon.wait_for_line("serving");
            let status = run(&mut heddle(repo, &["agent", "status", "--output", "json"])).json();
            assert_eq!(status["repository"], repo.root().to_str().unwrap());
        }
        for daemon in &mut daemons {
            assert!(daemon.stop().success());
        }
    }
}
