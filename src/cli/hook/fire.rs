//! `heddle hook run` and `heddle hook test`.

use std::{io::Read, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::{
    Common, Error, Result,
    link::Link,
    output::{BAD, BOLD, DIM, GOOD, Output, printable, printable_lines},
};
use crate::{
    grpc_local_impl::proto::local::{
        FireHookEventRequest, TryHookRequest, TryHookResponse,
        hook_run_service_client::HookRunServiceClient,
    },
    hook::PAYLOAD_LIMIT,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    /// pre_merge, pre_push, on_conflict, post_merge or post_push
    event: String,
    /// What it is about: a JSON object, or - for standard input [default: one with empty fields]
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TestArgs {
    /// The hook's name
    name: String,
    /// The event to run it for [default: the first that it is told of]
    #[arg(long, value_name = "EVENT")]
    event: Option<String>,
    /// What it is given: a JSON object, or - for standard input [default: a sample]
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
}

fn client(link: Link) -> HookRunServiceClient<Link> {
    HookRunServiceClient::new(link)
}

pub(super) async fn run(common: &Common, args: RunArgs) -> Result {
    let request = FireHookEventRequest {
        event_name: args.event,
        payload_json: payload(args.payload)?,
        client_operation_id: Uuid::new_v4().to_string(),
        ..FireHookEventRequest::default()
    };
    let heard = common
        .call(async |link| client(link).fire_hook_event(request.clone()).await)
        .await?
        .heard;
    let out = common.out();
    if out.is_json() {
        out.json(&json!({ "heard": heard }))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn test(common: &Common, args: TestArgs) -> Result {
    let request = TryHookRequest {
        name: args.name.clone(),
        event_name: args.event.unwrap_or_default(),
        payload_json: payload(args.payload)?,
        ..TryHookRequest::default()
    };
    let tried = common
        .call(async |link| client(link).try_hook(request.clone()).await)
        .await?;
    let out = common.out();
    if out.is_json() {
        out.json(&as_json(&args.name, &tried))?;
    } else {
        show(&out, &args.name, &tried)?;
    }
    Ok(if tried.vetoed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn payload(given: Option<String>) -> Result<String> {
    match given.as_deref() {
        Some("-") => {
            let mut text = String::new();
            // One byte more than the daemon takes, so that it is the daemon that says so.
            let limit = PAYLOAD_LIMIT as u64 + 1;
            std::io::stdin()
                .take(limit)
                .read_to_string(&mut text)
                .map_err(Error::io("read the payload from standard input"))?;
            Ok(text)
        }
        _ => Ok(given.unwrap_or_default()),
    }
}

fn show(out: &Output, name: &str, tried: &TryHookResponse) -> Result<()> {
    let took = tried.took_micros as f64 / 1_000.0;
    let name = printable(name);
    let event = &tried.event_name;
    match (tried.vetoed, tried.is_gate) {
        (false, _) => out.line(format_args!(
            "{GOOD}passes{GOOD:#} {BOLD}{name}{BOLD:#} on {event}, after {took:.1} ms"
        ))?,
        (true, true) => out.line(format_args!(
            "{BAD}vetoes{BAD:#} {BOLD}{name}{BOLD:#} on {event}, after {took:.1} ms: {}",
            printable_lines(&tried.reason)
        ))?,
        (true, false) => out.line(format_args!(
            "{BAD}fails{BAD:#} {BOLD}{name}{BOLD:#} on {event}, after {took:.1} ms: {}",
            printable_lines(&tried.reason)
        ))?,
    }
    part(out, "payload", &tried.payload_json)?;
    if let Some(status) = tried.exit_status {
        part(out, "exit status", &status.to_string())?;
    }
    part(out, "stdout", &tried.stdout)?;
    part(out, "stderr", &tried.stderr)?;
    for signal in &tried.extra_signals_json {
        part(out, "signal", signal)?;
    }
    if tried.truncated {
        out.line("it wrote more than 64 KiB, of which no more is kept")?;
    }
    Ok(())
}

/// Bytes of one part that a person is shown; `--output json` has all.
const SHOWN: usize = 4 * 1024;

fn part(out: &Output, name: &str, text: &str) -> Result<()> {
    let text = text.trim_end();
    let shown = &text[..text.floor_char_boundary(SHOWN)];
    let more = (shown.len() < text.len()).then_some("… and more");
    for (at, line) in shown.lines().chain(more).enumerate() {
        let name = if at == 0 { name } else { "" };
        out.line(format_args!("{DIM}{name:>12}{DIM:#}  {}", printable(line)))?;
    }
    Ok(())
}

fn as_json(name: &str, tried: &TryHookResponse) -> Value {
    let signals = tried.extra_signals_json.iter();
    let signals: Vec<Value> = signals
        .map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())))
        .collect();
    json!({
        "hook": name,
        "event": tried.event_name,
        "is_gate": tried.is_gate,
        "vetoed": tried.vetoed,
        "reason": tried.reason,
        "exit_status": tried.exit_status,
        "timed_out": tried.timed_out,
        "stdout": tried.stdout,
        "stderr": tried.stderr,
        "truncated": tried.truncated,
        "took_micros": tried.took_micros,
        "extra_signals": signals,
        "payload": serde_json::from_str(&tried.payload_json).unwrap_or(Value::Null),
    })
}
