//! `heddle.v1.TransactionService`, and `heddle.local.v1.TransactionListService` beside it.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    Services,
    proto::{
        local::{self, transaction_list_service_server::TransactionListService},
        v1::{self, transaction_service_server::TransactionService},
    },
    time::at_secs,
};
use crate::{
    failure::Failure,
    mutation::blocking,
    transaction::{
        self, AbortRequest, AbortTransaction, BeginRequest, BeginTransaction, CommitTransaction,
        Transaction, parse_id,
    },
};

#[tonic::async_trait]
impl TransactionService for Arc<Services> {
    async fn begin_transaction(
        &self,
        request: Request<v1::BeginTransactionRequest>,
    ) -> Result<Response<v1::BeginTransactionResponse>, Status> {
        let asked = request.get_ref();
        self.check_change(&request, &asked.repo_path).await?;
        let begin = BeginRequest {
            repo_path: asked.repo_path.clone(),
            thread: asked.thread.clone(),
            message: asked.message.clone(),
        };
        let caller = self.caller(&request)?;
        let mutation = BeginTransaction::new(Arc::clone(&self.captures), begin, caller)?;
        let answer = self
            .change(
                "/heddle.v1.TransactionService/BeginTransaction",
                request,
                mutation,
                |begun| {
                    v1::BeginTransactionResponse {
                        transaction_id: begun.id.to_string(),
                        started_at: Some(at_secs(begun.started_secs)),
                    }
                    .encode_to_vec()
                },
            )
            .await;
        self.transactions_changed.notify_one();
        answer
    }

    async fn commit_transaction(
        &self,
        request: Request<v1::CommitTransactionRequest>,
    ) -> Result<Response<v1::CommitTransactionResponse>, Status> {
        let asked = request.get_ref();
        self.check_change(&request, &asked.repo_path).await?;
        let id = parse_id(&asked.transaction_id, "transaction_id")?;
        let (captures, ledger) = (Arc::clone(&self.captures), Arc::clone(&self.ledger));
        let gates = self.gates(request.metadata())?;
        self.change(
            "/heddle.v1.TransactionService/CommitTransaction",
            request,
            CommitTransaction::new(captures, ledger, id, gates),
            |committed| {
                v1::CommitTransactionResponse {
                    state_id: committed.state.clone().unwrap_or_default(),
                    op_count: committed.calls,
                }
                .encode_to_vec()
            },
        )
        .await
    }

    async fn abort_transaction(
        &self,
        request: Request<v1::AbortTransactionRequest>,
    ) -> Result<Response<v1::AbortTransactionResponse>, Status> {
        let asked = request.get_ref();
        self.check_change(&request, &asked.repo_path).await?;
        let abort = AbortRequest {
            id: parse_id(&asked.transaction_id, "transaction_id")?,
            reason: asked.reason.clone(),
            rewind_worktree: asked.rewind_worktree,
        };
        let caller = self.caller(&request)?;
        let gates = self.gates(request.metadata())?;
        let mutation = AbortTransaction::new(Arc::clone(&self.captures), abort, caller, gates)?;
        self.change(
            "/heddle.v1.TransactionService/AbortTransaction",
            request,
            mutation,
            |aborted| v1::AbortTransactionResponse { aborted: *aborted }.encode_to_vec(),
        )
        .await
    }

    async fn get_transaction_status(
        &self,
        request: Request<v1::GetTransactionStatusRequest>,
    ) -> Result<Response<v1::TransactionStatus>, Status> {
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let id = parse_id(&asked.transaction_id, "transaction_id")?;
        let transaction = transaction::status(&self.store, id)?;
        Ok(Response::new(v1::TransactionStatus {
            transaction_id: transaction.id.to_string(),
            state: transaction.state.name().to_owned(),
            started_at: Some(at_secs(transaction.started_secs)),
            buffered_ops: transaction.calls,
        }))
    }
}

#[tonic::async_trait]
impl TransactionListService for Arc<Services> {
    async fn list_transactions(
        &self,
        request: Request<local::ListTransactionsRequest>,
    ) -> Result<Response<local::ListTransactionsResponse>, Status> {
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let store = self.store.clone();
        let ended = asked.include_ended;
        let found: Vec<Transaction> =
            blocking(move || -> Result<_, Failure> { transaction::list(&store, ended) }).await?;
        Ok(Response::new(local::ListTransactionsResponse {
            transactions: found.into_iter().map(to_proto).collect(),
        }))
    }
}

fn to_proto(transaction: Transaction) -> local::Transaction {
    local::Transaction {
        transaction_id: transaction.id.to_string(),
        thread: transaction.thread,
        message: transaction.message.chars().take(1_000).collect(),
        state: transaction.state.name().to_owned(),
        reason: transaction
            .reason
            .map(|reason| reason.chars().take(1_000).collect())
            .unwrap_or_default(),
        started_at: Some(at_secs(transaction.started_secs)),
        used_at: Some(at_secs(transaction.used_secs)),
        buffered_ops: transaction.calls,
    }
}
