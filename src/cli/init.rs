//! `heddle init`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::json;

use super::{Common, Result};
use crate::git::Repository;

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Any path inside the repository
    path: Option<PathBuf>,
}

pub(super) fn run(common: &Common, args: InitArgs) -> Result {
    let repository = match args.path {
        Some(path) => Repository::open(path)?,
        None => common.repository()?,
    };
    let created = repository.folders().create()?;
    let out = common.out();
    if out.is_json() {
        out.json(&json!({
            "repository": repository.root().display().to_string(),
            "heddle_dir": repository.heddle_dir().display().to_string(),
            "store_dir": repository.store_dir().display().to_string(),
            "created": created.store || created.heddle || created.excluded,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if created.store || created.heddle || created.excluded {
        out.line(format_args!(
            "Prepared {} for heddle",
            repository.root().display()
        ))?;
        out.line(format_args!(
            "  {}  where clients look; may be lost",
            repository.heddle_dir().display()
        ))?;
        out.line(format_args!(
            "  {}  what is kept",
            repository.store_dir().display()
        ))?;
    } else {
        out.line(format_args!(
            "{} is prepared already",
            repository.root().display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
