//! An installed service whose repository is not there: a clear failure, nothing made in its place,
//! and service as before when it is back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::manager::user_manager;

/// A folder that is elsewhere until this is dropped.
struct Away(PathBuf);

impl Away {
    fn take(folder: &Path) -> Self {
        fs::rename(folder, folder.with_extension("away")).unwrap();
        Self(folder.to_owned())
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let _ = fs::rename(self.0.with_extension("away"), &self.0);
    }
}

#[test]
fn without_its_repository_a_service_fails_clearly_and_comes_back_with_it() {
    let Some(manager) = user_manager("service_gone::repository") else {
        return;
    };
    let repo = manager.repo("gone");
    repo.heddle(&["agent", "install", "--now"]).ok();
    repo.heddle(&["hook", "add", "kept", "true"]).ok();
    let (socket, service) = ("heddle-agent@gone.socket", "heddle-agent@gone.service");
    manager.systemctl(&["stop", service]).ok();
    let away = Away::take(repo.root());

    let started = manager.systemctl(&["start", service]);
    assert!(started.stderr.contains("Assertion failed"), "{started:?}");
    started.fails_with(1);
    assert_eq!(manager.property(service, "AssertResult"), "no");
    assert_eq!(manager.property(service, "ActiveState"), "inactive");
    let status = manager.systemctl(&["status", "--no-pager", service]).stdout;
    let unmet = format!(
        "AssertPathIsDirectory={} was not met",
        repo.root().display()
    );
    assert!(status.contains(&unmet), "{status}");
    assert!(!repo.root().exists());

    // Nor does a socket that starts now, as at a login, make the folders of its link there.
    manager.systemctl(&["stop", socket]).ok();
    manager.systemctl(&["start", socket]).ok();
    assert_eq!(manager.property(socket, "ActiveState"), "inactive");
    assert!(!repo.root().exists());

    drop(away);
    assert!(repo.heddle(&["hook", "list"]).ok().contains("kept"));
    let status = repo.heddle(&["agent", "status", "--output", "json"]).json();
    let pid = manager.property(service, "MainPID");
    assert_eq!(status["pid"].to_string(), pid);
    assert_eq!(manager.property(socket, "ActiveState"), "active");
}
