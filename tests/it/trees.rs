//! A repository with a daemon, and Git beside it: what is captured is compared with what Git makes
//! of the same worktree, and Git's own view must not change by it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use heddle_agent::grpc_local_impl::proto::{
    local::{RestoreStateResponse, restore_target::Target},
    v1::{CaptureThreadRequest, CaptureThreadResponse},
};
use tonic::{Status, transport::Channel};

use crate::{
    capture_tree::gits_tree_at,
    harness::{Daemon, HEDDLE, TestRepo, run},
    states::{GitView, hex, restore, threads, to, to_state},
};

/// A repository that is served.
pub struct Served {
    pub repo: TestRepo,
    pub channel: Channel,
    /// The worktree that is looked at.
    pub root: PathBuf,
    pub git_dir: PathBuf,
    pub daemon: Daemon,
}

impl Served {
    /// Serves a repository.
    pub async fn new(repo: TestRepo) -> Self {
        let daemon = repo.serve();
        Self::by(repo, daemon).await
    }

    /// Serves a repository by a daemon with a service manager's umask, in a folder that says nothing.
    pub async fn as_a_service(repo: TestRepo) -> Self {
        let mut command = repo.command("sh");
        command.current_dir("/").arg("-c");
        command.arg("umask 0077; exec \"$0\" agent serve --repo \"$1\"");
        command.arg(HEDDLE).arg(repo.root());
        let daemon = Daemon::spawn(command);
        daemon.wait_for_line("serving");
        Self::by(repo, daemon).await
    }

    /// A repository that a daemon serves already.
    pub async fn by(repo: TestRepo, daemon: Daemon) -> Self {
        Self {
            channel: repo.channel().await,
            root: repo.root().to_owned(),
            git_dir: repo.path(".git"),
            daemon,
            repo,
        }
    }

    /// A command in the worktree.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.repo.command(program);
        command.current_dir(&self.root);
        command
    }

    /// Runs Git in the worktree; answers its standard output.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        run(self.command("git").args(args)).ok()
    }

    /// A path in the worktree.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Writes a file, and the folders that it needs.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Git's view of the worktree.
    pub fn view(&self) -> GitView {
        GitView::at(&self.repo, &self.root, &self.git_dir)
    }

    /// Git's own tree of what lies in the worktree now.
    pub fn gits_tree(&self) -> String {
        gits_tree_at(&self.repo, &self.root, &self.git_dir)
    }

    /// A state's tree.
    pub fn tree_of(&self, state: &str) -> String {
        let tree = self.git(&["rev-parse", &format!("{state}^{{tree}}")]);
        tree.trim().to_owned()
    }

    /// Captures the worktree.
    pub async fn capture(&self) -> Result<CaptureThreadResponse, Status> {
        let request = CaptureThreadRequest {
            repo_path: self.root.to_str().unwrap().into(),
            ..Default::default()
        };
        let answer = threads(&self.channel).capture_thread(request).await?;
        Ok(answer.into_inner())
    }

    /// Captures the worktree; its tree must be Git's own, and Git's view must stay. Answers the state.
    pub async fn same(&self, what: &str) -> String {
        let view = self.view();
        let captured = self.capture().await;
        let captured = captured.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(self.view(), view, "{what}");
        let state = hex(&captured.state_id);
        self.assert_gits(what, &state);
        state
    }

    /// The worktree is what the state holds, says Git.
    pub fn assert_gits(&self, what: &str, state: &str) {
        let (ours, gits) = (self.tree_of(state), self.gits_tree());
        if ours != gits {
            let diff = self.git(&["diff", "--raw", &gits, &ours]);
            panic!("{what}: Git's tree is {gits}, ours {ours}:\n{diff}");
        }
    }

    /// Restores.
    pub async fn restore(&self, target: Target) -> Result<RestoreStateResponse, Status> {
        let mut request = to(target);
        request.repo_path = self.root.to_str().unwrap().into();
        restore(&self.channel, request).await
    }

    /// Goes to a state, which must work; the worktree is then what it holds, says Git.
    pub async fn goes_to(&self, what: &str, state: &str) -> RestoreStateResponse {
        let request = to_state(state);
        let target = request.target.unwrap().target.unwrap();
        let done = self.restore(target).await;
        let done = done.unwrap_or_else(|e| panic!("{what}: {e}"));
        self.assert_gits(what, state);
        done
    }

    /// Nothing is wrong with Git's objects and refs.
    pub fn assert_sound(&self) {
        let checked = run(self
            .command("git")
            .args(["fsck", "--strict", "--no-dangling"]));
        assert!(checked.status.success(), "{checked:#?}");
        assert_eq!(checked.stdout, "", "{checked:#?}");
        assert_eq!(checked.stderr, "", "{checked:#?}");
    }
}
