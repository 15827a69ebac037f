//! Calls about threads and states for tests, and what must not change by them: what Git says of the
//! repository, and what lies in the worktree.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use heddle_agent::grpc_local_impl::proto::{
    local::{
        DiffStatesRequest, DiffStatesResponse, PreviewRestoreRequest, PreviewRestoreResponse,
        RestoreStateRequest, RestoreStateResponse, RestoreTarget, restore_target::Target,
        worktree_service_client::WorktreeServiceClient,
    },
    v1::{
        CaptureThreadRequest, CaptureThreadResponse, GetThreadRequest, ThreadSummary,
        thread_workflow_service_client::ThreadWorkflowServiceClient,
    },
};
use tonic::{Status, transport::Channel};

use crate::harness::{TestRepo, run};

pub type Threads = ThreadWorkflowServiceClient<Channel>;
pub type Worktrees = WorktreeServiceClient<Channel>;

/// A client of the threads.
pub fn threads(channel: &Channel) -> Threads {
    ThreadWorkflowServiceClient::new(channel.clone())
}

/// A client of the worktree.
pub fn worktrees(channel: &Channel) -> Worktrees {
    WorktreeServiceClient::new(channel.clone())
}

/// Captures the current thread.
pub async fn capture(channel: &Channel, intent: &str) -> Result<CaptureThreadResponse, Status> {
    let request = CaptureThreadRequest {
        intent: intent.into(),
        ..Default::default()
    };
    Ok(threads(channel).capture_thread(request).await?.into_inner())
}

/// Captures the current thread, which must work; answers the state in hex.
pub async fn captured(channel: &Channel, intent: &str) -> String {
    hex(&capture(channel, intent).await.unwrap().state_id)
}

/// A restore of everything.
pub fn to(target: Target) -> RestoreStateRequest {
    RestoreStateRequest {
        target: Some(RestoreTarget {
            target: Some(target),
        }),
        ..Default::default()
    }
}

/// Goes to a state.
pub fn to_state(state: &str) -> RestoreStateRequest {
    to(Target::State(state.into()))
}

/// Restores.
pub async fn restore(
    channel: &Channel,
    request: RestoreStateRequest,
) -> Result<RestoreStateResponse, Status> {
    Ok(worktrees(channel)
        .restore_state(request)
        .await?
        .into_inner())
}

/// Tells what a restore would do.
pub async fn preview(
    channel: &Channel,
    request: RestoreStateRequest,
) -> Result<PreviewRestoreResponse, Status> {
    let request = PreviewRestoreRequest {
        repo_path: request.repo_path,
        target: request.target,
        paths: request.paths,
        ..Default::default()
    };
    Ok(worktrees(channel)
        .preview_restore(request)
        .await?
        .into_inner())
}

/// Tells states apart.
pub async fn diff(
    channel: &Channel,
    request: DiffStatesRequest,
) -> Result<DiffStatesResponse, Status> {
    Ok(worktrees(channel).diff_states(request).await?.into_inner())
}

/// The current thread.
pub async fn current_thread(channel: &Channel) -> ThreadSummary {
    let answer = threads(channel)
        .get_thread(GetThreadRequest::default())
        .await;
    answer.unwrap().into_inner()
}

/// An object id as Git writes it.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What Git says of a repository and must go on saying (G9).
#[derive(Debug, PartialEq, Eq)]
pub struct GitView {
    status: String,
    head: String,
    index: Option<Vec<u8>>,
    refs: String,
    stash: String,
}

impl GitView {
    /// All but what a change of the worktree changes.
    pub fn without_status(mut self) -> Self {
        self.status.clear();
        self
    }

    /// As it is now, seen from the main worktree.
    pub fn of(repo: &TestRepo) -> Self {
        Self::at(repo, repo.root(), &repo.path(".git"))
    }

    /// As it is now, seen from the worktree at `root`.
    pub fn at(repo: &TestRepo, root: &Path, git_dir: &Path) -> Self {
        let git = |args: &[&str]| run(repo.command("git").current_dir(root).args(args)).ok();
        let refs = git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
        let refs = refs
            .lines()
            .filter(|line| !line.starts_with("refs/heddle/"));
        Self {
            // Without a lock it does not write the index to refresh it.
            status: git(&[
                "--no-optional-locks",
                "status",
                "--porcelain=v2",
                "--branch",
                "--untracked-files=all",
            ]),
            head: fs::read_to_string(git_dir.join("HEAD")).unwrap(),
            index: fs::read(git_dir.join("index")).ok(),
            refs: refs.collect::<Vec<_>>().join("\n"),
            stash: git(&["stash", "list"]),
        }
    }
}

/// Everything in a worktree but Git's and heddle's own: modes and contents by path, link targets.
pub fn content(root: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    gather(root, Path::new(""), &mut found);
    found
}

fn gather(root: &Path, below: &Path, found: &mut BTreeMap<String, (u32, Vec<u8>)>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if below.as_os_str().is_empty() && (name == ".git" || name == ".heddle") {
            continue;
        }
        let place = below.join(name);
        // Names that are not UTF-8 keep apart, and can be read.
        let path = place.as_os_str().as_encoded_bytes().utf8_chunks();
        let path: String = path
            .map(|chunk| match chunk.invalid() {
                [] => chunk.valid().to_owned(),
                invalid => format!("{}{invalid:?}", chunk.valid()),
            })
            .collect();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            gather(root, &place, found);
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap();
            found.insert(
                path,
                (0, target.to_string_lossy().into_owned().into_bytes()),
            );
        } else if kind.is_file() {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            found.insert(path, (mode, fs::read(entry.path()).unwrap()));
        }
    }
}
