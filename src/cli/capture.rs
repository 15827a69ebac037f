//! `heddle capture`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Common, Result,
    output::{BOLD, DIM, hex, plural, printable, short, warning},
};
use crate::grpc_local_impl::proto::v1::{
    CaptureThreadRequest, CaptureThreadResponse, LeftOut,
    thread_workflow_service_client::ThreadWorkflowServiceClient,
};

const EXAMPLE: &str = "\
Example:
  heddle capture -m 'Before the parser is rewritten' --confidence 0.8

The state holds what `git add -A` would: new files too, ignored ones not. Branch, index and
`git status` stay as they are. When nothing has changed, the state from before is answered.";

/// Warnings that are printed one by one; the rest is counted.
const WARNINGS: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct CaptureArgs {
    /// What the change is meant to do
    #[arg(
        short = 'm',
        long,
        value_name = "INTENT",
        default_value = "",
        hide_default_value = true
    )]
    intent: String,
    /// The thread [default: the one of this worktree]
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    thread: String,
    /// How sure you are of it, from 0, a guess, to 1, certain
    #[arg(long, value_name = "0..1", value_parser = confidence)]
    confidence: Option<f32>,
}

fn confidence(text: &str) -> std::result::Result<f32, String> {
    let number = text.parse().ok();
    let number = number.filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "give a number from 0, a guess, to 1, certain".to_owned())
}

pub(super) async fn run(common: &Common, args: CaptureArgs) -> Result {
    let here = common.here()?;
    let request = CaptureThreadRequest {
        repo_path: here.repo_path(),
        name: args.thread,
        intent: args.intent,
        confidence: args.confidence,
        client_operation_id: Uuid::new_v4().to_string(),
    };
    let send = async |channel| {
        let mut client = ThreadWorkflowServiceClient::new(channel);
        client.capture_thread(request.clone()).await
    };
    let captured = here.call("capturing", send).await?;
    let out = common.out();
    if out.is_json() {
        out.json(&as_json(&captured))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (thread, state) = (printable(&captured.thread), short(&captured.state_id));
    if captured.unchanged {
        out.line(format_args!(
            "nothing changed since {BOLD}{state}{BOLD:#} {DIM}on {thread}{DIM:#}"
        ))?;
    } else {
        let paths = plural(captured.changed_paths.into(), "path", "paths");
        out.line(format_args!(
            "captured {BOLD}{state}{BOLD:#} on {thread}, {paths} changed{DIM}{}{DIM:#}",
            since(&captured.parent_state)
        ))?;
    }
    warn_of_left_out(&captured);
    Ok(ExitCode::SUCCESS)
}

fn since(parent: &[u8]) -> String {
    match parent {
        [] => String::new(),
        parent => format!(" since {}", short(parent)),
    }
}

/// What the last capture left out as well is only counted: it was told then.
fn warn_of_left_out(captured: &CaptureThreadResponse) {
    let all = captured.left_out.iter();
    let (before, new): (Vec<&LeftOut>, Vec<_>) = all.partition(|left| left.as_before);
    for left in new.iter().take(WARNINGS) {
        warning(&format!("left out: `{}` {}", left.path, left.reason));
    }
    if !before.is_empty() {
        let paths = plural(before.len() as u64, "path", "paths");
        warning(&format!(
            "left out as before: {paths}; --output json names them"
        ));
    }
    if let more @ 1.. = new.len().saturating_sub(WARNINGS) {
        warning(&format!(
            "left out: {} more; --output json names them",
            plural(more as u64, "path", "paths")
        ));
    }
}

fn as_json(captured: &CaptureThreadResponse) -> Value {
    let left_out: Vec<Value> = captured
        .left_out
        .iter()
        .map(
            |left| json!({ "path": left.path, "reason": left.reason, "as_before": left.as_before }),
        )
        .collect();
    let parent = (!captured.parent_state.is_empty()).then(|| hex(&captured.parent_state));
    json!({
        "thread": captured.thread,
        "state_id": hex(&captured.state_id),
        "parent_state": parent,
        "unchanged": captured.unchanged,
        "changed_paths": captured.changed_paths,
        "left_out": left_out,
        "coordination_status": captured.coordination_status,
    })
}
