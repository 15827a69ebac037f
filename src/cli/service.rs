//! `heddle agent install`, `uninstall` and `restart`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{
    Common, Error, Result,
    output::{self, DIM},
};
use crate::client::{
    self, Stopped,
    service::{self, Kind, Service, Unit},
};

#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    /// The service's name: `systemctl --user start heddle-agent@NAME` [default: the folder's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Listen at once, not only from the next login on
    #[arg(long)]
    now: bool,
    /// Only print what would be written, and change nothing
    #[arg(long, value_enum, value_name = "MANAGER")]
    print: Option<Manager>,
    /// Install for this service manager and not for the one that the machine has: to test it
    #[arg(long, value_enum, value_name = "MANAGER", hide = true)]
    manager: Option<Manager>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Manager {
    Systemd,
    Launchd,
}

impl From<Manager> for Kind {
    fn from(manager: Manager) -> Self {
        match manager {
            Manager::Systemd => Self::Systemd,
            Manager::Launchd => Self::Launchd,
        }
    }
}

pub(super) async fn install(common: &Common, args: InstallArgs) -> Result {
    let repository = common.repository()?;
    let heddle = std::env::current_exe().map_err(Error::io("find this executable"))?;
    let name = args.name;
    let name = name.unwrap_or_else(|| service::default_name(repository.root()));
    let manager = args.print.or(args.manager);
    let service = Service {
        manager: manager.map_or_else(Kind::native, Kind::from),
        unit: Unit::new(&repository, name, heddle),
    };
    if args.print.is_some() {
        return print(common, &service);
    }
    repository.folders().create()?;
    let mut done = Vec::new();
    // A daemon that bound for itself lies where the link is to be.
    if args.now
        && Service::installed(&repository).is_none()
        && let Stopped::Drained(pid) = client::stop(&repository, false, &output::warning).await?
    {
        done.push(format!(
            "stopped the daemon that ran by itself (process {pid})"
        ));
    }
    done.extend(service::install(&repository, &service, args.now)?);
    if let Some(advice) = lingering_advice(service.manager) {
        done.push(advice);
    }
    report(common, &service.unit.instance, &done)
}

fn print(common: &Common, service: &Service) -> Result {
    let out = common.out();
    for (path, text) in service.manager.manager().files(&service.unit)? {
        if out.is_json() {
            out.json(&json!({ "path": path, "text": text }))?;
        } else {
            out.line(format_args!("{DIM}# {}{DIM:#}", path.display()))?;
            out.line(text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn uninstall(common: &Common) -> Result {
    let (instance, done) = service::uninstall(&common.repository()?)?;
    report(common, &instance, &done)
}

pub(super) async fn restart(common: &Common) -> Result {
    let repository = common.repository()?;
    let (service, daemon) = client::restart(&repository, &output::warning).await?;
    let serves = format!("process {} serves now", daemon.status.pid);
    let how = match service {
        Some(service) => format!(
            "{} restarted {}: {serves}",
            service.manager.name(),
            service.unit.instance
        ),
        None => serves,
    };
    let out = common.out();
    if out.is_json() {
        out.json(&json!({ "result": how }))?;
    } else {
        out.line(how)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn report(common: &Common, instance: &str, done: &[String]) -> Result {
    let out = common.out();
    if out.is_json() {
        out.json(&json!({ "instance": instance, "done": done }))?;
    } else {
        for line in done {
            out.line(line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A user without lingering has no manager, and so no services, while logged out (loginctl(1)).
fn lingering_advice(manager: Kind) -> Option<String> {
    if manager != Kind::Systemd {
        return None;
    }
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).ok()??;
    let lingers = PathBuf::from("/var/lib/systemd/linger").join(&user.name);
    (!lingers.exists()).then(|| {
        format!(
            "note: {} has no lingering, so systemd ends its services at logout; `loginctl enable-linger` keeps them",
            user.name
        )
    })
}
