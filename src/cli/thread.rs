//! `heddle thread start`, `list`, `show`, `complete` and `watch`.

use std::{
    cell::Cell,
    ops::ControlFlow::{Break, Continue},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Common, Result, here,
    link::Link,
    output::{BOLD, DIM, Output, ago, hex, printable, short, time},
};
use crate::grpc_local_impl::proto::v1::{
    CompleteThreadRequest, GetThreadRequest, ListThreadsRequest, StartThreadRequest, ThreadEvent,
    ThreadSummary, WatchThreadsRequest,
    thread_workflow_service_client::ThreadWorkflowServiceClient,
};

#[derive(Debug, Subcommand)]
pub(super) enum ThreadCommand {
    /// Start a thread and, with --path, a worktree to work on it
    Start(StartArgs),
    /// List the threads
    List,
    /// Show one thread
    Show(ShowArgs),
    /// Mark a thread complete; no branch is touched
    Complete(CompleteArgs),
    /// Show what happened to threads, and go on as it happens
    Watch(WatchArgs),
}

const START_EXAMPLE: &str = "\
Example:
  heddle thread start fix-login --path ../fix-login --provider anthropic --model claude

The worktree at --path is a linked one, detached, and shares the daemon and the log.";

#[derive(Debug, Args)]
#[command(after_help = START_EXAMPLE)]
pub(super) struct StartArgs {
    /// The thread's name, which keeps Git's rules for names of branches
    name: String,
    /// The state that it starts from: any revision, or a thread [default: the current state]
    #[arg(
        long,
        value_name = "STATE",
        default_value = "",
        hide_default_value = true
    )]
    from: String,
    /// Add a linked worktree for the thread here
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// The provider of the agent that works on it
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    provider: String,
    /// The model of the agent that works on it
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    model: String,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The thread [default: the one of this worktree]
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct CompleteArgs {
    /// The thread
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Begin after this event; nothing is missed and nothing seen twice
    #[arg(
        long,
        value_name = "EVENT_ID",
        default_value_t = 0,
        hide_default_value = true
    )]
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    after: i64,
    /// End after as many events
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

fn client(channel: Link) -> ThreadWorkflowServiceClient<Link> {
    ThreadWorkflowServiceClient::new(channel)
}

pub(super) async fn run(common: &Common, command: ThreadCommand) -> Result {
    match command {
        ThreadCommand::Start(args) => start(common, args).await,
        ThreadCommand::List => list(common).await,
        ThreadCommand::Show(args) => show(common, args).await,
        ThreadCommand::Complete(args) => complete(common, args).await,
        ThreadCommand::Watch(args) => watch(common, args).await,
    }
}

