//! The daemon as a user service, by the real `systemctl --user`.

use crate::manager::user_manager;

#[test]
fn an_installed_socket_costs_no_process_and_the_first_call_starts_the_daemon() {
    let Some(manager) = user_manager("service::first_call") else {
        return;
    };
    let repo = manager.repo("first-call");
    repo.heddle(&["agent", "install", "--now"]).ok();
    let (socket, service) = (
        "heddle-agent@first-call.socket",
        "heddle-agent@first-call.service",
    );
    assert_eq!(manager.property(socket, "ActiveState"), "active");
    assert_eq!(manager.property(service, "ActiveState"), "inactive");
    repo.heddle(&["agent", "status"]).fails_with(3);
    assert_eq!(manager.property(service, "ActiveState"), "inactive");

    repo.heddle(&["hook", "list"]).ok();
    assert_eq!(manager.property(service, "ActiveState"), "active");
    let status = repo.heddle(&["agent", "status", "--output", "json"]).json();
    assert_eq!(
        status["pid"].to_string(),
        manager.property(service, "MainPID")
    );
    assert!(!repo.root().join(".heddle/sockets/grpc.pid").exists());

    repo.heddle(&["agent", "uninstall"]).ok();
    manager.wait_for(socket, "LoadState", "not-found");
    assert!(!repo.socket().is_symlink());
}
