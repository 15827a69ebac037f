//! `heddle doctor`.

use std::{fmt::Display, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Common, Error, Result, exit,
    here::Here,
    output::{self, BAD, DIM, GOOD, NOTE, Output, plural, printable},
    progress::Progress,
};
use crate::{
    client,
    failure::{Failure, Reason},
    git::Repository,
    grpc_local_impl::proto::local::{
        CheckRepositoryRequest, Finding, finding::Severity,
        upkeep_service_client::UpkeepServiceClient,
    },
    local_daemon::RepositoryLock,
    upkeep,
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
    let mut findings = match ask(&here, args.repair).await {
        Ok(findings) if args.repair && has_damaged_database(&findings) => {
            // It has it open: only when it is gone can another take its place.
            client::stop(here.repository(), false, &output::warning).await?;
            let why = "it had a damaged database open, and was stopped";
            without_daemon(&here, true, &why).await?
        }
        Ok(findings) => findings,
        // The daemon is there, and says why not.
        Err(Error::Client(client::Error::Status(status))) => return Err(status.into()),
        Err(error) => without_daemon(&here, args.repair, &error).await?,
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
    let mut severities = findings.iter().map(Finding::severity);
    let wrong = severities.any(|severity| severity == Severity::Bad);
    Ok(ExitCode::from(if wrong { exit::FAILED } else { 0 }))
}

async fn ask(here: &Here, repair: bool) -> Result<Vec<Finding>> {
    let request = CheckRepositoryRequest {
        repair,
        client_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..CheckRepositoryRequest::default()
    };
    let send = async |channel| {
        let mut client = UpkeepServiceClient::new(channel);
        client.check_repository(request.clone()).await
    };
    Ok(here.call("checking", send).await?.findings)
}

fn has_damaged_database(findings: &[Finding]) -> bool {
    let damaged = |finding: &Finding| {
        finding.area == upkeep::Area::Database.name() && finding.severity() == Severity::Bad
    };
    findings.iter().any(damaged)
}

/// What can be found, and mended, where no daemon can be had.
async fn without_daemon(here: &Here, repair: bool, why: &impl Display) -> Result<Vec<Finding>> {
    let repository = here.repository().clone();
    let looked = tokio::task::spawn_blocking(move || look(&repository, repair));
    let looked = Progress::new("checking without a daemon")
        .during(looked)
        .await;
    let (mended, found) = looked.unwrap_or_else(|failed| {
        let failure = Failure::new(Reason::Internal, format!("the check failed: {failed}"));
        Err(failure)
    })?;
    let mut findings: Vec<Finding> = found.into_iter().map(upkeep_to_proto).collect();
    let is_bad = |finding: &Finding| finding.severity() == Severity::Bad;
    let daemon = if mended && !findings.iter().any(is_bad) {
        match ask(here, false).await {
            Ok(_) => daemon(
                Severity::Repaired,
                "a daemon can be started again".to_owned(),
            ),
            Err(error) => daemon(Severity::Bad, error.to_string()),
        }
    } else {
        daemon(Severity::Bad, why.to_string())
    };
    findings.push(daemon);
    Ok(findings)
}

/// Looks without a daemon, and answers whether it has mended, too. A daemon that holds the lock and
/// does not answer may be at work: then nothing is changed. Blocks.
fn look(
    repository: &Repository,
    repair: bool,
) -> std::result::Result<(bool, Vec<upkeep::Finding>), Failure> {
    let lock = match repair {
        true => RepositoryLock::try_take(&repository.store_dir()).unwrap_or_default(),
        false => None,
    };
    match lock {
        Some(lock) => {
            let guard = Box::new(lock.witness());
            let found = upkeep::repair_without_daemon(repository, guard)?;
            Ok((true, found))
        }
        None => Ok((false, upkeep::check_without_daemon(repository))),
    }
}

fn upkeep_to_proto(found: upkeep::Finding) -> Finding {
    let severity = match found.severity {
        upkeep::Severity::Good => Severity::Good,
        upkeep::Severity::Warning => Severity::Warning,
        upkeep::Severity::Bad => Severity::Bad,
        upkeep::Severity::Repaired => Severity::Repaired,
    };
    Finding {
        area: found.area.name().to_owned(),
        severity: severity.into(),
        message: found.message,
    }
}

fn daemon(severity: Severity, message: String) -> Finding {
    Finding {
        area: "daemon".to_owned(),
        severity: severity.into(),
        message,
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
