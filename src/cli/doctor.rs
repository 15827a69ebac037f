//! `heddle doctor`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{
    Common, Error, Result, exit,
    output::{BAD, DIM, GOOD, NOTE, Output, plural, printable},
};
use crate::{
    client,
    grpc_local_impl::proto::local::{
        CheckRepositoryRequest, Finding, finding::Severity,
        upkeep_service_client::UpkeepServiceClient,
    },
};

const EXAMPLES: &str = "\
Examples:
  heddle doctor             look, and change nothing
  heddle doctor --repair    mend what can be mended

Exit status 0 when all is well or was mended, and 1 when something is wrong still. Where no daemon
can be started, what can be looked at without one is.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DoctorArgs {
    /// Mend what can be mended, such as refs that were deleted
    #[arg(long)]
    repair: bool,
}

pub(super) async fn run(common: &Common, args: DoctorArgs) -> Result {
    let here = common.here()?;
    let request = CheckRepositoryRequest {
        repair: args.repair,
        ..CheckRepositoryRequest::default()
    };
    let send = async |channel| {
        let mut client = UpkeepServiceClient::new(channel);
        client.check_repository(request.clone()).await
    };
    let mut findings = match here.call("checking", send).await {
        Ok(checked) => checked.findings,
        Err(Error::Client(client::Error::Status(status))) => return Err(status.into()),
        Err(error) => vec![no_daemon(&error)],
    };
    // What is wrong comes last, next to the prompt; of its kind each stays where it was found.
    findings.sort_by_key(|finding| rank(finding.severity()));
    let out = common.out();
    if out.is_json() {
        let findings: Vec<Value> = findings.iter().map(as_json).collect();
        out.json(&json!({ "findings": findings }))?;
    } else {
        print(&out, &findings)?;
    }
    let wrong = findings
        .iter()
        .any(|finding| finding.severity() == Severity::Bad);
    Ok(ExitCode::from(if wrong { exit::FAILED } else { 0 }))
}

fn no_daemon(error: &Error) -> Finding {
    Finding {
        area: "daemon".to_owned(),
        severity: Severity::Bad.into(),
        message: error.to_string(),
    }
}

fn rank(severity: Severity) -> u8 {
    match severity {
        Severity::Good | Severity::Unspecified => 0,
        Severity::Repaired => 1,
        Severity::Warning => 2,
        Severity::Bad => 3,
    }
}

fn print(out: &Output, findings: &[Finding]) -> Result<()> {
    for finding in findings {
        let style = match finding.severity() {
            Severity::Good => GOOD,
            Severity::Bad => BAD,
            Severity::Warning | Severity::Repaired | Severity::Unspecified => NOTE,
        };
        out.line(format_args!(
            "{style}{:<9}{style:#}{DIM}{:<10}{DIM:#}{}",
            name(finding.severity()),
            printable(&finding.area),
            printable(&finding.message)
        ))?;
    }
    let count = |severity| findings.iter().filter(|f| f.severity() == severity).count() as u64;
    let (bad, mended) = (count(Severity::Bad), count(Severity::Repaired));
    let warnings = plural(count(Severity::Warning), "warning", "warnings");
    out.line(format_args!(
        "{DIM}{bad} bad, {warnings}, {mended} repaired{DIM:#}"
    ))
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Good => "good",
        Severity::Warning => "warning",
        Severity::Bad => "bad",
        Severity::Repaired => "repaired",
        Severity::Unspecified => "unknown",
    }
}

fn as_json(finding: &Finding) -> Value {
    json!({
        "area": finding.area,
        "severity": name(finding.severity()),
        "message": finding.message,
    })
}
