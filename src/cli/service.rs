//! `heddle agent install`, `uninstall` and `restart`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Common, Error, Result, output::DIM};
use crate::{
    client::{
        self, Stopped,
        service::{self, Installed, Kind, Unit},
    },
    git::Repository,
    local_daemon::default_socket_path,
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
    print: Option<Printable>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Printable {
    Systemd,
    Launchd,
}

pub(super) fn unit(repository: &Repository, name: Option<String>) -> Result<Unit> {
    let heddle = std::env::current_exe().map_err(Error::io("find this executable"))?;
    Ok(Unit {
        instance: name.unwrap_or_else(|| service::default_name(repository.root())),
        heddle,
        repository: repository.root().to_owned(),
        store: repository.store_dir(),
        link: default_socket_path(repository),
    })
}

pub(super) async fn install(common: &Common, args: InstallArgs) -> Result {
    let repository = common.repository()?;
    let unit = unit(&repository, args.name)?;
    let out = common.out();
    if let Some(print) = args.print {
        let kind = match print {
            Printable::Systemd => Kind::Systemd,
            Printable::Launchd => Kind::Launchd,
        };
        for (path, text) in kind.manager().files(&unit)? {
            if out.is_json() {
                out.json(&json!({ "path": path, "text": text }))?;
            } else {
                out.line(format_args!("{DIM}# {}{DIM:#}", path.display()))?;
                out.line(text)?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    repository.folders().create()?;
    let mut done = Vec::new();
    // A daemon that bound for itself lies where the link is to be.
    if args.now
        && Installed::of(&repository).is_none()
        && let Stopped::Drained(pid) = client::stop(&repository, false).await?
    {
        done.push(format!(
            "stopped the daemon that ran by itself (process {pid})"
        ));
    }
    done.extend(service::install(&repository, &unit, args.now)?);
    if let Some(advice) = lingering_advice() {
        done.push(advice);
    }
    report(common, &unit.instance, &done)
}

pub(super) async fn uninstall(common: &Common) -> Result {
    let repository = common.repository()?;
    let unit = unit(&repository, None)?;
    let done = service::uninstall(&repository, &unit)?;
    report(common, &unit.instance, &done)
}

pub(super) async fn restart(common: &Common) -> Result {
    let repository = common.repository()?;
    let out = common.out();
    let how = if let Some(installed) = Installed::of(&repository) {
        let manager = installed.manager.manager();
        manager.restart(&installed.instance)?;
        format!(
            "{} restarted {}",
            installed.manager.name(),
            installed.instance
        )
    } else {
        client::stop(&repository, false).await?;
        let daemon = common.daemon().await?;
        format!("process {} serves now", daemon.status.pid)
    };
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
fn lingering_advice() -> Option<String> {
    if Kind::native() != Kind::Systemd {
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
