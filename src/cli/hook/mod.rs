//! `heddle hook`: the registry here, firing and listening in files of their own.

mod fire;
mod listen;
mod veto_if;

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Common, Error, Result, link::Link, output::printable};
use crate::{
    grpc_local_impl::proto::v1::{
        DeregisterHookRequest, GetHookEventSchemaRequest, Hook, ListHooksRequest,
        RegisterHookRequest, hook_service_client::HookServiceClient,
    },
    local_daemon::parse_duration,
};

#[derive(Debug, Subcommand)]
pub(super) enum HookCommand {
    /// Register a command, or replace the one of that name
    Add(AddArgs),
    /// Remove a hook
    Rm(RmArgs),
    /// List the hooks, in the order of registration
    List,
    /// Print the JSON Schemas of an event's payload and response
    Schema(SchemaArgs),
    /// Fire an event of Git's, as Git's hooks do: exits with 1 when a hook vetoes it
    Run(fire::RunArgs),
    /// Run a hook's command on a sample, and show what it said
    Test(fire::TestArgs),
    /// Follow events as they happen, and answer gates: by a condition, or at a prompt
    Listen(listen::ListenArgs),
    /// What the daemon runs a command by
    #[command(hide = true)]
    Guard(GuardArgs),
}

#[derive(Debug, Args)]
pub(super) struct GuardArgs {
    /// The command line, run by the shell
    command: String,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The hook's name
    name: String,
    /// The command line, run by the shell in the repository's root
    command: String,
    /// An event that it is told of; repeat it for more [default: every event]
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<String>,
    /// How long it may take, such as 5s [default: as configured]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Let a gate pass when the command cannot be run or times out
    #[arg(long)]
    fail_open: bool,
}

#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// The hook's name
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// The event; all of them without one
    event: Option<String>,
}

fn client(link: Link) -> HookServiceClient<Link> {
    HookServiceClient::new(link)
}

/// Stands between the daemon and a hook's command.
pub(super) fn guard(args: &GuardArgs) -> ExitCode {
    crate::hook::guard(&args.command)
}

pub(super) async fn run(common: &Common, command: HookCommand) -> Result {
    match command {
        HookCommand::Add(args) => add(common, args).await,
        HookCommand::Rm(args) => remove(common, args).await,
        HookCommand::List => list(common).await,
        HookCommand::Schema(args) => schema(common, args).await,
        HookCommand::Run(args) => fire::run(common, args).await,
        HookCommand::Test(args) => fire::test(common, args).await,
        HookCommand::Listen(args) => listen::run(common, args).await,
        HookCommand::Guard(args) => Ok(guard(&args)),
    }
}

async fn add(common: &Common, args: AddArgs) -> Result {
    let timeout = match args.timeout.map(|timeout| timeout.as_millis()) {
        Some(0) => {
            return Err(Error::Usage(
                "a hook cannot be given less than 1ms; leave --timeout out for the default"
                    .to_owned(),
            ));
        }
        given => given.unwrap_or_default(),
    };
    let request = RegisterHookRequest {
        name: args.name,
        command: args.command,
        events: args.events,
        timeout_ms: u32::try_from(timeout).unwrap_or(u32::MAX),
        fail_open: args.fail_open,
        client_operation_id: Uuid::new_v4().to_string(),
        ..RegisterHookRequest::default()
    };
    let hook = common
        .call(async |channel| client(channel).register_hook(request.clone()).await)
        .await?;
    let out = common.out();
    if out.is_json() {
        out.json(&as_json(&hook))?;
    } else {
        out.line(format_args!(
            "registered {} for {}",
            printable(&hook.name),
            events(&hook)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(common: &Common, args: RmArgs) -> Result {
    let request = DeregisterHookRequest {
        name: args.name.clone(),
        client_operation_id: Uuid::new_v4().to_string(),
        ..DeregisterHookRequest::default()
    };
    let deleted = common
        .call(async |channel| client(channel).deregister_hook(request.clone()).await)
        .await?
        .deleted;
    let out = common.out();
    if out.is_json() {
        out.json(&json!({ "deleted": deleted }))?;
    } else if deleted {
        out.line(format_args!("removed {}", printable(&args.name)))?;
    }
    if deleted || out.is_json() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Error::Usage(format!(
            "there is no hook {:?}; `heddle hook list` shows those that there are",
            args.name
        )))
    }
}

async fn list(common: &Common) -> Result {
    let request = ListHooksRequest::default();
    let hooks = common
        .call(async |channel| client(channel).list_hooks(request.clone()).await)
        .await?
        .hooks;
    let out = common.out();
    if out.is_json() {
        let hooks: Vec<Value> = hooks.iter().map(as_json).collect();
        out.json(&json!({ "hooks": hooks }))?;
    } else if hooks.is_empty() {
        out.line("no hooks; `heddle hook add` registers one")?;
    } else {
        let rows = hooks.iter().map(|hook| {
            let timeout = match hook.timeout_ms {
                0 => "default".to_owned(),
                ms => format!("{ms} ms"),
            };
            [
                hook.name.clone(),
                events(hook),
                timeout,
                hook.command.clone(),
            ]
        });
        out.table(["name", "events", "timeout", "command"], rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn schema(common: &Common, args: SchemaArgs) -> Result {
    let request = GetHookEventSchemaRequest {
        event_name: args.event.unwrap_or_default(),
    };
    let schemas = common
        .call(async |channel| client(channel).get_hook_event_schema(request.clone()).await)
        .await?;
    let documents: Vec<Value> = schemas
        .schemas
        .iter()
        .map(|schema| {
            // Schemas are JSON already; what is not is shown as it came.
            let parse = |text: &str| {
                serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
            };
            json!({
                "event": schema.event_name,
                "version": schema.schema_version,
                "payload": parse(&schema.payload_schema_json),
                "response": parse(&schema.response_schema_json),
            })
        })
        .collect();
    let out = common.out();
    if out.is_json() {
        out.json(&json!({ "schemas": documents }))?;
    } else {
        for document in &documents {
            // Text for people is the same document, laid out.
            out.line(format_args!("{document:#}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn events(hook: &Hook) -> String {
    if hook.events.is_empty() {
        "every event".to_owned()
    } else {
        hook.events.join(", ")
    }
}

fn as_json(hook: &Hook) -> Value {
    json!({
        "name": hook.name,
        "command": hook.command,
        "events": hook.events,
        "timeout_ms": hook.timeout_ms,
        "fail_open": hook.fail_open,
    })
}
