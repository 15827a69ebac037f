//! The write-ahead log beside the database.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use heddle_agent::grpc_local_impl::proto::{
    local::{GetStatusRequest, StoreStatistics, daemon_service_client::DaemonServiceClient},
    v1::{RegisterHookRequest, hook_service_client::HookServiceClient},
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::harness::TestRepo;

/// Commits that are made; each adds at least four pages of 4 KiB to the log.
const COMMITS: u64 = 2_000;

async fn store(channel: &Channel) -> StoreStatistics {
    let status = DaemonServiceClient::new(channel.clone())
        .get_status(GetStatusRequest::default())
        .await
        .unwrap();
    status.into_inner().store.unwrap()
}

#[tokio::test]
async fn g8_the_log_is_begun_anew_under_writes_that_never_pause() {
    let repo = TestRepo::new();
    let daemon = repo.serve();
    let channel = repo.channel().await;
    let commits = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..3 {
        let (channel, commits) = (channel.clone(), Arc::clone(&commits));
        writers.spawn(async move {
            while commits.load(Ordering::Relaxed) < COMMITS {
                for _ in 0..20 {
                    let request = RegisterHookRequest {
                        name: format!("hook-{writer}"),
                        command: "true".into(),
                        client_operation_id: uuid::Uuid::new_v4().to_string(),
                        ..Default::default()
                    };
                    HookServiceClient::new(channel.clone())
                        .register_hook(request)
                        .await
                        .unwrap();
                }
                commits.store(store(&channel).await.commits, Ordering::Relaxed);
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let written = COMMITS * 4 * 4096;
    let kept = store(&channel).await.wal_bytes;
    assert!(
        kept < written * 3 / 4,
        "{kept} bytes of {written} in the log"
    );
    let warned = daemon.log().into_iter().find(|line| line.contains("WARN"));
    assert_eq!(warned, None);
}
