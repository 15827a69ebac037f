//! `heddle txn begin`, `commit`, `abort`, `status`, `list` and `run`.

mod run;

use std::{ffi::OsString, process::ExitCode};

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use serde_json::{Value, json};
use tonic::{Request, metadata::MetadataValue};
use uuid::Uuid;

use super::{
    Common, Result,
    here::Here,
    link::{Link, TRANSACTION_ID, within},
    output::{BOLD, DIM, hex, plural, printable, short, time},
};
use crate::grpc_local_impl::proto::{
    local::{
        ListTransactionsRequest, Transaction,
        transaction_list_service_client::TransactionListServiceClient,
    },
    v1::{
        AbortTransactionRequest, BeginTransactionRequest, BeginTransactionResponse,
        CommitTransactionRequest, CommitTransactionResponse, GetTransactionStatusRequest,
        TransactionStatus, transaction_service_client::TransactionServiceClient,
    },
};

#[derive(Debug, Subcommand)]
pub(super) enum TxnCommand {
    /// Begin a transaction; its id is what calls carry as metadata `heddle-transaction-id`
    Begin(BeginArgs),
    /// Apply every call of a transaction at once, or none
    Commit(IdArgs),
    /// Drop every call of a transaction
    Abort(AbortArgs),
    /// Show how a transaction stands
    Status(IdArgs),
    /// List the transactions that are active
    List(ListArgs),
    /// Run a command in a transaction: commit when it succeeds, rewind the worktree when it fails
    Run(RunArgs),
}

#[derive(Debug, Args)]
pub(super) struct BeginArgs {
    /// What it is for
    #[arg(
        short,
        long,
        value_name = "MESSAGE",
        default_value = "",
        hide_default_value = true
    )]
    message: String,
    /// The thread whose movement makes the commit fail [default: the one of this worktree]
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    thread: String,
}

#[derive(Debug, Args)]
pub(super) struct IdArgs {
    /// The transaction's id, as `begin` printed it
    #[arg(env = TRANSACTION_ID)]
    id: String,
}

#[derive(Debug, Args)]
pub(super) struct AbortArgs {
    /// The transaction's id, as `begin` printed it
    #[arg(env = TRANSACTION_ID)]
    id: String,
    /// Why
    #[arg(
        short,
        long,
        value_name = "REASON",
        default_value = "",
        hide_default_value = true
    )]
    reason: String,
    /// Take the worktree back to where it was when the transaction began; what is there is captured
    #[arg(long)]
    rewind: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Also those that ended within the last seven days
    #[arg(long)]
    all: bool,
}

const RUN_EXAMPLE: &str = "\
Example:
  heddle txn run -m 'Rename the module' -- ./agent.sh

