//! One caller's calls: alone, and in a transaction.

use std::time::Instant;

use heddle_agent::grpc_local_impl::proto::{
    local::{GetStatusRequest, daemon_service_client::DaemonServiceClient},
    v1::{
        BeginTransactionRequest, CommitTransactionRequest, RegisterHookRequest, StartThreadRequest,
        hook_service_client::HookServiceClient,
        thread_workflow_service_client::ThreadWorkflowServiceClient,
        transaction_service_client::TransactionServiceClient,
    },
};
use tonic::{Request, transport::Channel};
use uuid::Uuid;

use crate::{
    Result,
    shared::{
        ours::Caller,
        samples::{Samples, micros},
    },
};

/// The calls of one caller.
pub struct Calls<'a>(pub &'a Caller);

fn key() -> String {
    Uuid::new_v4().to_string()
}

/// A durable write; in a transaction, where one is named.
async fn register(channel: Channel, transaction: Option<&str>) -> Result {
    let key = Uuid::new_v4();
    let mut request = Request::new(RegisterHookRequest {
        // A few hooks, replaced again and again, of an event that nothing here fires.
        name: format!("hook-{}", key.as_bytes()[0] % 3),
        command: "scripts/check --all".into(),
        events: vec!["post_merge".into()],
        client_operation_id: key.to_string(),
        ..Default::default()
    });
    if let Some(id) = transaction {
        let metadata = request.metadata_mut();
        metadata.insert("heddle-transaction-id", id.parse()?);
    }
    HookServiceClient::new(channel)
        .register_hook(request)
        .await?;
    Ok(())
}

async fn begin(channel: Channel) -> Result<String> {
    let request = BeginTransactionRequest {
        client_operation_id: key(),
        ..Default::default()
    };
    let mut client = TransactionServiceClient::new(channel);
    let begun = client.begin_transaction(request).await?;
    Ok(begun.into_inner().transaction_id)
}

async fn commit(channel: Channel, transaction_id: String, calls: usize) -> Result {
    let request = CommitTransactionRequest {
        transaction_id,
        client_operation_id: key(),
        ..Default::default()
    };
    let mut client = TransactionServiceClient::new(channel);
    let committed = client.commit_transaction(request).await?;
    let count = committed.into_inner().op_count as usize;
    if count == calls {
        Ok(())
    } else {
        Err(format!("a commit says {count} calls and not {calls}").into())
    }
}

impl Calls<'_> {
    fn channel(&self) -> Channel {
        self.0.channel.clone()
    }

    /// Microseconds for an empty call of a bare server.
    pub fn empty(&self) -> Result<f64> {
        let began = Instant::now();
        let request = GetStatusRequest::default();
        self.0.runtime.block_on(async {
            let mut client = DaemonServiceClient::new(self.channel());
            client.get_status(request).await
        })?;
        Ok(micros(began.elapsed()))
    }

    /// Microseconds for so many calls, one after another.
    pub fn single(&self, count: usize) -> Result<f64> {
        let began = Instant::now();
        self.0.runtime.block_on(async {
            for _ in 0..count {
                register(self.channel(), None).await?;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        })?;
        Ok(micros(began.elapsed()))
    }

    /// Microseconds for a transaction of so many calls: all of it, and its commit; with the latencies of
    /// the calls.
    pub fn together(&self, count: usize) -> Result<(f64, f64, Vec<f64>)> {
        self.0.runtime.block_on(async {
            let began = Instant::now();
            let id = begin(self.channel()).await?;
            let mut calls = Vec::with_capacity(count);
            for _ in 0..count {
                let began = Instant::now();
                register(self.channel(), Some(&id)).await?;
                calls.push(micros(began.elapsed()));
            }
            let commits = Instant::now();
            commit(self.channel(), id, count).await?;
            Ok((micros(began.elapsed()), micros(commits.elapsed()), calls))
        })
    }

    /// Latencies of so many threads started.
    pub fn threads(&self, count: usize) -> Result<Samples> {
        let mut samples = Samples::default();
        for _ in 0..count {
            let request = StartThreadRequest {
                name: format!("agent/{}", key()),
                client_operation_id: key(),
                ..Default::default()
            };
            let began = Instant::now();
            self.0.runtime.block_on(async {
                let mut client = ThreadWorkflowServiceClient::new(self.channel());
                client.start_thread(request).await
            })?;
            samples.add(began.elapsed());
        }
        Ok(samples)
    }
}
