//! `heddle log`.

use std::{
    cell::Cell,
    ops::ControlFlow::{Break, Continue},
    process::ExitCode,
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Common, Result,
    link::Link,
    output::{BOLD, DIM, Output, hex, printable, short, time, warning},
};
use crate::{
    grpc_local_impl::proto::v1::{
        OperationHit, QueryOperationsRequest, StreamOperationsRequest,
        operation_log_query_service_client::OperationLogQueryServiceClient,
    },
    local_daemon::parse_duration,
};

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Show the newest COUNT operations, or end a --follow after as many [default: 100]
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<u32>,
    /// Show what matches, oldest first, then go on as operations are committed
    #[arg(short, long)]
    follow: bool,
    /// With --follow: begin after this sequence number; nothing is missed and nothing seen twice
    #[arg(long, value_name = "SEQ", requires = "follow")]
    after: Option<u64>,
    /// Not before this time: 2h (ago), 2026-11-23, or 2026-11-23T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<i64>,
    /// Not after this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<i64>,
    /// By this email
    #[arg(long, value_name = "EMAIL")]
    actor: Option<String>,
    /// On this thread
    #[arg(long, value_name = "NAME")]
    thread: Option<String>,
    /// Of this kind, such as hook_register; repeat it for more
    #[arg(long = "verb", value_name = "VERB")]
    verbs: Vec<String>,
    /// Touching this symbol: file:symbol, or the symbol alone
    #[arg(long, value_name = "SYMBOL")]
    symbol: Option<String>,
    /// Raising a signal of this kind
    #[arg(long, value_name = "KIND")]
    signal: Option<String>,
    /// Also commits and branch moves made with plain Git
    #[arg(long)]
    checkpoints: bool,
}

fn client(link: Link) -> OperationLogQueryServiceClient<Link> {
    OperationLogQueryServiceClient::new(link)
}

pub(super) async fn run(common: &Common, args: LogArgs) -> Result {
    let query = QueryOperationsRequest {
        actor: args.actor.unwrap_or_default(),
        symbol: args.symbol.unwrap_or_default(),
        signal_kind: args.signal.unwrap_or_default(),
        thread: args.thread.unwrap_or_default(),
        verbs: args.verbs,
        since_secs: args.since.unwrap_or_default(),
        until_secs: args.until.unwrap_or_default(),
        limit: args.limit.unwrap_or_default(),
        include_checkpoints: args.checkpoints,
        ..QueryOperationsRequest::default()
    };
    let out = common.out();
    if args.follow {
        follow(common, &out, query, args.after.unwrap_or_default()).await
    } else {
        show(common, &out, query).await
    }
}

async fn show(common: &Common, out: &Output, query: QueryOperationsRequest) -> Result {
    let answer = common
        .call(async |channel| client(channel).query_operations(query.clone()).await)
        .await?;
    for hit in &answer.hits {
        print(out, hit)?;
    }
    if answer.truncated {
        warning(
            "more operations match than one answer holds; narrow it with --since, --until or --verb, or read all with --follow",
        );
    }
    if answer.hits.is_empty() && !out.is_json() {
        out.line("no operations")?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn follow(
    common: &Common,
    out: &Output,
    query: QueryOperationsRequest,
    after_seq: u64,
) -> Result {
    let limit = query.limit;
    let printed = Cell::new(0);
    let open = async |channel, after_seq| {
        // What an earlier daemon has delivered counts.
        let left = limit.saturating_sub(printed.get());
        let query = QueryOperationsRequest {
            limit: left,
            ..query.clone()
        };
        let request = StreamOperationsRequest {
            query: Some(query),
            after_seq,
            ..StreamOperationsRequest::default()
        };
        client(channel).stream_operations(request).await
    };
    let here = common.here()?;
    let followed = here.follow(after_seq, open, |hit| {
        print(out, &hit)?;
        printed.set(printed.get() + 1);
        let enough = limit != 0 && printed.get() == limit;
        Ok(if enough { Break(()) } else { Continue(hit.seq) })
    });
    followed.await?;
    Ok(ExitCode::SUCCESS)
}

fn print(out: &Output, hit: &OperationHit) -> Result<()> {
    if out.is_json() {
        return out.json(&as_json(hit));
    }
    let agent = match hit.agent.as_str() {
        "" => String::new(),
        agent => format!(" via {}", printable(agent)),
    };
    out.line(format_args!(
        "{DIM}{:>6}{DIM:#}  {}  {BOLD}{:<18}{BOLD:#} {:<10}  {}  {DIM}{}{agent}{DIM:#}",
        hit.seq,
        time(hit.timestamp_secs),
        printable(&hit.verb),
        short(&hit.state_id),
        printable(&hit.summary),
        printable(&hit.actor_email),
    ))
}

fn as_json(hit: &OperationHit) -> Value {
    json!({
        "seq": hit.seq,
        "timestamp_secs": hit.timestamp_secs,
        "verb": hit.verb,
        "summary": hit.summary,
        "actor_name": hit.actor_name,
        "actor_email": hit.actor_email,
        "agent": hit.agent,
        "operation_id": hit.operation_id,
        "thread": hit.thread,
        "state_id": hex(&hit.state_id),
        "symbols": hit.symbols,
        "signal_kinds": hit.signal_kinds,
    })
}

/// A point in time: how long ago, a date, or a date and time with or without a time zone.
fn parse_time(text: &str) -> std::result::Result<i64, String> {
    let now = jiff::Timestamp::now().as_second();
    if let Ok(ago) = parse_duration(text) {
        return Ok(now.saturating_sub_unsigned(ago.as_secs()));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_second());
    }
    let local = text.parse::<jiff::civil::DateTime>().ok();
    local
        .and_then(|at| at.to_zoned(jiff::tz::TimeZone::system()).ok())
        .map(|at| at.timestamp().as_second())
        .ok_or_else(|| {
            format!("{text:?} is not a time; write 2h, 2026-11-23 or 2026-11-23T18:00:00Z")
        })
}