The worktree is captured before. When COMMAND succeeds, what it left is captured and committed;
when it fails, the worktree goes back to where it was, and what the command left is in a capture
of its own. Its `heddle` commands join the transaction. The exit status is the command's.";

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLE)]
pub(super) struct RunArgs {
    /// What it is for [default: the command]
    #[arg(short, long, value_name = "MESSAGE")]
    message: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn client(link: Link) -> TransactionServiceClient<Link> {
    TransactionServiceClient::new(link)
}

/// A call about transactions, which is never part of one.
fn alone<T>(message: T) -> Request<T> {
    within(&MetadataValue::from_static(""), message)
}

fn key() -> String {
    Uuid::new_v4().to_string()
}

pub(super) async fn run(common: &Common, command: TxnCommand) -> Result {
    match command {
        TxnCommand::Begin(args) => begin(common, args).await,
        TxnCommand::Commit(args) => commit(common, args).await,
        TxnCommand::Abort(args) => abort(common, args).await,
        TxnCommand::Status(args) => status(common, args).await,
        TxnCommand::List(args) => list(common, args).await,
        TxnCommand::Run(args) => run::command(common, args).await,
    }
}

async fn begin(common: &Common, args: BeginArgs) -> Result {
    let here = common.here()?;
    let begun = begun(&here, args.thread, args.message).await?;
    let out = common.out();
    if out.is_json() {
        out.json(&json!({
            "transaction_id": begun.transaction_id,
            "started_at": seconds(begun.started_at),
        }))?;
    } else {
        // Alone on its line: `id=$(heddle txn begin)`.
        out.line(printable(&begun.transaction_id))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn begun(here: &Here, thread: String, message: String) -> Result<BeginTransactionResponse> {
    let request = BeginTransactionRequest {
        repo_path: here.repo_path(),
        thread,
        message,
        client_operation_id: key(),
    };
    let send = async |channel| {
        client(channel)
            .begin_transaction(alone(request.clone()))
            .await
    };
    here.call("beginning the transaction", send).await
}

async fn commit(common: &Common, args: IdArgs) -> Result {
    let here = common.here()?;
    let committed = committed(&here, &args.id).await?;
    let out = common.out();
    if out.is_json() {
        out.json(&json!({
            "transaction_id": args.id,
            "state_id": hex(&committed.state_id),
            "op_count": committed.op_count,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let calls = plural(committed.op_count.into(), "call", "calls");
    let state = match committed.state_id.as_slice() {
        [] => String::new(),
        state => format!(", the thread is at {BOLD}{}{BOLD:#}", short(state)),
    };
    out.line(format_args!("committed {calls}{state}"))?;
    Ok(ExitCode::SUCCESS)
}

async fn committed(here: &Here, id: &str) -> Result<CommitTransactionResponse> {
    let request = CommitTransactionRequest {
        repo_path: here.repo_path(),
        transaction_id: id.to_owned(),
        client_operation_id: key(),
    };
    let send = async |channel| {
        client(channel)
            .commit_transaction(alone(request.clone()))
            .await
    };
    here.call("committing the transaction", send).await
}

async fn abort(common: &Common, args: AbortArgs) -> Result {
    let here = common.here()?;
    let aborted = aborted(&here, &args.id, args.reason, args.rewind).await?;
    let out = common.out();
    if out.is_json() {
        out.json(&json!({ "transaction_id": args.id, "aborted": aborted }))?;
    } else if aborted {
        let rewound = if args.rewind {
            ", the worktree is as it was when it began"
        } else {
            ""
        };
        out.line(format_args!("aborted {}{rewound}", printable(&args.id)))?;
    } else {
        out.line(format_args!("{} was aborted before", printable(&args.id)))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn aborted(here: &Here, id: &str, reason: String, rewind: bool) -> Result<bool> {
    let request = AbortTransactionRequest {
        repo_path: here.repo_path(),
        transaction_id: id.to_owned(),
        reason,
        client_operation_id: key(),
        rewind_worktree: rewind,
    };
    let send = async |channel| {
        client(channel)
            .abort_transaction(alone(request.clone()))
            .await
    };
    let answer = here.call("aborting the transaction", send).await?;
    Ok(answer.aborted)
}

async fn status(common: &Common, args: IdArgs) -> Result {
    let here = common.here()?;
    let request = GetTransactionStatusRequest {
        repo_path: here.repo_path(),
        transaction_id: args.id,
    };
    let send = async |channel| {
        client(channel)
            .get_transaction_status(alone(request.clone()))
            .await
    };
    let status: TransactionStatus = here.call("waiting for the daemon", send).await?;
    let out = common.out();
    if out.is_json() {
        out.json(&json!({
            "transaction_id": status.transaction_id,
            "state": status.state,
            "started_at": seconds(status.started_at),
            "buffered_ops": status.buffered_ops,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let calls = plural(status.buffered_ops.into(), "call", "calls");
    out.line(format_args!(
        "{BOLD}{}{BOLD:#}, {calls}, begun {}",
        status.state,
        time(seconds(status.started_at))
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(common: &Common, args: ListArgs) -> Result {
    let here = common.here()?;
    let request = ListTransactionsRequest {
        repo_path: here.repo_path(),
        include_ended: args.all,
    };
    let send = async |channel| {
        let mut client = TransactionListServiceClient::new(channel);
        client.list_transactions(request.clone()).await
    };
    let found = here
        .call("waiting for the daemon", send)
        .await?
        .transactions;
    let out = common.out();
    if out.is_json() {
        let found: Vec<Value> = found.iter().map(as_json).collect();
        out.json(&json!({ "transactions": found }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        let which = if args.all { "" } else { "active " };
        out.line(format_args!("{DIM}there are no {which}transactions{DIM:#}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    out.table(
        ["ID", "STATE", "THREAD", "CALLS", "BEGUN", "MESSAGE"],
        found.into_iter().map(|found| {
            let first = found.message.lines().next().unwrap_or_default();
            [
                found.transaction_id.clone(),
                found.state,
                found.thread,
                found.buffered_ops.to_string(),
                time(seconds(found.started_at)),
                first.to_owned(),
            ]
        }),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(found: &Transaction) -> Value {
    json!({
        "transaction_id": found.transaction_id,
        "thread": found.thread,
        "message": found.message,
        "state": found.state,
        "reason": found.reason,
        "started_at": seconds(found.started_at),
        "used_at": seconds(found.used_at),
        "buffered_ops": found.buffered_ops,
    })
}

fn seconds(at: Option<Timestamp>) -> i64 {
    at.map(|at| at.seconds).unwrap_or_default()
}
