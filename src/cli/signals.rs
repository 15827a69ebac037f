//! `heddle signals`: what to look at first in a state.

use std::{collections::HashSet, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Common, Result,
    code_lines::CodeLines,
    here::Here,
    link::Link,
    output::{DIM, Output, hex, plural, short},
    paper::Paper,
    risk::{Signals, as_json, is_visible},
    words::resolve,
};
use crate::grpc_local_impl::proto::v1::{
    ComputeStateSignalsRequest, ComputeStateSignalsResponse, GetRepoSignalHealthRequest,
    signal_service_client::SignalServiceClient,
};

const EXAMPLES: &str = "\
Examples:
  heddle signals                        # of the current state, against the one before it
  heddle signals fix-login --since main # of all that a thread did
  heddle signals HEAD --all             # those beyond the budget of three as well
  heddle signals --health               # how often each module raises one

Signals come from the source as it stands, from what its author said and from hooks; nothing is run.
`[review.signals]` in config.toml turns modules off and sets their thresholds.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SignalsArgs {
    /// The state: any revision or thread [default: the current one]
    #[arg(value_name = "REV")]
    state: Option<String>,
    /// The state to compare with: any revision or thread [default: the one before it]
    #[arg(long, value_name = "REV")]
    since: Option<String>,
    /// Show the hidden ones as well
    #[arg(long)]
    all: bool,
    /// Show how often each module raised one of late
    #[arg(long, conflicts_with_all = ["state", "since", "all"])]
    health: bool,
    /// Captures to look at for that, the newest [default: 50]
    #[arg(
        long,
        value_name = "COUNT",
        requires = "health",
        default_value_t = 0,
        hide_default_value = true
    )]
    window: u32,
}

fn client(link: Link) -> SignalServiceClient<Link> {
    SignalServiceClient::new(link)
}

pub(super) async fn run(common: &Common, args: SignalsArgs) -> Result {
    let (out, here) = (common.out(), common.here()?);
    if args.health {
        return health(&out, &here, args.window).await;
    }
    let state_id = resolve(&here, args.state.as_deref().unwrap_or_default()).await?;
    let prior_state_id = match &args.since {
        Some(since) => resolve(&here, since).await?,
        None => Vec::new(),
    };
    let request = ComputeStateSignalsRequest {
        repo_path: here.repo_path(),
        state_id: state_id.clone(),
        prior_state_id,
    };
    let send = async |channel| client(channel).compute_state_signals(request.clone()).await;
    let answer = here.call("looking for signals", send).await?;
    if out.is_json() {
        let signals: Vec<Value> = answer.signals.iter().map(as_json).collect();
        out.json(&json!({
            "state_id": hex(&state_id),
            "signals": signals,
            "tick_budget": answer.tick_budget,
            "partial": answer.partial,
        }))?;
    } else {
        print(&out, &here, &state_id, &answer, args.all)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(
    out: &Output,
    here: &Here,
    state_id: &[u8],
    answer: &ComputeStateSignalsResponse,
    all: bool,
) -> Result<()> {
    let paper = Paper::new(out);
    let shown = answer.signals.iter().filter(|it| all || is_visible(it));
    let hidden = answer.signals.len() - shown.clone().count();
    let printed = Signals {
        paper: &paper,
        here,
        code: CodeLines::at(here, state_id)?,
        noted: HashSet::new(),
    };
    printed.print(shown)?;
    if answer.signals.is_empty() {
        out.line(format_args!("no signals at {}", short(state_id)))?;
    }
    if hidden > 0 {
        let more = plural(hidden as u64, "more signal", "more signals");
        out.line(format_args!(
            "\n{DIM}{more}: heddle signals {} --all{DIM:#}",
            short(state_id)
        ))?;
    }
    if answer.partial {
        super::output::warning(
            "signals may be missing: the change is too large, or the symbols of the repository are still being read; ask again later",
        );
    }
    Ok(())
}

async fn health(out: &Output, here: &Here, window: u32) -> Result {
    let request = GetRepoSignalHealthRequest {
        repo_path: here.repo_path(),
        window_states: window,
    };
    let send = async |channel| {
        client(channel)
            .get_repo_signal_health(request.clone())
            .await
    };
    let report = here.call("looking at the signals", send).await?;
    if out.is_json() {
        let entries = report.entries.iter().map(|entry| {
            json!({
                "module_id": entry.module_id,
                "fire_rate": entry.fire_rate,
                "warn": entry.warn,
            })
        });
        out.json(&json!({
            "entries": entries.collect::<Vec<_>>(),
            "window_states": report.window_states,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let captures = plural(report.window_states.into(), "capture", "captures");
    let rows = report.entries.iter().map(|entry| {
        let often = format!("{:.0} %", entry.fire_rate * 100.0);
        let warning = if entry.warn {
            "more than half: raise its thresholds, or turn it off"
        } else {
            ""
        };
        [entry.module_id.clone(), often, warning.to_owned()]
    });
    out.table(["module", &format!("of {captures}"), ""], rows)?;
    Ok(ExitCode::SUCCESS)
}
