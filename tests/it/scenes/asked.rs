//! What is asked of the daemon in a scene.

use std::path::PathBuf;

use heddle_agent::grpc_local_impl::proto::{
    local::{RestoreStateRequest, restore_target::Target},
    v1::{
        AbortTransactionRequest, BeginTransactionRequest, CaptureThreadRequest,
        CommitTransactionRequest, StartThreadRequest,
        transaction_service_client::TransactionServiceClient,
    },
};
use prost::Message;
use tonic::{Request, Status, transport::Channel};
use uuid::Uuid;

use crate::{
    fault::kinds,
    harness::TestRepo,
    states::{threads, to, to_state, worktrees},
};

/// A call.
#[derive(Clone)]
pub enum Asked {
    Capture,
    Restore(RestoreStateRequest),
    /// A thread with a worktree at this path.
    Start(PathBuf),
    /// A transaction.
    Begin,
    /// The end of the transaction that the scene has open.
    Commit(String),
    /// The same, and the worktree goes back to where it was.
    Rewind(String),
}

/// A call's key, by which its rows are found again: it is named as the acting agent.
pub fn marked<T>(message: T, key: Uuid) -> Request<T> {
    let mut request = Request::new(message);
    let agent = key.to_string().parse().unwrap();
    request.metadata_mut().insert("heddle-agent", agent);
    request
}

impl Asked {
    /// Makes the call; answers the encoded response.
    pub async fn call(&self, channel: &Channel, key: Uuid) -> Result<Vec<u8>, Status> {
        let client_operation_id = key.to_string();
        let mut transactions = TransactionServiceClient::new(channel.clone());
        macro_rules! send {
            ($client:expr, $method:ident, $request:expr) => {{
                let answer = $client.$method(marked($request, key)).await?;
                Ok(answer.into_inner().encode_to_vec())
            }};
        }
        match self.clone() {
            Asked::Capture => send!(
                threads(channel),
                capture_thread,
                CaptureThreadRequest {
                    client_operation_id,
                    ..Default::default()
                }
            ),
            Asked::Restore(request) => send!(
                worktrees(channel),
                restore_state,
                RestoreStateRequest {
                    client_operation_id,
                    ..request
                }
            ),
            Asked::Start(path) => send!(
                threads(channel),
                start_thread,
                StartThreadRequest {
                    name: "fix".into(),
                    path: path.to_str().unwrap().into(),
                    client_operation_id,
                    ..Default::default()
                }
            ),
            Asked::Begin => send!(
                transactions,
                begin_transaction,
                BeginTransactionRequest {
                    client_operation_id,
                    ..Default::default()
                }
            ),
            Asked::Commit(transaction_id) => send!(
                transactions,
                commit_transaction,
                CommitTransactionRequest {
                    transaction_id,
                    client_operation_id,
                    ..Default::default()
                }
            ),
            Asked::Rewind(transaction_id) => send!(
                transactions,
                abort_transaction,
                AbortTransactionRequest {
                    transaction_id,
                    rewind_worktree: true,
                    client_operation_id,
                    ..Default::default()
                }
            ),
        }
    }

    /// The verb of its entry in the operation log.
    pub fn verb(&self) -> &'static str {
        match self {
            Asked::Capture => "snapshot",
            Asked::Restore(_) => "goto",
            Asked::Start(_) => "thread_create",
            Asked::Begin => "transaction_begin",
            Asked::Commit(_) => "transaction_commit",
            Asked::Rewind(_) => "transaction_abort",
        }
    }

    /// The calls on files that a walk through it counts: objects are written by captures as by all,
    /// and a commit of a transaction writes little but the database.
    pub fn kinds(&self) -> u32 {
        match self {
            Asked::Capture | Asked::Begin => kinds::LEAN,
            Asked::Restore(_) | Asked::Start(_) | Asked::Rewind(_) => kinds::NO_OBJECTS,
            Asked::Commit(_) => kinds::ALL,
        }
    }

    /// The place of the transaction's id, in a scene that has one open.
    pub(super) fn open(&mut self) -> Option<&mut String> {
        match self {
            Asked::Commit(id) | Asked::Rewind(id) => Some(id),
            _ => None,
        }
    }
}

/// Everything goes back to the first state.
pub fn whole(_: &TestRepo, state: &str) -> Asked {
    Asked::Restore(to_state(state))
}

/// Some paths do.
pub fn some(_: &TestRepo, state: &str) -> Asked {
    let paths = ["turns", "README", "was", "made", "link"];
    Asked::Restore(RestoreStateRequest {
        paths: paths.map(str::to_owned).to_vec(),
        ..to_state(state)
    })
}

/// One step back.
pub fn undo(_: &TestRepo, _: &str) -> Asked {
    Asked::Restore(to(Target::Undo(1)))
}

/// Everything goes back, and the index follows.
pub fn with_index(_: &TestRepo, state: &str) -> Asked {
    Asked::Restore(RestoreStateRequest {
        update_index: true,
        ..to_state(state)
    })
}

/// A capture.
pub fn capture(_: &TestRepo, _: &str) -> Asked {
    Asked::Capture
}

/// A thread with a worktree beside the repository.
pub fn start(repo: &TestRepo, _: &str) -> Asked {
    Asked::Start(repo.around().join("fix"))
}

/// A transaction begins.
pub fn begin(_: &TestRepo, _: &str) -> Asked {
    Asked::Begin
}

/// A transaction is committed.
pub fn commit(_: &TestRepo, _: &str) -> Asked {
    Asked::Commit(String::new())
}

/// A transaction is aborted, and the worktree goes back to the first state.
pub fn rewind(_: &TestRepo, _: &str) -> Asked {
    Asked::Rewind(String::new())
}