async fn start(common: &Common, args: StartArgs) -> Result {
    let here = common.here()?;
    let path = args.path.as_deref().map(here::absolute).transpose()?;
    let request = StartThreadRequest {
        repo_path: here.repo_path(),
        name: args.name,
        from_state: args.from,
        path: path.unwrap_or_default(),
        provider: args.provider,
        model: args.model,
        client_operation_id: Uuid::new_v4().to_string(),
    };
    let send = async |channel| client(channel).start_thread(request.clone()).await;
    let thread = here.call("starting the thread", send).await?;
    let out = common.out();
    if out.is_json() {
        out.json(&as_json(&thread))?;
        return Ok(ExitCode::SUCCESS);
    }
    let from = match thread.base_state.as_deref() {
        None | Some([]) => String::new(),
        Some(base) => format!(" from {}", short(base)),
    };
    let place = match &thread.path {
        Some(path) if !request.path.is_empty() => format!(" in {}", printable(path)),
        _ => String::new(),
    };
    let name = printable(&thread.name);
    out.line(format_args!("started {BOLD}{name}{BOLD:#}{from}{place}"))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(common: &Common) -> Result {
    let here = common.here()?;
    let request = ListThreadsRequest {
        repo_path: here.repo_path(),
    };
    let send = async |channel| client(channel).list_threads(request.clone()).await;
    let threads = here.call("listing threads", send).await?.threads;
    let out = common.out();
    if out.is_json() {
        let threads: Vec<Value> = threads.iter().map(as_json).collect();
        out.json(&json!({ "threads": threads }))?;
    } else if threads.is_empty() {
        out.line("no threads; `heddle thread start` starts one")?;
    } else {
        out.table(
            ["thread", "state", "status", "active", "worktree"],
            threads.iter().map(row),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(thread: &ThreadSummary) -> [String; 5] {
    let mark = if thread.is_current { "*" } else { " " };
    let active = seconds(thread.last_activity_at);
    [
        format!("{mark} {}", thread.name),
        id(thread.current_state.as_deref()).map_or_else(|| "-".to_owned(), short),
        thread.coordination_status.clone(),
        active.map_or_else(|| "-".to_owned(), ago),
        thread.path.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

async fn show(common: &Common, args: ShowArgs) -> Result {
    let here = common.here()?;
    let request = GetThreadRequest {
        repo_path: here.repo_path(),
        name: args.name,
    };
    let send = async |channel| client(channel).get_thread(request.clone()).await;
    let thread = here.call("looking for the thread", send).await?;
    let out = common.out();
    if out.is_json() {
        out.json(&as_json(&thread))?;
    } else {
        print(&out, &thread)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &Output, thread: &ThreadSummary) -> Result<()> {
    let current = if thread.is_current { " (current)" } else { "" };
    out.line(format_args!(
        "{BOLD}{}{BOLD:#}  {}{DIM}{current}{DIM:#}",
        printable(&thread.name),
        printable(&thread.coordination_status)
    ))?;
    out.facts(facts(thread))
}

/// What there is to tell of a thread, a line each.
fn facts(thread: &ThreadSummary) -> Vec<(&'static str, String)> {
    let agent = [thread.provider.as_deref(), thread.model.as_deref()];
    let agent: Vec<&str> = agent.into_iter().flatten().collect();
    let when = |at| seconds(at).map(|at| format!("{} ({})", time(at), ago(at)));
    let children = &thread.child_threads;
    let facts = [
        ("state", id(thread.current_state.as_deref()).map(short)),
        ("base", id(thread.base_state.as_deref()).map(short)),
        ("stage", stage(thread)),
        ("worktree", thread.path.clone()),
        ("agent", (!agent.is_empty()).then(|| agent.join("/"))),
        (
            "confidence",
            confidence(thread).map(|value| value.to_string()),
        ),
        ("parent", thread.parent_thread.clone()),
        (
            "children",
            (!children.is_empty()).then(|| children.join(", ")),
        ),
        ("captured", when(thread.last_progress_at)),
        ("active", when(thread.last_activity_at)),
    ];
    let known = facts.into_iter();
    known
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

async fn complete(common: &Common, args: CompleteArgs) -> Result {
    let here = common.here()?;
    let request = CompleteThreadRequest {
        repo_path: here.repo_path(),
        name: args.name,
        client_operation_id: Uuid::new_v4().to_string(),
    };
    let send = async |channel| client(channel).complete_thread(request.clone()).await;
    let thread = here.call("completing the thread", send).await?;
    let out = common.out();
    if out.is_json() {
        out.json(&as_json(&thread))?;
    } else {
        let name = printable(&thread.name);
        out.line(format_args!("{BOLD}{name}{BOLD:#} is complete"))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn watch(common: &Common, args: WatchArgs) -> Result {
    let here = common.here()?;
    let out = common.out();
    let left = Cell::new(args.limit);
    let open = async |channel, after_event_id| {
        let request = WatchThreadsRequest {
            repo_path: here.repo_path(),
            after_event_id,
        };
        client(channel).watch_threads(request).await
    };
    let take = |event: ThreadEvent| {
        print_event(&out, &event)?;
        left.set(left.get().map(|left| left - 1));
        Ok(match left.get() {
            Some(0) => Break(()),
            _ => Continue(event.event_id),
        })
    };
    here.follow(args.after, open, take).await?;
    Ok(ExitCode::SUCCESS)
}

fn print_event(out: &Output, event: &ThreadEvent) -> Result<()> {
    let at = seconds(event.created_at);
    let summary = event.summary.as_ref();
    if out.is_json() {
        return out.json(&json!({
            "event_id": event.event_id,
            "thread": event.thread,
            "event_type": event.event_type,
            "created_at_secs": at,
            "summary": summary.map(as_json),
        }));
    }
    let state = summary.and_then(|summary| id(summary.current_state.as_deref()));
    out.line(format_args!(
        "{DIM}{:>6}{DIM:#}  {}  {BOLD}{:<16}{BOLD:#} {}  {DIM}{}{DIM:#}",
        event.event_id,
        at.map(time).unwrap_or_default(),
        printable(&event.event_type),
        printable(&event.thread),
        state.map(short).unwrap_or_default(),
    ))
}

/// An id, where there is one.
fn id(id: Option<&[u8]>) -> Option<&[u8]> {
    id.filter(|id| !id.is_empty())
}

fn seconds(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.seconds)
}

/// How far it has come, in a word.
fn stage(thread: &ThreadSummary) -> Option<String> {
    let name = thread.thread_state_typed().as_str_name();
    let name = name.strip_prefix("THREAD_STATE_").unwrap_or(name);
    (name != "UNSPECIFIED").then(|| name.to_ascii_lowercase())
}

/// How sure its author is of it, as short as it was given: 0.8 is no binary number.
fn confidence(thread: &ThreadSummary) -> Option<f64> {
    let value = thread.confidence_summary.as_ref()?.value?;
    value.to_string().parse().ok()
}

fn as_json(thread: &ThreadSummary) -> Value {
    let hex = |state: &Option<Vec<u8>>| id(state.as_deref()).map(hex);
    json!({
        "name": thread.name,
        "current_state": hex(&thread.current_state),
        "base_state": hex(&thread.base_state),
        "coordination_status": thread.coordination_status,
        "thread_state": stage(thread),
        "is_current": thread.is_current,
        "is_isolated": thread.is_isolated,
        "path": thread.path,
        "provider": thread.provider,
        "model": thread.model,
        "confidence": confidence(thread),
        "parent_thread": thread.parent_thread,
        "child_threads": thread.child_threads,
        "stack_depth": thread.stack_depth,
        "changed_paths": thread.changed_paths,
        "last_progress_secs": seconds(thread.last_progress_at),
        "last_activity_secs": seconds(thread.last_activity_at),
    })
}
