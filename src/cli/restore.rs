//! `heddle restore`, `undo` and `redo`.

use std::{ffi::OsString, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Common, Result, changes,
    here::Here,
    output::{BOLD, DIM, Output, hex, plural, printable, short, warning},
    words,
};
use crate::grpc_local_impl::proto::local::{
    FileChange, PreviewRestoreRequest, PreviewRestoreResponse, RestoreStateRequest,
    RestoreStateResponse, RestoreTarget, restore_target::Target,
    worktree_service_client::WorktreeServiceClient,
};

/// What an undo says of itself.
const UNDONE: &str = "undone";

/// Changes that a restore lists for people; a preview lists them all.
const LISTED: usize = 20;

const RESTORE_EXAMPLES: &str = "\
Examples:
  heddle restore                      back to the newest state
  heddle restore --preview main~2     what would change
  heddle restore 1f3a9c -- src/a.rs   one file of a state, the rest stays

What is there now is captured first: `heddle undo` brings it back. Files made since the state are
removed, ignored ones are left alone. A state is any revision of Git's, or the name of a thread.";

const UNDO_EXAMPLES: &str = "\
Examples:
  heddle undo        back to what the worktree was before the last capture or restore
  heddle undo 3      three steps back
  heddle redo        forth again

Nothing is lost by it: what is there now is captured first.";

#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
#[command(override_usage = "heddle restore [OPTIONS] [STATE] [--] [PATH]...")]
pub(super) struct RestoreArgs {
    /// The state, by default the newest; then files and folders of it, by default all
    #[arg(value_name = "STATE] [PATH")]
    words: Vec<OsString>,
    #[arg(last = true, value_name = "PATH", hide = true)]
    paths: Vec<OsString>,
    /// Only tell what would change
    #[arg(long)]
    preview: bool,
    /// Let the index follow, as `git restore --staged` does
    #[arg(long, conflicts_with = "preview")]
    index: bool,
}

#[derive(Debug, Args)]
#[command(after_help = UNDO_EXAMPLES)]
pub(super) struct StepArgs {
    /// How many steps [default: 1]
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// The same
    #[arg(short = 'n', long = "steps", value_name = "N", conflicts_with = "steps", value_parser = clap::value_parser!(u32).range(1..))]
    number: Option<u32>,
    /// Only tell what would change
    #[arg(long)]
    preview: bool,
}

impl StepArgs {
    fn steps(&self) -> u32 {
        self.steps.or(self.number).unwrap_or(1)
    }
}

pub(super) async fn restore(common: &Common, args: RestoreArgs) -> Result {
    let here = common.here()?;
    let asked = words::sort(&here, &args.words, &args.paths, 1).await?;
    let target = asked.states.into_iter().next().map(Target::State);
    let request = RestoreStateRequest {
        repo_path: here.repo_path(),
        target: target.map(to_proto),
        paths: asked.paths,
        update_index: args.index,
        ..RestoreStateRequest::default()
    };
    go(common, &here, request, args.preview, "restored").await
}

pub(super) async fn undo(common: &Common, args: StepArgs) -> Result {
    step(common, Target::Undo(args.steps()), args.preview, UNDONE).await
}

pub(super) async fn redo(common: &Common, args: StepArgs) -> Result {
    step(common, Target::Redo(args.steps()), args.preview, "redone").await
}

async fn step(common: &Common, target: Target, preview: bool, done: &str) -> Result {
    let here = common.here()?;
    let request = RestoreStateRequest {
        repo_path: here.repo_path(),
        target: Some(to_proto(target)),
        ..RestoreStateRequest::default()
    };
    go(common, &here, request, preview, done).await
}

fn to_proto(target: Target) -> RestoreTarget {
    RestoreTarget {
        target: Some(target),
    }
}

