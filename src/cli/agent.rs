//! `heddle agent status`, `stop` and `address`.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Common, Error, Result, exit,
    output::{self, BAD, BOLD, DIM, GOOD, Output, bytes, plural, printable, span, time},
    serve::ServeArgs,
    service::{self, InstallArgs},
};
use crate::{
    client::{self, ANSWER_DEADLINE, Found, Stopped, service::Service},
    git::Repository,
    grpc_local_impl::proto::local::{GetStatusResponse, IndexProgress, listener::Origin},
};

#[derive(Debug, Subcommand)]
pub(super) enum AgentCommand {
    /// Run the daemon in this process, in the foreground
    Serve(ServeArgs),
    /// Tell whether the daemon serves, and what it is doing
    Status,
    /// Stop the daemon and wait until its process is gone
    Stop(StopArgs),
    /// Stop the daemon and start it again
    Restart,
    /// Have the service manager start the daemon on demand
    Install(InstallArgs),
    /// Undo what `install` did
    Uninstall,
    /// Print the address that any gRPC client can open
    Address(AddressArgs),
}

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    /// Replace also a daemon that does not answer, by signals
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct AddressArgs {
    /// Start the daemon if it does not serve yet
    #[arg(long)]
    start: bool,
}

pub(super) async fn run(common: &Common, command: AgentCommand) -> Result {
    match command {
        AgentCommand::Serve(args) => super::serve::run(common, args),
        AgentCommand::Status => status(common).await,
        AgentCommand::Stop(args) => stop(common, args).await,
        AgentCommand::Restart => service::restart(common).await,
        AgentCommand::Install(args) => service::install(common, args).await,
        AgentCommand::Uninstall => service::uninstall(common).await,
        AgentCommand::Address(args) => address(common, args).await,
    }
}

