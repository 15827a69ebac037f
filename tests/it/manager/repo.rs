//! Repositories of the test user.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use super::UserManager;
use crate::harness::{Ran, run};

/// A repository of the test user's; its service is uninstalled when dropped.
pub struct UserRepo {
    manager: Arc<UserManager>,
    root: PathBuf,
}

impl UserRepo {
    /// With one commit, at `root`.
    pub(super) fn new(manager: &Arc<UserManager>, root: PathBuf) -> Self {
        let repo = Self {
            manager: Arc::clone(manager),
            root,
        };
        run(manager
            .command("git")
            .args(["init", "-q", "-b", "main"])
            .arg(&repo.root))
        .ok();
        repo.run("git", &["config", "user.name", "Ada"]).ok();
        repo.run("git", &["config", "user.email", "ada@example.com"])
            .ok();
        repo.run("git", &["commit", "-q", "--allow-empty", "-m", "first"])
            .ok();
        repo
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where clients look for the socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join(".heddle/sockets/grpc.sock")
    }

    /// A command of the user's in the repository.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.manager.command(program);
        command.current_dir(&self.root);
        command
    }

    /// Runs a command of the user's in the repository.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        run(self.command(program).args(arguments))
    }

    /// Runs heddle here.
    #[track_caller]
    pub fn heddle(&self, arguments: &[&str]) -> Ran {
        self.run("heddle", arguments)
    }
}

impl Drop for UserRepo {
    fn drop(&mut self) {
        // A second panic would end the process, and leave the manager behind.
        if !self.root.exists() {
            return;
        }
        if self.root.join(".git/heddle/service.toml").exists() {
            let _ = self.heddle(&["agent", "uninstall"]);
        }
        let _ = self.heddle(&["agent", "stop", "--force"]);
        let _ = fs::remove_dir_all(&self.root);
    }
}
