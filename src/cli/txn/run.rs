//! `heddle txn run`: a command, and around it a transaction that keeps all that it did or nothing.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus},
};

use tonic::metadata::MetadataValue;

use super::{
    super::{
        Common, Error, Result,
        here::Here,
        link::{TRANSACTION_ID, within},
        output::warning,
    },
    RunArgs, aborted, begun, committed, key,
};
use crate::grpc_local_impl::proto::v1::{
    CaptureThreadRequest, thread_workflow_service_client::ThreadWorkflowServiceClient,
};

pub(super) async fn command(common: &Common, args: RunArgs) -> Result {
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
