//! A thousand operations of every kind, from several clients, in several worktrees: Git's own view is
//! the same before and after (G9).

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use heddle_agent::grpc_local_impl::proto::{
    local::{DiffStatesRequest, RestoreStateRequest, restore_target::Target},
    v1::{CaptureThreadRequest, CompleteThreadRequest, ListThreadsRequest, StartThreadRequest},
};
use tonic::{Status, transport::Channel};

use crate::{
    harness::{TestRepo, run},
    rpc::assert_ours,
    states::{GitView, content, diff, hex, preview, restore, threads, to, to_state},
};

const CLIENTS: u64 = 4;
const OPERATIONS: u64 = 250;

/// What clients do, and how often it was done.
type Done = Arc<Mutex<BTreeMap<&'static str, u32>>>;

struct Client {
    name: u64,
    channel: Channel,
    /// Two worktrees, each with its states.
    worktrees: [(PathBuf, Vec<String>); 2],
    around: PathBuf,
    started: Vec<String>,
    chance: u64,
    done: Done,
}

impl Client {
    /// A number below `limit`: the same sequence each time.
    fn pick(&mut self, limit: usize) -> usize {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) as usize % limit
    }

    fn edit(&mut self, root: &std::path::Path, round: u64) {
        let n = self.pick(5);
        let path = root.join(format!("work/{}/{n}", self.name));
        if self.pick(4) == 0 {
            // Another client's restore may have been quicker.
            let _ = fs::remove_file(path);
        } else {
            let _ = fs::create_dir_all(path.parent().unwrap());
            let _ = fs::write(path, format!("{round} {n}\n"));
        }
    }

    async fn operate(&mut self, round: u64) -> Result<&'static str, Status> {
        let which = self.pick(2);
        let root = self.worktrees[which].0.clone();
        let repo_path = root.to_str().unwrap().to_owned();
        let at = self.pick(self.worktrees[which].1.len());
        let state = self.worktrees[which].1[at].clone();
        let here = |request: RestoreStateRequest| RestoreStateRequest {
            repo_path: repo_path.clone(),
            ..request
        };
        match self.pick(16) {
            0..=4 => {
                self.edit(&root, round);
                let request = CaptureThreadRequest {
                    repo_path,
                    ..Default::default()
                };
                let captured = threads(&self.channel).capture_thread(request).await?;
                self.worktrees[which]
                    .1
                    .push(hex(&captured.into_inner().state_id));
                Ok("capture")
            }
            5 | 6 => restore(&self.channel, here(to_state(&state)))
                .await
                .map(|_| "restore"),
            7 => {
                let mut request = here(to_state(&state));
                request.paths = vec![format!("work/{}", self.name)];
                restore(&self.channel, request)
                    .await
                    .map(|_| "partial restore")
            }
            8 | 9 => restore(&self.channel, here(to(Target::Undo(1))))
                .await
                .map(|_| "undo"),
            10 => restore(&self.channel, here(to(Target::Redo(1))))
                .await
                .map(|_| "redo"),
            11 => preview(&self.channel, here(to_state(&state)))
                .await
                .map(|_| "preview"),
            12 => {
                let asked = DiffStatesRequest {
                    repo_path,
                    from: state,
                    patch: true,
                    ..Default::default()
                };
                diff(&self.channel, asked).await.map(|_| "diff")
            }
            13 => {
                let name = format!("try/{}-{}", self.name, self.started.len());
                let path = self.around.join(name.replace('/', "-"));
                let path = (self.started.len() < 2).then(|| path.to_str().unwrap().to_owned());
                let request = StartThreadRequest {
                    name: name.clone(),
                    path: path.unwrap_or_default(),
                    ..Default::default()
                };
                threads(&self.channel).start_thread(request).await?;
                self.started.push(name);
                Ok("start")
            }
            14 if !self.started.is_empty() => {
                let at = self.pick(self.started.len());
                let name = self.started[at].clone();
                let request = CompleteThreadRequest {
                    name,
                    ..Default::default()
                };
                threads(&self.channel)
                    .complete_thread(request)
                    .await
                    .map(|_| "complete")
            }
            _ => threads(&self.channel)
                .list_threads(ListThreadsRequest::default())
                .await
                .map(|_| "list"),
        }
    }

    async fn work(mut self) {
        for round in 0..OPERATIONS {
            match self.operate(round).await {
                Ok(what) => *self.done.lock().unwrap().entry(what).or_default() += 1,
                // Clients are in each other's way; then nothing was done, and they are told why.
                Err(refused) => drop(assert_ours(&refused)),
            }
        }
    }
}

#[tokio::test]
async fn g9_a_thousand_mixed_operations_leave_git_as_it_is() {
    let repo = TestRepo::new();
    for n in 0..20 {
        fs::write(repo.path(format!("file-{n}")), format!("{n}\n")).unwrap();
    }
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-qm", "second"]);
    repo.git(&["tag", "-am", "x", "v1"]);
    fs::write(repo.path("file-0"), "stashed").unwrap();
    repo.git(&["stash", "-q"]);
    let linked = repo.around().join("linked");
    repo.git(&[
        "worktree",
        "add",
        "-q",
        "-b",
        "side",
        linked.to_str().unwrap(),
    ]);
    for root in [repo.root(), &linked] {
        fs::write(root.join("file-1"), "staged").unwrap();
        fs::remove_file(root.join("file-2")).unwrap();
        run(repo.command("git").current_dir(root).args(["add", "-A"])).ok();
        fs::write(root.join("file-1"), "staged, and changed").unwrap();
        fs::write(root.join("untracked"), "x").unwrap();
    }
    let _daemon = repo.serve();
    let places = [
        (repo.root().to_owned(), repo.path(".git")),
        (linked.clone(), repo.path(".git/worktrees/linked")),
    ];
    let views = || {
        places
            .clone()
            .map(|(root, git_dir)| (GitView::at(&repo, &root, &git_dir), content(&root)))
    };
    let before = views();
    let mut first = Vec::new();
    for (root, _) in &places {
        let request = CaptureThreadRequest {
            repo_path: root.to_str().unwrap().into(),
            ..Default::default()
        };
        let captured = threads(&repo.channel().await)
            .capture_thread(request)
            .await
            .unwrap();
        first.push((root.clone(), vec![hex(&captured.into_inner().state_id)]));
    }
    let done = Done::default();
    let mut clients = Vec::new();
    for name in 0..CLIENTS {
        let client = Client {
            name,
            channel: repo.channel().await,
            worktrees: [first[0].clone(), first[1].clone()],
            around: repo.around(),
            started: Vec::new(),
            chance: name,
            done: Arc::clone(&done),
        };
        clients.push(tokio::spawn(client.work()));
    }
    for client in clients {
        client.await.unwrap();
    }
    let done = done.lock().unwrap().clone();
    let kinds: Vec<_> = done.keys().copied().collect();
    assert_eq!(
        kinds,
        [
            "capture",
            "complete",
            "diff",
            "list",
            "partial restore",
            "preview",
            "redo",
            "restore",
            "start",
            "undo"
        ]
    );
    assert!(done.values().sum::<u32>() > 700, "{done:?}");
    for (root, states) in &first {
        let mut request = to_state(&states[0]);
        request.repo_path = root.to_str().unwrap().into();
        restore(&repo.channel().await, request).await.unwrap();
    }
    assert_eq!(views(), before);
    assert_eq!(repo.git(&["fsck", "--strict", "--no-dangling"]), "");
}
