//! Transactions where something comes between: a full disk, Git's garbage collection, the user.

use std::{fs, path::Path};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        BeginTransactionRequest, CaptureThreadRequest, CaptureThreadResponse,
        CommitTransactionRequest, CommitTransactionResponse, GetTransactionStatusRequest,
        transaction_service_client::TransactionServiceClient,
    },
};
use tonic::{Code, Request, Status, transport::Channel};
use uuid::Uuid;

use crate::{
    fault::{ImageDisk, MemoryDisk, fill, free, register, stored},
    harness::TestRepo,
    rpc::{assert_refused, hook, hook_names, hooks},
    states::{hex, threads},
};

/// A transaction that is open.
struct Txn {
    client: TransactionServiceClient<Channel>,
    channel: Channel,
    id: String,
}

impl Txn {
    async fn begin(channel: &Channel) -> Self {
        let mut client = TransactionServiceClient::new(channel.clone());
        let begun = client.begin_transaction(BeginTransactionRequest::default());
        let id = begun.await.unwrap().into_inner().transaction_id;
        let channel = channel.clone();
        Self {
            client,
            channel,
            id,
        }
    }

    fn within<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let id = self.id.parse().unwrap();
        request.metadata_mut().insert("heddle-transaction-id", id);
        request
    }

    async fn capture(&self) -> Result<CaptureThreadResponse, Status> {
        let request = self.within(CaptureThreadRequest::default());
        let captured = threads(&self.channel).capture_thread(request).await?;
        Ok(captured.into_inner())
    }

    async fn register(&self, name: &str) {
        let request = self.within(hook(name));
        hooks(&self.channel).register_hook(request).await.unwrap();
    }

    async fn commit(&mut self, key: Uuid) -> Result<CommitTransactionResponse, Status> {
        let mut request = Request::new(CommitTransactionRequest {
            transaction_id: self.id.clone(),
            client_operation_id: key.to_string(),
            ..Default::default()
        });
        let agent = key.to_string().parse().unwrap();
        request.metadata_mut().insert("heddle-agent", agent);
        Ok(self.client.commit_transaction(request).await?.into_inner())
    }

    async fn status(&mut self) -> (String, u32) {
        let request = GetTransactionStatusRequest {
            transaction_id: self.id.clone(),
            ..Default::default()
        };
        let answer = self.client.get_transaction_status(request).await.unwrap();
        let answer = answer.into_inner();
        (answer.state, answer.buffered_ops)
    }
}

/// Commits a transaction in a repository on a small disk at `disk`, when that is full.
async fn commit_on_a_full_disk(disk: &Path) {
    let repo = TestRepo::empty_in(disk, "repo");
    fs::write(repo.path("file"), "one").unwrap();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut txn = Txn::begin(&channel).await;
    fs::write(repo.path("file"), "two").unwrap();
    let captured = txn.capture().await.unwrap();
    txn.register("of the transaction").await;
    let refs = repo.git(&["for-each-ref", "refs/heddle"]);
    fill(disk);
    let mut written = 0;
    while register(&channel, Uuid::new_v4(), "before").await.is_ok() {
        written += 1;
        assert!(written < 100_000, "the disk is not full");
    }
    let (before, key) = (hook_names(&channel).await, Uuid::new_v4());
    for _ in 0..3 {
        let failed = txn.commit(key).await.unwrap_err();
        assert_refused(&failed, Code::ResourceExhausted, Reason::StoreFull);
        assert!(failed.message().contains("free some space"), "{failed:?}");
        assert!(
            !failed.message().contains("no longer applies"),
            "{failed:?}"
        );
    }
    let said = repo.heddle(["txn", "commit", &txn.id]).fails_with(1);
    assert!(
        said.contains("full") && said.contains("STORE_FULL"),
        "{said}"
    );
    assert_eq!(txn.status().await, ("active".to_owned(), 2));
    assert_eq!(hook_names(&channel).await, before);
    assert_eq!(repo.git(&["for-each-ref", "refs/heddle"]), refs);
    assert_eq!(stored(&repo.store_dir()).effects(key), 0);

    free(disk);
    let done = txn.commit(key).await.unwrap();
    assert_eq!((&done.state_id, done.op_count), (&captured.state_id, 2));
    assert_eq!(txn.commit(key).await.unwrap(), done);
    assert_eq!(stored(&repo.store_dir()).effects(key), 1);
    let tip = repo.git(&["rev-parse", "refs/heddle/threads/main"]);
    assert_eq!(tip.trim(), hex(&captured.state_id));
    let names = hook_names(&channel).await;
    assert!(
        names.contains(&"of the transaction".to_owned()),
        "{names:?}"
    );
    assert_eq!(txn.status().await, ("committed".to_owned(), 2));
}

#[tokio::test]
async fn g10_a_commit_on_a_full_disk_says_so_and_is_made_once_there_is_room() {
    if let Some(disk) = MemoryDisk::new("g10_a_commit_on_a_full_disk", "4m") {
        commit_on_a_full_disk(disk.path()).await;
    }
}

#[tokio::test]
async fn g10_a_commit_on_a_full_ext4_says_so_and_is_made_once_there_is_room() {
    if let Some(disk) = ImageDisk::new("g10_a_commit_on_a_full_ext4") {
        commit_on_a_full_disk(disk.path()).await;
    }
}
