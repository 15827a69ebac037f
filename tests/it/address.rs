//! The short paths behind the address that `heddle agent address` prints.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use crate::harness::{Daemon, HEDDLE, TestRepo, run};

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
