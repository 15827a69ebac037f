//! `heddle completions` and `heddle man`: written from the same definitions as `--help`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use super::{Cli, Common, Error, Result};

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  heddle completions bash > ~/.local/share/bash-completion/completions/heddle
  heddle completions zsh > ~/.zfunc/_heddle      # a folder of $fpath
  heddle completions fish > ~/.config/fish/completions/heddle.fish";

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  heddle man --dir ~/.local/share/man/man1 && man heddle-capture"
)]
pub(super) struct ManArgs {
    /// Write a page for each command into this folder, which is made where there is none
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(common: &Common, args: CompletionsArgs) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "heddle", &mut script);
    common.out().raw(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(common: &Common, args: ManArgs) -> Result {
    let out = common.out();
    let Some(dir) = args.dir else {
        out.raw(&render(Cli::command())?)?;
        return Ok(ExitCode::SUCCESS);
    };
    fs::create_dir_all(&dir).map_err(Error::io("make the folder of --dir"))?;
    let mut all = Cli::command();
    // What every command takes is then on every page, and each is called as it is typed.
    all.build();
    let mut written = Vec::new();
    write(&all, &dir, &mut written)?;
    if out.is_json() {
        out.json(&json!({ "pages": written }))?;
    } else {
        for page in &written {
            out.line(page)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a command and those of the commands below it.
fn write(command: &Command, dir: &Path, written: &mut Vec<String>) -> Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let path = dir.join(format!("{name}.1"));
    let page = render(command.clone())?;
    fs::write(&path, page).map_err(Error::io("write a page into --dir"))?;
    written.push(path.display().to_string());
    let shown = |below: &&Command| !below.is_hide_set() && below.get_name() != "help";
    for below in command.get_subcommands().filter(shown) {
        write(below, dir, written)?;
    }
    Ok(())
}

fn render(command: Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let version = concat!("heddle ", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command).source(version);
    man.render(&mut page).map_err(Error::Output)?;
    Ok(page)
}
