//! `heddle gc`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::{
    Common, Result,
    output::{DIM, bytes, plural},
};
use crate::grpc_local_impl::proto::local::{
    CollectGarbageRequest, CollectGarbageResponse, upkeep_service_client::UpkeepServiceClient,
};

const EXAMPLES: &str = "\
Examples:
  heddle gc --dry-run       what would go
  heddle gc --keep-days 7 && git gc

Whole chains of captures go, oldest first: those that a commit or a rewind has ended, and that
are past both their number and their age. What a thread, a transaction, a signature or a
discussion needs stays. `git gc` then frees the disk.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct GcArgs {
    /// Only tell what would go
    #[arg(long)]
    dry_run: bool,
    /// Keep the newest N ended chains of each thread [default: as configured]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_chains: Option<u32>,
    /// Keep chains that ended within N days [default: as configured]
    #[arg(long, value_name = "N")]
    keep_days: Option<u32>,
}

pub(super) async fn run(common: &Common, args: GcArgs) -> Result {
    let here = common.here()?;
    let request = CollectGarbageRequest {
        dry_run: args.dry_run,
        keep_chains: args.keep_chains.unwrap_or_default(),
        keep_days: args.keep_days,
        client_operation_id: Uuid::new_v4().to_string(),
        ..CollectGarbageRequest::default()
    };
    let send = async |channel| {
        let mut client = UpkeepServiceClient::new(channel);
        client.collect_garbage(request.clone()).await
    };
    let collected = here.call("collecting garbage", send).await?;
    let out = common.out();
    if out.is_json() {
        out.json(&json!({
            "dry_run": args.dry_run,
            "dropped_chains": collected.dropped_chains,
            "dropped_states": collected.dropped_states,
            "freed_objects": collected.freed_objects,
            "freed_bytes": collected.freed_bytes,
            "kept_chains": collected.kept_chains,
        }))?;
    } else {
        for line in said(&collected, args.dry_run) {
            out.line(line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn said(collected: &CollectGarbageResponse, dry_run: bool) -> Vec<String> {
    let kept = plural(collected.kept_chains.into(), "ended chain", "ended chains");
    if collected.dropped_chains == 0 {
        return vec![format!("nothing to drop; {kept} kept")];
    }
    let dropped = if dry_run { "would drop" } else { "dropped" };
    let chains = plural(collected.dropped_chains.into(), "chain", "chains");
    let states = plural(collected.dropped_states.into(), "state", "states");
    let objects = plural(collected.freed_objects, "object", "objects");
    let freed = bytes(collected.freed_bytes);
    vec![
        format!("{dropped} {chains} of {states}; {kept} kept"),
        format!("{DIM}`git gc` then removes {objects}, {freed}{DIM:#}"),
    ]
}
