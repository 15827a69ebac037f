//! What a new user does first.

use crate::harness::TestRepo;

#[test]
fn a_first_command_starts_the_daemon_and_leaves_git_as_it_was() {
    let repo = TestRepo::new();
    let before = repo.git(&["status", "--porcelain=v2", "--branch"]);

    assert_eq!(repo.heddle(["agent", "status"]).status.code(), Some(3));
    repo.heddle(["hook", "add", "lint", "true", "--event", "pre_capture"])
        .ok();

    let hooks = repo.heddle(["hook", "list", "--output", "json"]).json();
    assert_eq!(hooks["hooks"][0]["name"], "lint");
    assert_eq!(hooks["hooks"][0]["events"][0], "pre_capture");
    let log = repo.heddle(["log", "--output", "json"]).json();
    assert_eq!(log["verb"], "hook_register");
    assert_eq!(log["actor_email"], "ada@example.com");

    let status = repo.heddle(["agent", "status", "--output", "json"]).json();
    assert_eq!(status["state"], "serving");
    assert_eq!(status["repository"], repo.root().to_str().unwrap());
    repo.heddle(["agent", "stop"]).ok();
    assert_eq!(repo.heddle(["agent", "status"]).status.code(), Some(3));
    assert!(!repo.socket().exists() && !repo.pidfile().exists());
    assert_eq!(repo.git(&["status", "--porcelain=v2", "--branch"]), before);
}
