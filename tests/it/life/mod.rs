//! The life of the process: one daemon per repository (G1), alive means reachable (G2), it removes
//! only what it made (G6), no call is dropped by a stop (G7); idle exit, reload, auto-start, upgrade.

mod auto_start;
mod cut_off;
mod idle;
mod one_daemon;
mod own_files;
mod reachable;
mod stopping;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use heddle_agent::grpc_local_impl::proto::{
    local::{GetStatusRequest, GetStatusResponse, daemon_service_client::DaemonServiceClient},
    v1::{
        self, hook_service_client::HookServiceClient,
        operation_log_query_service_client::OperationLogQueryServiceClient,
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tonic::transport::Channel;

use crate::harness::{DEADLINE, Daemon, HEDDLE, Ran, TestRepo, channel_through, run};

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    output
}

fn hook(name: &str) -> v1::RegisterHookRequest {
    v1::RegisterHookRequest {
        name: name.to_owned(),
        command: "true".to_owned(),
        events: vec!["pre_capture".to_owned()],
        ..v1::RegisterHookRequest::default()
    }
}

fn hook_names(repo: &TestRepo) -> Vec<String> {
    let hooks = repo.heddle(["hook", "list", "--output", "json"]).json();
    let hooks = hooks["hooks"].as_array().unwrap();
    hooks
        .iter()
        .map(|hook| hook["name"].as_str().unwrap().to_owned())
        .collect()
}

/// What `agent status` tells of a daemon that serves.
#[track_caller]
fn status(repo: &TestRepo) -> serde_json::Value {
    let status: Ran = repo.heddle(["agent", "status", "--output", "json"]);
    let status = status.json();
    assert_eq!(status["state"], "serving");
    status
}

fn configure(repo: &TestRepo, agent: &str) {
    let text = format!("[agent]\n{agent}\n");
    fs::write(repo.store_dir().join("config.toml"), text).unwrap();
}

async fn look(channel: &Channel) -> GetStatusResponse {
    DaemonServiceClient::new(channel.clone())
        .get_status(GetStatusRequest::default())
        .await
        .unwrap()
        .into_inner()
}

/// Looks at the daemon until it is as wanted: of connections and streams, no event tells.
async fn until(channel: &Channel, wanted: impl Fn(&GetStatusResponse) -> bool) {
    let found = async {
        while !wanted(&look(channel).await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, found).await.unwrap();
}

/// The operations from now on.
async fn operations(channel: Channel) -> tonic::Streaming<v1::OperationHit> {
    let now = look(&channel).await.store.unwrap().operations;
    operations_after(channel, now).await
}

async fn operations_after(channel: Channel, after_seq: u64) -> tonic::Streaming<v1::OperationHit> {
    let request = v1::StreamOperationsRequest {
        after_seq,
        ..v1::StreamOperationsRequest::default()
    };
    OperationLogQueryServiceClient::new(channel)
        .stream_operations(request)
        .await
        .unwrap()
        .into_inner()
}

/// A process of ours that nothing under test may touch.
struct Bystander(Child);

impl Bystander {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn assert_alive(&mut self) {
        assert!(
            self.0.try_wait().unwrap().is_none(),
            "somebody ended the bystander"
        );
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// A stream with more to deliver than its client takes.
async fn stuck_stream(repo: &TestRepo) -> (Channel, tonic::Streaming<v1::OperationHit>) {
    let channel = repo.channel().await;
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..250 {
        let mut hooks = HookServiceClient::new(channel.clone());
        let name = format!("{n}-{}", "x".repeat(100));
        writes.spawn(async move { hooks.register_hook(hook(&name)).await });
    }
    for written in writes.join_all().await {
        written.unwrap();
    }
    let narrow = channel_through(repo.socket(), |endpoint| {
        endpoint.initial_stream_window_size(256)
    });
    let narrow = narrow.await.unwrap();
    let mut stream = operations_after(narrow.clone(), 0).await;
    // Once it has begun, the rest waits for room that the client does not give.
    stream.message().await.unwrap().unwrap();
    (narrow, stream)
}

/// A copy of the binary, made by another process: a descriptor open for writing here could be
/// inherited by a child of another test, and the copy then not be run (ETXTBSY).
fn copy_binary(repo: &TestRepo, name: &str) -> PathBuf {
    let copy = repo.around().join(name);
    run(repo.command("cp").arg(HEDDLE).arg(&copy)).ok();
    copy
}

fn serve_by(repo: &TestRepo, binary: &Path) -> Daemon {
    let mut command = repo.command(binary);
    command.args(["agent", "serve"]);
    let daemon = Daemon::spawn(command);
    daemon.wait_for_line("serving");
    daemon
}
