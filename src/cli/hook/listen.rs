//! `heddle hook listen`: following events live, and answering gates.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    super::{
        Common, Error, Result,
        link::Link,
        output::{BAD, BOLD, DIM, GOOD, NOTE, Output, printable, printable_lines, time, warning},
    },
    client,
    veto_if::VetoIf,
};
use crate::{
    grpc_local_impl::proto::v1::{HookEvent, RespondToHookRequest, SubscribeHookEventsRequest},
    hook,
    local_daemon::parse_duration,
};

/// What a person is given to answer a prompt.
const PROMPT_TIME: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(in crate::cli) struct ListenArgs {
    /// The events [default: every event]
    events: Vec<String>,
    /// Veto a gate whose payload meets EXPR, let others pass: FIELD
    /// contains|starts_with|ends_with|==|!= "TEXT", joined with and, or, not and ( ); a list
    /// meets it when one of its texts does
    #[arg(long, value_name = "EXPR", value_parser = VetoIf::parse)]
    veto_if: Option<VetoIf>,
    /// Only show: let every gate pass, also on a terminal
    #[arg(long, conflicts_with = "veto_if")]
    no_prompt: bool,
    /// How long a gate waits for the answer [default: as configured; 60s for a prompt]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// How gates are answered.
enum Answering {
    If(VetoIf),
    Prompt,
    Pass,
}

pub(super) async fn run(common: &Common, args: ListenArgs) -> Result {
    let out = common.out();
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal() && !out.is_json();
    let answering = match args.veto_if {
        Some(veto_if) => Answering::If(veto_if),
        None if on_terminal && !args.no_prompt => Answering::Prompt,
        None => Answering::Pass,
    };
    let timeout = match (args.timeout, &answering) {
        (Some(Duration::ZERO), _) => {
            return Err(Error::Usage(
                "a gate cannot wait for no time; leave --timeout out for the configured one".into(),
            ));
        }
        (Some(timeout), _) => timeout,
        (None, Answering::Prompt) => PROMPT_TIME,
        (None, _) => Duration::ZERO,
    };
    let request = SubscribeHookEventsRequest {
        events: args.events,
        timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        ..SubscribeHookEventsRequest::default()
    };
    let (link, mut events) = common
        .stream(async |link| client(link).subscribe_hook_events(request.clone()).await)
        .await?;
    if on_terminal {
        out.line(format_args!(
            "{DIM}listening; end it with ^C. Gates pass when nobody answers.{DIM:#}"
        ))?;
    }
    while let Some(event) = events.message().await? {
        show(&out, &event)?;
        if is_gate(&event.event_name) {
            answer(&out, &link, &event, &answering).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A gate that a later daemon has, and this does not know, passes by silence.
fn is_gate(event: &str) -> bool {
    let known = hook::HookEvent::ALL
        .iter()
        .find(|known| known.name() == event);
    known.is_some_and(|event| event.is_gate())
}

async fn answer(out: &Output, link: &Link, event: &HookEvent, answering: &Answering) -> Result<()> {
    let abort = match answering {
        Answering::Pass => String::new(),
        Answering::If(veto_if) => match serde_json::from_str::<Value>(&event.payload_json) {
            Ok(payload) if payload["truncated"] == true => {
                "the change is too large to be looked at whole".to_owned()
            }
            Ok(payload) => veto_if.met_by(&payload).unwrap_or_default(),
            Err(error) => format!("the payload cannot be read: {error}"),
        },
        Answering::Prompt => tokio::task::spawn_blocking(prompt)
            .await
            .map_err(|failed| Error::Output(io::Error::other(failed)))??,
    };
    let request = RespondToHookRequest {
        hook_event_id: event.hook_event_id.clone(),
        abort: abort.clone(),
        ..RespondToHookRequest::default()
    };
    let response = client(link.clone()).respond_to_hook(request).await?;
    if !response.into_inner().accepted {
        warning(&format!(
            "the answer to {} came too late; it has passed",
            event.event_name
        ));
        return Ok(());
    }
    if out.is_json() {
        return out.json(&json!({
            "answered": event.hook_event_id,
            "vetoed": !abort.is_empty(),
            "reason": abort,
        }));
    }
    match abort.as_str() {
        "" => out.line(format_args!("  {GOOD}passed{GOOD:#}")),
        reason => out.line(format_args!(
            "  {BAD}vetoed{BAD:#}: {}",
            printable_lines(reason)
        )),
    }
}

/// Asks the person at the terminal; answers the reason of a veto, or nothing. Blocks.
fn prompt() -> Result<String> {
    let ask = |text: &str| {
        let mut terminal = anstream::stdout().lock();
        write!(terminal, "  {NOTE}{text}{NOTE:#} ")?;
        terminal.flush()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Ok::<_, io::Error>(line.trim().to_owned())
    };
    let said = ask("let it pass? [Y/n, or why not]").map_err(Error::Output)?;
    match said.to_lowercase().as_str() {
        "" | "y" | "yes" => Ok(String::new()),
        "n" | "no" => {
            let reason = ask("why not?").map_err(Error::Output)?;
            Ok(if reason.is_empty() {
                "no".to_owned()
            } else {
                reason
            })
        }
        _ => Ok(said),
    }
}

fn show(out: &Output, event: &HookEvent) -> Result<()> {
    let at = event.emitted_at.unwrap_or_default();
    if out.is_json() {
        let payload = serde_json::from_str(&event.payload_json);
        return out.json(&json!({
            "id": event.hook_event_id,
            "event": event.event_name,
            "emitted_ms": at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000,
            "payload": payload.unwrap_or(Value::Null),
        }));
    }
    out.line(format_args!(
        "{}  {BOLD}{:<18}{BOLD:#} {}",
        time(at.seconds),
        printable(&event.event_name),
        printable(&event.payload_json),
    ))
}
