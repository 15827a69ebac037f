//! `heddle diff`.

use std::{
    ffi::OsString,
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::{Value, json};

use super::{
    Common, Error, Result, changes,
    here::Here,
    output::{BOLD, DIM, Output, hex, plural, printable},
    words,
};
use crate::{
    git::Patch,
    grpc_local_impl::proto::local::{
        DiffStatesRequest, DiffStatesResponse, FileChange, file_change::Kind,
        worktree_service_client::WorktreeServiceClient,
    },
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
        ..DiffStatesRequest::default()
    };
    let diff = whole(&here, request.clone()).await?;
    let out = common.out();
    let (from, to) = (hex(&diff.from_tree), hex(&diff.to_tree));
    let patch = args.patch.then_some(Patch {
        from: &from,
        to: &to,
        paths: &request.paths,
        // For a person it would be noise.
        binary: !out.is_json() && !out.is_terminal(),
    });
    match (out.is_json(), patch) {
        (true, patch) => print_json(&out, &here, &diff, patch)?,
        (false, Some(patch)) => print_patch(&out, &here, patch)?,
        (false, None) => print(&out, &diff, args.stat)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// How often a comparison that takes several answers is begun anew.
const ATTEMPTS: usize = 3;

/// All that differs, however many answers it takes; of one moment.
async fn whole(here: &Here, request: DiffStatesRequest) -> Result<DiffStatesResponse> {
    for _ in 0..ATTEMPTS {
        if let Some(diff) = of_one_moment(here, request.clone()).await? {
            return Ok(diff);
        }
    }
    Err(Error::Usage(
        "the worktree changes faster than it can be compared; try again, or name two states"
            .to_owned(),
    ))
}

/// All that differs; `None` when the worktree has changed between two answers.
async fn of_one_moment(
    here: &Here,
    mut request: DiffStatesRequest,
) -> Result<Option<DiffStatesResponse>> {
    let mut whole: Option<DiffStatesResponse> = None;
    loop {
        let send = async |channel| {
            let mut client = WorktreeServiceClient::new(channel);
            client.diff_states(request.clone()).await
        };
        let mut page = here.call("comparing", send).await?;
        let whole = whole.get_or_insert_with(|| DiffStatesResponse {
            changes: Vec::new(),
            ..page.clone()
        });
        if (&whole.from_tree, &whole.to_tree) != (&page.from_tree, &page.to_tree) {
            return Ok(None);
        }
        let gets_on = !page.changes.is_empty();
        whole.changes.append(&mut page.changes);
        if !page.truncated {
            return Ok(Some(std::mem::take(whole)));
        }
        if !gets_on {
            return Err(changes::stuck());
        }
        request.after_path = page.next_path;
    }
}

fn print(out: &Output, diff: &DiffStatesResponse, stat: bool) -> Result<()> {
    if diff.changes.is_empty() {
        return out.line("nothing differs");
    }
    for change in &diff.changes {
        if stat {
            print_stat(out, change)?;
        } else {
            changes::line(out, change)?;
        }
    }
    let paths = plural(diff.changes.len() as u64, "path differs", "paths differ");
    if !stat {
        return out.line(format_args!("{DIM}{paths}{DIM:#}"));
    }
    let sum =
        |lines: fn(&FileChange) -> u32| diff.changes.iter().map(|c| u64::from(lines(c))).sum();
    let added = plural(sum(|change| change.added_lines), "line", "lines");
    let removed: u64 = sum(|change| change.removed_lines);
    out.line(format_args!(
        "{DIM}{paths}, {added} added, {removed} removed{DIM:#}"
    ))
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
fn print_patch(out: &Output, here: &Here, patch: Patch<'_>) -> Result<()> {
    if !out.is_terminal() {
        let mut stdout = BufWriter::new(io::stdout().lock());
        here.repository()
            .patch(patch, |line| stdout.write_all(line).map_err(Error::Output))?;
        return stdout.flush().map_err(Error::Output);
    }
    let mut in_hunk = false;
    here.repository().patch(patch, |line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        in_hunk = line.starts_with(b"@@") || (in_hunk && !line.starts_with(FILE));
        let style = style_of(line, in_hunk);
        // A tab steers nothing, and code is full of them.
        let text = String::from_utf8_lossy(line);
        let parts: Vec<String> = text.split('\t').map(printable).collect();
        out.line(format_args!("{style}{}{style:#}", parts.join("\t")))
    })
}

/// How the patch of a file begins. Each line of content has another character before it.
const FILE: &[u8] = b"diff --git ";

/// How a line of a patch looks. Within a hunk `--- ` is a line that was removed, and no file's name.
fn style_of(line: &[u8], in_hunk: bool) -> Style {
    match (in_hunk, line.first()) {
        (false, _) => BOLD,
        (true, Some(b'@')) => HUNK,
        (true, Some(b'+')) => ADDED,
        (true, Some(b'-')) => REMOVED,
        (true, _) => Style::new(),
    }
}

fn print_json(
    out: &Output,
    here: &Here,
    diff: &DiffStatesResponse,
    patch: Option<Patch<'_>>,
) -> Result<()> {
    let with_patch = patch.is_some();
    let mut patches = match patch {
        Some(patch) => by_file(here, patch)?.into_iter(),
        None => Vec::new().into_iter(),
    };
    let changes = diff.changes.iter().map(|change| {
        let mut fields = changes::as_json(change);
        fields.insert("added_lines".to_owned(), change.added_lines.into());
        fields.insert("removed_lines".to_owned(), change.removed_lines.into());
        fields.insert("binary".to_owned(), change.binary.into());
        if with_patch {
            // A change of type is one file that goes and one that comes.
            let parts = if change.kind() == Kind::TypeChanged {
                2
            } else {
                1
            };
            let patch: Vec<u8> = patches.by_ref().take(parts).flatten().collect();
            let text = String::from_utf8_lossy(&patch).into_owned();
            fields.insert("patch".to_owned(), text.into());
        }
        Value::from(fields)
    });
    out.json(&json!({
        "from_tree": hex(&diff.from_tree),
        "to_tree": hex(&diff.to_tree),
        "changes": changes.collect::<Vec<_>>(),
    }))
}

/// The patches of single files, in the order of the changes.
fn by_file(here: &Here, patch: Patch<'_>) -> Result<Vec<Vec<u8>>> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    here.repository().patch(patch, |line| {
        if line.starts_with(FILE) {
            files.push(Vec::new());
        }
        if let Some(file) = files.last_mut() {
            file.extend_from_slice(line);
        }
        Ok::<_, Error>(())
    })?;
    Ok(files)
}
