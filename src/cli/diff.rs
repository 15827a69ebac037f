//! `heddle diff`.

use std::{ffi::OsString, process::ExitCode};

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::{Value, json};

use super::{
    Common, Result, changes,
    here::Here,
    output::{BOLD, DIM, Output, hex, plural, printable},
    words,
};
use crate::grpc_local_impl::proto::local::{
    DiffStatesRequest, DiffStatesResponse, FileChange,
    worktree_service_client::WorktreeServiceClient,
};

const EXAMPLES: &str = "\
Examples:
  heddle diff                    what has changed since the newest state
  heddle diff main               since the branch's newest commit
  heddle diff 1f3a9c 8be210 -p   between two states, as a patch
  heddle diff -- src             in a folder only

A state is any revision of Git's, or the name of a thread. In a pipe the patch is plain, as
`git apply` takes it.";

const HUNK: Style = AnsiColor::Cyan.on_default();
const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(override_usage = "heddle diff [OPTIONS] [FROM [TO]] [--] [PATH]...")]
pub(super) struct DiffArgs {
    /// The older state, by default the newest there is; the newer one, by default the worktree;
    /// then files and folders
    #[arg(value_name = "FROM] [TO] [PATH")]
    words: Vec<OsString>,
    #[arg(last = true, value_name = "PATH", hide = true)]
    paths: Vec<OsString>,
    /// Show what has changed in each file, as a patch
    #[arg(short, long)]
    patch: bool,
    /// Show how many lines were added and removed in each file
    #[arg(long, conflicts_with = "patch")]
    stat: bool,
}

pub(super) async fn run(common: &Common, args: DiffArgs) -> Result {
    let here = common.here()?;
    let asked = words::sort(&here, &args.words, &args.paths, 2).await?;
    let mut states = asked.states.into_iter();
    let request = DiffStatesRequest {
        repo_path: here.repo_path(),
        from: states.next().unwrap_or_default(),
        to: states.next().unwrap_or_default(),
        paths: asked.paths,
        patch: args.patch,
        after_path: String::new(),
    };
    let out = common.out();
    if out.is_json() {
        json_of_all(&out, &here, request).await?;
    } else {
        print_all(&out, &here, request, args.stat).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One answer, which holds as many changes as fit.
async fn page(here: &Here, request: &DiffStatesRequest) -> Result<DiffStatesResponse> {
    let send = async |channel| {
        let mut client = WorktreeServiceClient::new(channel);
        client.diff_states(request.clone()).await
    };
    here.call("comparing", send).await
}

/// Prints page by page: a diff may be larger than memory should be.
async fn print_all(
    out: &Output,
    here: &Here,
    mut request: DiffStatesRequest,
    stat: bool,
) -> Result<()> {
    let mut total = Total::default();
    loop {
        let page = page(here, &request).await?;
        for change in &page.changes {
            total.add(change);
            match (request.patch, stat) {
                (true, _) => print_patch(out, &change.patch)?,
                (false, true) => print_stat(out, change)?,
                (false, false) => changes::line(out, change)?,
            }
        }
        if page.truncated {
            request.after_path = page.next_path;
        } else if request.patch {
            return Ok(());
        } else {
            return total.print(out, stat);
        }
    }
}

/// What all changes together come to.
#[derive(Default)]
struct Total {
    paths: u64,
    added_lines: u64,
    removed_lines: u64,
}

impl Total {
    fn add(&mut self, change: &FileChange) {
        self.paths += 1;
        self.added_lines += u64::from(change.added_lines);
        self.removed_lines += u64::from(change.removed_lines);
    }

    fn print(&self, out: &Output, stat: bool) -> Result<()> {
        if self.paths == 0 {
            return out.line("nothing differs");
        }
        let paths = plural(self.paths, "path differs", "paths differ");
        if !stat {
            return out.line(format_args!("{DIM}{paths}{DIM:#}"));
        }
        let lines = plural(self.added_lines, "line", "lines");
        let (added, removed) = (lines, self.removed_lines);
        out.line(format_args!(
            "{DIM}{paths}, {added} added, {removed} removed{DIM:#}"
        ))
    }
}

fn print_stat(out: &Output, change: &FileChange) -> Result<()> {
    let name = changes::name(change);
    if change.binary {
        return out.line(format_args!("  {:>7} {:>7}  {name}", "binary", ""));
    }
    let (added, removed) = (change.added_lines, change.removed_lines);
    let (added, removed) = (format!("+{added}"), format!("-{removed}"));
    out.line(format_args!(
        "  {ADDED}{added:>7}{ADDED:#} {REMOVED}{removed:>7}{REMOVED:#}  {name}"
    ))
}

/// Plain in a pipe, byte for byte; on a terminal in colour, and unable to steer it.
fn print_patch(out: &Output, patch: &str) -> Result<()> {
    if !out.is_terminal() {
        return out.raw(patch.as_bytes());
    }
    let mut in_hunk = false;
    for line in patch.lines() {
        in_hunk = line.starts_with("@@") || (in_hunk && !line.starts_with("diff "));
        let style = style_of(line, in_hunk);
        // A tab steers nothing, and code is full of them.
        let parts: Vec<String> = line.split('\t').map(printable).collect();
        out.line(format_args!("{style}{}{style:#}", parts.join("\t")))?;
    }
    Ok(())
}

/// How a line of a patch looks. Within a hunk `--- ` is a line that was removed, and no file's name.
fn style_of(line: &str, in_hunk: bool) -> Style {
    match (in_hunk, line.as_bytes().first()) {
        (false, _) => BOLD,
        (true, Some(b'@')) => HUNK,
        (true, Some(b'+')) => ADDED,
        (true, Some(b'-')) => REMOVED,
        (true, _) => Style::new(),
    }
}

async fn json_of_all(out: &Output, here: &Here, mut request: DiffStatesRequest) -> Result<()> {
    let mut changes = Vec::new();
    loop {
        let page = page(here, &request).await?;
        changes.extend(
            page.changes
                .iter()
                .map(|change| as_json(change, request.patch)),
        );
        if !page.truncated {
            return out.json(&json!({
                "from_tree": hex(&page.from_tree),
                "to_tree": hex(&page.to_tree),
                "changes": changes,
            }));
        }
        request.after_path = page.next_path;
    }
}

fn as_json(change: &FileChange, patch: bool) -> Value {
    let mut fields = changes::as_json(change);
    fields.insert("added_lines".to_owned(), change.added_lines.into());
    fields.insert("removed_lines".to_owned(), change.removed_lines.into());
    fields.insert("binary".to_owned(), change.binary.into());
    if patch {
        fields.insert("patch".to_owned(), change.patch.clone().into());
    }
    fields.into()
}