async fn status(common: &Common) -> Result {
    let repository = common.repository()?;
    let out = common.out();
    let root = repository.root().display().to_string();
    let (code, state, detail) = match client::find(&repository, ANSWER_DEADLINE).await {
        Found::Serving(daemon) => {
            if out.is_json() {
                out.json(&as_json(&daemon.status))?;
            } else {
                print(&out, &daemon.status)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Found::NotRunning => (exit::NOT_RUNNING, "not running", held_by(&repository)),
        Found::Between => (
            exit::WEDGED,
            "starting or stopping",
            client::NOBODY_LISTENS.to_owned(),
        ),
        Found::Wedged(why) => (exit::WEDGED, "wedged", why),
    };
    if out.is_json() {
        out.json(&json!({
            "state": state.replace(' ', "_"),
            "repository": root,
            "detail": detail,
        }))?;
    } else if code == exit::NOT_RUNNING {
        out.line(format_args!("{BOLD}not running{BOLD:#}  {root}"))?;
        let who = match detail.as_str() {
            "" => "The first command that needs it starts it.".to_owned(),
            held => format!("The first call starts it: {held}."),
        };
        out.line(format_args!("{DIM}{who}{DIM:#}"))?;
    } else {
        out.line(format_args!("{BAD}wedged{BAD:#}  {root}"))?;
        out.line(format_args!(
            "A process holds the lock and does not answer: {detail}."
        ))?;
        out.line("Replace it with `heddle agent stop --force`.")?;
    }
    Ok(ExitCode::from(code))
}

/// Which service manager listens for the daemon, if one does.
fn held_by(repository: &Repository) -> String {
    let Some(service) = Service::of(repository) else {
        return String::new();
    };
    let (manager, name) = (service.manager.name(), service.name());
    if service.is_listening() {
        format!("{manager} holds its socket, as {name}")
    } else {
        format!("{manager} has it installed as {name} and does not listen now")
    }
}

fn print(out: &Output, status: &GetStatusResponse) -> Result<()> {
    out.line(format_args!(
        "{GOOD}serving{GOOD:#}  {}",
        printable(&status.repository)
    ))?;
    for (name, value) in facts(status) {
        out.line(format_args!("  {DIM}{name:<9}{DIM:#}{}", printable(&value)))?;
    }
    if status.methods.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let rows = status.methods.iter().map(|method| {
        [
            method.method.trim_start_matches('/').to_owned(),
            method.calls.to_string(),
            method.failures.to_string(),
            micros(method.p50_micros),
            micros(method.p99_micros),
        ]
    });
    out.table(["method", "calls", "failed", "p50", "p99"], rows)
}

/// What `agent status` tells of a daemon, a line each.
fn facts(status: &GetStatusResponse) -> Vec<(&'static str, String)> {
    let started = status.started_at.map_or(0, |at| at.seconds);
    let up = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(started.max(0) as u64))
        .unwrap_or_default();
    let process = format!(
        "{} (heddle {}), since {} ({})",
        status.pid,
        status.version,
        time(started),
        span(up)
    );
    let listener = status.listener.clone().unwrap_or_default();
    let socket = format!("{} ({})", listener.path, origin(listener.origin()));
    let load = format!(
        "{}, {} in flight, {}",
        plural(status.connections.into(), "connection", "connections"),
        plural(status.calls_in_flight.into(), "call", "calls"),
        plural(status.open_streams.into(), "stream", "streams"),
    );
    let store = status.store.unwrap_or_default();
    let store = format!(
        "{} and {} of log; {}; {} in {} since the start",
        bytes(store.database_bytes),
        bytes(store.wal_bytes),
        plural(store.operations, "operation", "operations"),
        plural(store.writes, "write", "writes"),
        plural(store.commits, "commit", "commits"),
    );
    let leaves = match status.idle_deadline {
        Some(deadline) => format!("at {} unless it is called before", time(deadline.seconds)),
        None => "when it is stopped".to_owned(),
    };
    vec![
        ("process", process),
        ("socket", socket),
        ("load", load),
        ("store", store),
        ("symbols", symbols(&status.index.unwrap_or_default())),
        ("leaves", leaves),
    ]
}

/// How far the index of symbols is.
fn symbols(index: &IndexProgress) -> String {
    let left_out = [
        (index.too_large, "too large"),
        (index.binary, "binary"),
        (index.generated, "generated"),
        (index.vendored, "vendored"),
    ];
    let left_out = left_out.iter().filter(|(count, _)| *count > 0);
    let left_out: Vec<_> = left_out
        .map(|(count, why)| format!("{count} {why}"))
        .collect();
    let mut text = format!(
        "{} in {}",
        plural(index.files.into(), "file", "files"),
        bytes(index.database_bytes)
    );
    if !left_out.is_empty() {
        text += &format!("; left out: {}", left_out.join(", "));
    }
    if index.unreadable > 0 {
        text += &format!("; {} that Git cannot read", index.unreadable);
    }
    if index.to_do > 0 {
        text += &format!("; {} to look at", index.to_do);
    } else if index.running {
        text += "; being written";
    } else if !index.whole {
        text += "; not all of HEAD is in";
    }
    text
}

fn micros(micros: u64) -> String {
    match micros {
        0 => "-".to_owned(),
        1..10_000 => format!("{micros} us"),
        _ => format!("{} ms", micros / 1_000),
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::OwnBind => "bound by the daemon",
        Origin::Inherited => "held by the service manager",
        Origin::Unspecified => "unknown",
    }
}

fn as_json(status: &GetStatusResponse) -> Value {
    let seconds = |at: &Option<prost_types::Timestamp>| at.map(|at| at.seconds);
    let methods: Vec<Value> = status
        .methods
        .iter()
        .map(|method| {
            json!({
                "method": method.method,
                "calls": method.calls,
                "failures": method.failures,
                "p50_micros": method.p50_micros,
                "p99_micros": method.p99_micros,
            })
        })
        .collect();
    let store = status.store.unwrap_or_default();
    let listener = status.listener.clone().unwrap_or_default();
    let index = status.index.unwrap_or_default();
    json!({
        "state": "serving",
        "repository": status.repository,
        "git_dir": status.git_dir,
        "version": status.version,
        "pid": status.pid,
        "started_at_secs": seconds(&status.started_at),
        "listener": { "origin": origin(listener.origin()), "path": listener.path },
        "connections": status.connections,
        "calls_in_flight": status.calls_in_flight,
        "open_streams": status.open_streams,
        "idle_deadline_secs": seconds(&status.idle_deadline),
        "store": {
            "database_bytes": store.database_bytes,
            "wal_bytes": store.wal_bytes,
            "operations": store.operations,
            "writes": store.writes,
            "commits": store.commits,
        },
        "index": {
            "files": index.files,
            "too_large": index.too_large,
            "binary": index.binary,
            "generated": index.generated,
            "vendored": index.vendored,
            "to_do": index.to_do,
            "whole": index.whole,
            "running": index.running,
            "parsed": index.parsed,
            "database_bytes": index.database_bytes,
            "unreadable": index.unreadable,
        },
        "methods": methods,
    })
}

async fn stop(common: &Common, args: StopArgs) -> Result {
    let repository = common.repository()?;
    let stopped = client::stop(&repository, args.force, &output::warning).await?;
    let (pid, how) = match stopped {
        Stopped::NotRunning => (None, "not_running"),
        Stopped::Drained(pid) => (Some(pid), "drained"),
        Stopped::Forced(pid) => (Some(pid), "forced"),
    };
    let out = common.out();
    if out.is_json() {
        out.json(&json!({
            "repository": repository.root().display().to_string(),
            "result": how,
            "pid": pid,
        }))?;
    } else {
        match stopped {
            Stopped::NotRunning => out.line("not running")?,
            Stopped::Drained(pid) => out.line(format_args!("stopped process {pid}"))?,
            Stopped::Forced(pid) => {
                out.line(format_args!("ended process {pid}, which did not answer"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn address(common: &Common, args: AddressArgs) -> Result {
    let repository = common.repository()?;
    if args.start {
        common.daemon().await?;
    }
    let address = client::address(&repository).map_err(Error::io("tell the address"))?;
    let out = common.out();
    if out.is_json() {
        out.json(&json!({ "address": address }))?;
    } else {
        out.line(address)?;
    }
    Ok(ExitCode::SUCCESS)
}
