//! What clients ask for, and what they are given.

use heddle_agent::grpc_local_impl::proto::v1::{
    AbortTransactionRequest, BeginTransactionRequest, CaptureThreadRequest,
    CommitTransactionRequest, CompleteThreadRequest, DeregisterHookRequest, RegisterHookRequest,
    StartThreadRequest, transaction_service_client::TransactionServiceClient,
};
use tonic::{Status, transport::Channel};
use uuid::Uuid;

use crate::{
    rpc::{hook, hooks},
    scenes::marked,
    states::{hex, threads},
};

#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    Begin,
    Capture,
    Register(String),
    Deregister(String),
    Start(String),
    Complete(String),
    Commit,
    Abort { rewind: bool },
}

/// An answer, with what is checked of it.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// A transaction that began.
    pub transaction: String,
    /// The state that it led to.
    pub state: String,
    /// The state before.
    pub parent: String,
    /// Whether there was nothing to capture, or to remove.
    pub unchanged: bool,
    /// Calls that were applied.
    pub calls: u32,
}

/// Makes a call in the worktree `repo_path`: about `transaction`, or within it.
pub async fn send(
    channel: &Channel,
    repo_path: &str,
    transaction: Option<&str>,
    ask: &Ask,
    key: Uuid,
) -> Result<Given, Status> {
    let (repo_path, client_operation_id) = (repo_path.to_owned(), key.to_string());
    let mut transactions = TransactionServiceClient::new(channel.clone());
    let transaction_id = transaction.unwrap_or_default().to_owned();
    let mut given = Given::default();
    macro_rules! ask {
        ($client:expr, $method:ident, $request:expr) => {
            $client.$method(marked($request, key)).await?.into_inner()
        };
    }
    macro_rules! within {
        ($client:expr, $method:ident, $request:expr) => {{
            let mut request = marked($request, key);
            let id = transaction_id.parse().unwrap();
            request.metadata_mut().insert("heddle-transaction-id", id);
            $client.$method(request).await?.into_inner()
        }};
    }
    match ask.clone() {
        Ask::Begin => {
            let request = BeginTransactionRequest {
                repo_path,
                client_operation_id,
                ..Default::default()
            };
            given.transaction = ask!(transactions, begin_transaction, request).transaction_id;
        }
        Ask::Commit => {
            let request = CommitTransactionRequest {
                repo_path,
                transaction_id,
                client_operation_id,
            };
            let done = ask!(transactions, commit_transaction, request);
            (given.state, given.calls) = (hex(&done.state_id), done.op_count);
        }
        Ask::Abort { rewind } => {
            let request = AbortTransactionRequest {
                repo_path,
                transaction_id,
                client_operation_id,
                rewind_worktree: rewind,
                ..Default::default()
            };
            ask!(transactions, abort_transaction, request);
        }
        Ask::Capture => {
            let request = CaptureThreadRequest {
                repo_path,
                client_operation_id,
                ..Default::default()
            };
            let done = within!(threads(channel), capture_thread, request);
            (given.state, given.parent) = (hex(&done.state_id), hex(&done.parent_state));
            given.unchanged = done.unchanged;
        }
        Ask::Register(name) => {
            let request = RegisterHookRequest {
                command: format!("true {key}"),
                events: vec!["post_merge".into()],
                client_operation_id,
                ..hook(&name)
            };
            within!(hooks(channel), register_hook, request);
        }
        Ask::Deregister(name) => {
            let request = DeregisterHookRequest {
                name,
                client_operation_id,
                ..Default::default()
            };
            let done = within!(hooks(channel), deregister_hook, request);
            given.unchanged = !done.deleted;
        }
        Ask::Start(name) => {
            let request = StartThreadRequest {
                repo_path,
                name,
                client_operation_id,
                ..Default::default()
            };
            within!(threads(channel), start_thread, request);
        }
        Ask::Complete(name) => {
            let request = CompleteThreadRequest {
                repo_path,
                name,
                client_operation_id,
            };
            within!(threads(channel), complete_thread, request);
        }
    }
    Ok(given)
}
