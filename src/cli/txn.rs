//! `heddle txn begin`, `commit`, `abort`, `status`, `list` and `run`.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus},
};

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use serde_json::{Value, json};
use tonic::{Request, metadata::MetadataValue};
use uuid::Uuid;

use super::{
    Common, Error, Result,
    here::Here,
    link::{Link, TRANSACTION_ID, within},
    output::{BOLD, DIM, hex, plural, printable, short, time, warning},
};
use crate::grpc_local_impl::proto::{
    local::{
        ListTransactionsRequest, Transaction,
        transaction_list_service_client::TransactionListServiceClient,
    },
    v1::{
        AbortTransactionRequest, BeginTransactionRequest, BeginTransactionResponse,
        CaptureThreadRequest, CommitTransactionRequest, CommitTransactionResponse,
        GetTransactionStatusRequest, TransactionStatus,
        thread_workflow_service_client::ThreadWorkflowServiceClient,
        transaction_service_client::TransactionServiceClient,
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
        TxnCommand::Run(args) => run_command(common, args).await,
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

async fn run_command(common: &Common, args: RunArgs) -> Result {
    let here = common.here()?;
    let words: Vec<_> = args
        .command
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let message = args.message.unwrap_or_else(|| words.join(" "));
    capture(&here, format!("Before: {message}"), None).await?;
    let begun = begun(&here, String::new(), message.clone()).await?;
    let id = begun.transaction_id;
    let ended = match run_child(&args.command, &id).await {
        Ok(ended) => ended,
        Err(error) => {
            aborted(&here, &id, error.to_string(), false).await?;
            return Err(error);
        }
    };
    if ended.success() {
        let kept = async {
            capture(&here, message, Some(&id)).await?;
            committed(&here, &id).await
        };
        if let Err(error) = kept.await {
            let reason = format!("it could not be committed: {error}");
            aborted(&here, &id, reason, false).await?;
            warning(
                "the worktree is left as the command left it; nothing of the transaction was applied",
            );
            return Err(error);
        }
        return Ok(ExitCode::SUCCESS);
    }
    aborted(&here, &id, format!("the command failed: {ended}"), true).await?;
    warning(&format!(
        "the command failed ({ended}); the worktree is as it was before, and what the command left is in the newest capture: `heddle log`"
    ));
    Ok(ExitCode::from(exit_status(ended)))
}

async fn capture(here: &Here, intent: String, transaction: Option<&str>) -> Result<()> {
    let message = CaptureThreadRequest {
        repo_path: here.repo_path(),
        intent,
        client_operation_id: key(),
        ..CaptureThreadRequest::default()
    };
    let id = MetadataValue::try_from(transaction.unwrap_or_default());
    let id = id.map_err(|_| Error::Usage("the transaction's id is no metadata".to_owned()))?;
    let send = async |link| {
        let request = within(&id, message.clone());
        let mut client = ThreadWorkflowServiceClient::new(link);
        client.capture_thread(request).await
    };
    here.call("capturing", send).await.map(drop)
}

/// Runs the command with this terminal. An interrupt is for it: we stay to clean up after it.
async fn run_child(words: &[OsString], transaction: &str) -> Result<ExitStatus> {
    let [program, arguments @ ..] = words else {
        return Err(Error::Usage("no command was given".to_owned()));
    };
    let interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
    let interrupts = interrupts.map_err(Error::io("wait for signals"))?;
    let mut command = Command::new(program);
    command.args(arguments).env(TRANSACTION_ID, transaction);
    let mut child = command.spawn().map_err(Error::io("run the command"))?;
    let ended = tokio::task::spawn_blocking(move || child.wait()).await;
    drop(interrupts);
    match ended {
        Ok(ended) => ended.map_err(Error::io("wait for the command")),
        Err(_) => Err(Error::Usage(
            "the command could not be waited for".to_owned(),
        )),
    }
}

/// As a shell tells it: 128 and the signal for one that was killed.
fn exit_status(ended: ExitStatus) -> u8 {
    let status = ended
        .code()
        .or_else(|| ended.signal().map(|signal| 128 + signal));
    status
        .and_then(|status| u8::try_from(status).ok())
        .unwrap_or(1)
}

fn seconds(at: Option<Timestamp>) -> i64 {
    at.map(|at| at.seconds).unwrap_or_default()
}