async fn go(
    common: &Common,
    here: &Here,
    mut request: RestoreStateRequest,
    preview: bool,
    done: &str,
) -> Result {
    let out = common.out();
    if preview {
        let would = foresee(here, request).await?;
        if out.is_json() {
            out.json(&preview_as_json(&would))?;
        } else {
            print_preview(&out, &would)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    request.client_operation_id = Uuid::new_v4().to_string();
    let send = async |channel| {
        let mut client = WorktreeServiceClient::new(channel);
        client.restore_state(request.clone()).await
    };
    let restored = here.call("restoring", send).await?;
    if out.is_json() {
        out.json(&as_json(&restored))?;
    } else {
        print(&out, &restored, done)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a restore would do, however much that is.
async fn foresee(here: &Here, asked: RestoreStateRequest) -> Result<PreviewRestoreResponse> {
    let mut request = PreviewRestoreRequest {
        repo_path: asked.repo_path,
        target: asked.target,
        paths: asked.paths,
        ..PreviewRestoreRequest::default()
    };
    let mut changes: Vec<FileChange> = Vec::new();
    loop {
        let send = async |channel| {
            let mut client = WorktreeServiceClient::new(channel);
            client.preview_restore(request.clone()).await
        };
        let mut page = here.call("comparing", send).await?;
        let gets_on = !page.changes.is_empty();
        changes.append(&mut page.changes);
        if !page.truncated {
            return Ok(PreviewRestoreResponse { changes, ..page });
        }
        if !gets_on {
            return Err(changes::stuck());
        }
        // The same again, whatever becomes of worktree and refs meanwhile.
        request.target = Some(to_proto(Target::State(hex(&page.state_id))));
        request.from_tree = page.from_tree;
        request.after_path = page.next_path;
    }
}

fn print_preview(out: &Output, would: &PreviewRestoreResponse) -> Result<()> {
    let state = short(&would.state_id);
    if would.changes.is_empty() {
        return out.line(format_args!(
            "nothing would change: the worktree is as in {BOLD}{state}{BOLD:#}"
        ));
    }
    let paths = plural(would.changes.len() as u64, "path", "paths");
    out.line(format_args!(
        "{paths} would change on the way to {BOLD}{state}{BOLD:#}"
    ))?;
    changes::list(out, &would.changes, usize::MAX, would.changes.len())
}

fn print(out: &Output, restored: &RestoreStateResponse, done: &str) -> Result<()> {
    let (state, thread) = (short(&restored.state_id), printable(&restored.thread));
    if restored.changes.is_empty() {
        let left = left(restored);
        out.line(format_args!(
            "nothing changed: the worktree is as in {BOLD}{state}{BOLD:#} {DIM}on {thread}, {left}{DIM:#}"
        ))?;
    } else {
        out.line(format_args!(
            "{done}: the worktree is at {BOLD}{state}{BOLD:#} {DIM}on {thread}{DIM:#}"
        ))?;
        print_done(out, restored, done)?;
    }
    for left in restored.left_alone.iter().take(LISTED) {
        warning(&format!("left alone: {left}"));
    }
    if let more @ 1.. = restored.left_alone.len().saturating_sub(LISTED) {
        warning(&format!(
            "left alone: {more} more; --output json names them"
        ));
    }
    Ok(())
}

fn print_done(out: &Output, restored: &RestoreStateResponse, done: &str) -> Result<()> {
    let files = restored.written as usize + restored.removed as usize;
    let count = match restored.truncated {
        true => files.max(restored.changes.len()),
        false => restored.changes.len(),
    };
    changes::list(out, &restored.changes, LISTED, count)?;
    let rescue = short(&restored.rescue_state_id);
    let back = if done == UNDONE { "redo" } else { "undo" };
    let (written, removed) = (restored.written, restored.removed);
    out.facts([
        ("files", format!("{written} written, {removed} removed")),
        (
            "before",
            format!("{rescue}, which `heddle {back}` brings back"),
        ),
        ("left", left(restored)),
    ])
}

fn left(restored: &RestoreStateResponse) -> String {
    format!(
        "{} to undo, {} to redo",
        restored.undo_left, restored.redo_left
    )
}

fn as_json(restored: &RestoreStateResponse) -> Value {
    json!({
        "state_id": hex(&restored.state_id),
        "rescue_state_id": hex(&restored.rescue_state_id),
        "thread": restored.thread,
        "written": restored.written,
        "removed": restored.removed,
        "changes": changes::all_as_json(&restored.changes),
        "truncated": restored.truncated,
        "undo_left": restored.undo_left,
        "redo_left": restored.redo_left,
        "left_alone": restored.left_alone,
    })
}

fn preview_as_json(would: &PreviewRestoreResponse) -> Value {
    json!({
        "state_id": hex(&would.state_id),
        "thread": would.thread,
        "changes": changes::all_as_json(&would.changes),
    })
}
