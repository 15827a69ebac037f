//! `heddle discuss open`, `reply`, `resolve`, `list` and `show`.

use std::{
    io::{self, Read},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Common, Error, Result,
    here::Here,
    link::Link,
    output::{BOLD, DIM, GOOD, NOTE, Output, ago, hex, printable, short},
    words::resolve,
};
use crate::{
    failure::{Failure, Reason},
    grpc_local_impl::proto::v1::{
        AppendTurnRequest, ContextAnnotationKind, Discussion, GetDiscussionRequest,
        ListDiscussionsByStateRequest, ListDiscussionsBySymbolRequest, OpenDiscussionRequest,
        PathSymbolRef, ResolveDiscussionRequest, discussion_resolution::State,
        discussion_service_client::DiscussionServiceClient, resolve_discussion_request as settle,
    },
};

/// Letters of an id that are shown: its last ones, which are random; the first tell the time.
const SHOWN_OF_ID: usize = 8;

#[derive(Debug, Subcommand)]
pub(super) enum DiscussCommand {
    /// Open a discussion of a symbol, or of a file
    Open(OpenArgs),
    /// Add a turn to an open discussion
    Reply(ReplyArgs),
    /// Settle a discussion for good
    Resolve(ResolveArgs),
    /// List discussions, as they look at a state
    List(ListArgs),
    /// Show one discussion, as it looks at a state
    Show(ShowArgs),
}

const OPEN_EXAMPLES: &str = "\
Examples:
  heddle discuss open src/cache.rs:Cache::get -m 'What if the key is empty?'
  heddle discuss open README.md -m - < question.txt

A symbol is named with those around it, joined with `::`, in every language. The discussion follows
it through edits, renames and moves.";

#[derive(Debug, Args)]
#[command(after_help = OPEN_EXAMPLES)]
pub(super) struct OpenArgs {
    /// What it is about: a file, or a symbol in it
    #[arg(value_name = "FILE[:SYMBOL]")]
    on: String,
    #[command(flatten)]
    message: MessageArgs,
    /// The state: any revision or thread [default: the current one]
    #[arg(
        long,
        value_name = "REV",
        default_value = "",
        hide_default_value = true
    )]
    state: String,
    /// For whom it is meant: public, internal, team:ID, restricted:LABEL or private:LABEL
    #[arg(
        long,
        value_name = "WHOM",
        default_value = "",
        hide_default_value = true
    )]
    visibility: String,
    /// The thread that it belongs to
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    thread: String,
}

#[derive(Debug, Args)]
struct MessageArgs {
    /// What to say; `-` reads it from standard input
    #[arg(short, long = "message", value_name = "TEXT")]
    message: String,
}

impl MessageArgs {
    fn text(self) -> Result<String> {
        if self.message != "-" {
            return Ok(self.message);
        }
        let mut text = String::new();
        let read = io::stdin().lock().read_to_string(&mut text);
        read.map_err(|e| Error::Usage(format!("standard input cannot be read as text: {e}")))?;
        Ok(text.trim_end().to_owned())
    }
}

#[derive(Debug, Args)]
pub(super) struct ReplyArgs {
    /// The discussion: its id, or the end of it
    id: String,
    #[command(flatten)]
    message: MessageArgs,
}

#[derive(Debug, Args)]
pub(super) struct ResolveArgs {
    /// The discussion: its id, or the end of it
    id: String,
    #[command(flatten)]
    how: How,
    /// Words to find the annotation by; repeat it for more
    #[arg(long = "tag", value_name = "WORD", requires = "content")]
    tags: Vec<String>,
    /// What the annotation says about the code
    #[arg(long = "kind", value_parser = ["constraint", "invariant", "rationale"], default_value = "invariant", requires = "content")]
    kind: String,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct How {
    /// Keep what came of it as an annotation of the symbol
    #[arg(long = "annotate", value_name = "TEXT")]
    content: Option<String>,
    /// A change settles it: that of this state [default: the current one]
    #[arg(long, value_name = "REV", num_args = 0..=1, default_missing_value = "")]
    by_edit: Option<String>,
    /// Nothing is to be done, because of this
    #[arg(long, value_name = "WHY")]
    dismiss: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The state: any revision or thread [default: the current one]
    #[arg(value_name = "REV", default_value = "", hide_default_value = true)]
    state: String,
    /// Which ones
    #[arg(long, value_parser = ["open", "resolved", "orphaned", "all"], default_value = "open")]
    status: String,
    /// Only those of this file or symbol, as it is now
    #[arg(long = "on", value_name = "FILE[:SYMBOL]", conflicts_with = "state")]
    on: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The discussion: its id, or the end of it
    id: String,
    /// The state: any revision or thread [default: the current one]
    #[arg(value_name = "REV", default_value = "", hide_default_value = true)]
    state: String,
}

fn client(link: Link) -> DiscussionServiceClient<Link> {
    DiscussionServiceClient::new(link)
}

pub(super) async fn run(common: &Common, command: DiscussCommand) -> Result {
    let out = common.out();
    let here = common.here()?;
    let discussion = match command {
        DiscussCommand::List(args) => return list(&out, &here, args).await,
        DiscussCommand::Open(args) => open(&here, args).await?,
        DiscussCommand::Reply(args) => reply(&here, args).await?,
        DiscussCommand::Resolve(args) => settled(&here, args).await?,
        DiscussCommand::Show(args) => {
            let id = find(&here, &args.id).await?;
            show(&here, id, state(&here, &args.state).await?).await?
        }
    };
    if out.is_json() {
        out.json(&as_json(&discussion))?;
    } else {
        print(&out, &discussion)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The id of a state that is named; empty, which the daemon takes for the current one, for none.
async fn state(here: &Here, name: &str) -> Result<Vec<u8>> {
    match name {
        "" => Ok(Vec::new()),
        name => resolve(here, name).await,
    }
}

/// A symbol may have colons of its own: `src/cache.rs:Cache::get`.
fn anchor(here: &Here, written: &str) -> Result<PathSymbolRef> {
    let (file, symbol) = written.split_once(':').unwrap_or((written, ""));
    Ok(PathSymbolRef {
        file: here.path(file.as_ref())?,
        symbol: symbol.to_owned(),
    })
}

async fn open(here: &Here, args: OpenArgs) -> Result<Discussion> {
    let request = OpenDiscussionRequest {
        repo_path: here.repo_path(),
        state_id: state(here, &args.state).await?,
        anchor: Some(anchor(here, &args.on)?),
        body: args.message.text()?,
        visibility: args.visibility,
        thread_ref: args.thread,
        client_operation_id: Uuid::new_v4().to_string(),
    };
    let send = async |channel| client(channel).open_discussion(request.clone()).await;
    here.call("opening the discussion", send).await
}

async fn reply(here: &Here, args: ReplyArgs) -> Result<Discussion> {
    let request = AppendTurnRequest {
        repo_path: here.repo_path(),
        discussion_id: find(here, &args.id).await?,
        body: args.message.text()?,
        client_operation_id: Uuid::new_v4().to_string(),
    };
    let send = async |channel| client(channel).append_turn(request.clone()).await;
    here.call("replying", send).await
}

async fn settled(here: &Here, args: ResolveArgs) -> Result<Discussion> {
    let How {
        content,
        by_edit,
        dismiss,
    } = args.how;
    let resolution = if let Some(content) = content {
        let kind = match args.kind.as_str() {
            "constraint" => ContextAnnotationKind::Constraint,
            "rationale" => ContextAnnotationKind::Rationale,
            // Clap lets no other through.
            _ => ContextAnnotationKind::Invariant,
        };
        settle::Resolution::IntoAnnotation(settle::ResolveIntoAnnotation {
            kind: kind.into(),
            content,
            tags: args.tags,
        })
    } else if let Some(name) = by_edit {
        let state_id = resolve(here, &name).await?;
        settle::Resolution::ByEdit(settle::ResolveByEdit { state_id })
    } else {
        let reason = dismiss.unwrap_or_default();
        settle::Resolution::Dismissed(settle::ResolveDismissed { reason })
    };
    let request = ResolveDiscussionRequest {
        repo_path: here.repo_path(),
        discussion_id: find(here, &args.id).await?,
        resolution: Some(resolution),
        client_operation_id: Uuid::new_v4().to_string(),
    };
    let send = async |channel| client(channel).resolve_discussion(request.clone()).await;
    here.call("resolving the discussion", send).await
}

async fn show(here: &Here, discussion_id: String, state_id: Vec<u8>) -> Result<Discussion> {
    let request = GetDiscussionRequest {
        repo_path: here.repo_path(),
        discussion_id,
        state_id,
    };
    let send = async |channel| client(channel).get_discussion(request.clone()).await;
    here.call("looking for the discussion", send).await
}

/// The id that is meant: a whole one, or the only one that begins or ends so.
async fn find(here: &Here, written: &str) -> Result<String> {
    if Uuid::try_parse(written).is_ok() {
        return Ok(written.to_owned());
    }
    let wanted = written.to_ascii_lowercase();
    let all = all(here, "all", Vec::new()).await?;
    let is_meant =
        |id: &str| !wanted.is_empty() && (id.ends_with(&wanted) || id.starts_with(&wanted));
    let mut found = all.into_iter().map(|it| it.id).filter(|id| is_meant(id));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => {
            let message = format!(
                "there is no discussion {written:?}; `heddle discuss list --status all` has all"
            );
            Err(Failure::new(Reason::DiscussionUnknown, message).into())
        }
        (Some(one), Some(other)) => Err(Error::Usage(format!(
            "{written:?} could be {one} or {other}; give more of the id"
        ))),
    }
}

async fn all(here: &Here, status: &str, state_id: Vec<u8>) -> Result<Vec<Discussion>> {
    let mut all: Vec<Discussion> = Vec::new();
    loop {
        let request = ListDiscussionsByStateRequest {
            repo_path: here.repo_path(),
            state_id: state_id.clone(),
            status: status.to_owned(),
            after_id: all.last().map(|it| it.id.clone()).unwrap_or_default(),
        };
        let send = async |channel| client(channel).list_by_state(request.clone()).await;
        let page = here.call("listing discussions", send).await?;
        all.extend(page.discussions);
        if !page.truncated {
            return Ok(all);
        }
    }
}

async fn of_symbol(here: &Here, status: &str, anchor: PathSymbolRef) -> Result<Vec<Discussion>> {
    let mut all: Vec<Discussion> = Vec::new();
    loop {
        let request = ListDiscussionsBySymbolRequest {
            repo_path: here.repo_path(),
            anchor: Some(anchor.clone()),
            status: status.to_owned(),
            after_id: all.last().map(|it| it.id.clone()).unwrap_or_default(),
        };
        let send = async |channel| client(channel).list_by_symbol(request.clone()).await;
        let page = here.call("listing discussions", send).await?;
        all.extend(page.discussions);
        if !page.truncated {
            return Ok(all);
        }
    }
}

async fn list(out: &Output, here: &Here, args: ListArgs) -> Result {
    let discussions = match &args.on {
        Some(on) => of_symbol(here, &args.status, anchor(here, on)?).await?,
        None => all(here, &args.status, state(here, &args.state).await?).await?,
    };
    if out.is_json() {
        let discussions: Vec<Value> = discussions.iter().map(as_json).collect();
        out.json(&json!({ "discussions": discussions }))?;
    } else if discussions.is_empty() {
        let which = match args.status.as_str() {
            "all" => "no discussions".to_owned(),
            status => format!("no {status} discussions"),
        };
        out.line(format_args!("{which}; `heddle discuss open` opens one"))?;
    } else {
        out.table(
            ["id", "about", "status", "turns", "last said"],
            discussions.iter().map(row),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn short_id(id: &str) -> &str {
    &id[id.len().saturating_sub(SHOWN_OF_ID)..]
}

fn about(anchor: Option<&PathSymbolRef>) -> String {
    match anchor {
        Some(PathSymbolRef { file, symbol }) if symbol.is_empty() => file.clone(),
        Some(PathSymbolRef { file, symbol }) => format!("{file}:{symbol}"),
        None => String::new(),
    }
}

fn state_of(discussion: &Discussion) -> Option<&State> {
    discussion.resolution.as_ref()?.state.as_ref()
}

fn status(discussion: &Discussion) -> String {
    let mut words = vec![match state_of(discussion) {
        None | Some(State::Open(_)) => "open",
        Some(State::IntoAnnotation(_)) => "annotated",
        Some(State::ByEdit(_)) => "edited",
        Some(State::Dismissed(_)) => "dismissed",
    }];
    if discussion.orphaned {
        words.push("orphaned");
    } else if discussion.body_changed_since_open {
        words.push("changed");
    }
    words.join(", ")
}

fn row(discussion: &Discussion) -> [String; 5] {
    let last = discussion.turns.last();
    let first_line = last.and_then(|turn| turn.body.lines().next());
    let mut said: String = first_line.unwrap_or_default().chars().take(48).collect();
    if first_line.is_some_and(|line| line.len() > said.len()) {
        said.push('…');
    }
    [
        short_id(&discussion.id).to_owned(),
        about(discussion.anchor.as_ref()),
        status(discussion),
        discussion.turns.len().to_string(),
        said,
    ]
}

fn print(out: &Output, discussion: &Discussion) -> Result<()> {
    let style = match state_of(discussion) {
        None | Some(State::Open(_)) => NOTE,
        Some(_) => GOOD,
    };
    out.line(format_args!(
        "{BOLD}{}{BOLD:#}  {style}{}{style:#}  {DIM}{}{DIM:#}",
        printable(&about(discussion.anchor.as_ref())),
        status(discussion),
        discussion.id,
    ))?;
    let moved = discussion.anchor != discussion.opened_on;
    let mut opened = short(&discussion.opened_against_state);
    if moved {
        opened += &format!(", on {}", about(discussion.opened_on.as_ref()));
    }
    let mut facts = vec![("opened at", opened)];
    let other = |text: &str, usual: &str| (text != usual).then(|| text.to_owned());
    facts.extend(other(&discussion.thread_ref, "").map(|it| ("thread", it)));
    facts.extend(other(&discussion.visibility, "public").map(|it| ("for", it)));
    match state_of(discussion) {
        Some(State::IntoAnnotation(into)) => facts.push(("annotation", into.annotation_id.clone())),
        Some(State::ByEdit(by)) => facts.push(("edited in", short(&by.state_id))),
        Some(State::Dismissed(why)) => facts.push(("dismissed", why.reason.clone())),
        None | Some(State::Open(_)) => {}
    }
    out.facts(facts)?;
    for turn in &discussion.turns {
        let when = seconds(turn.posted_at.as_ref()).map(ago);
        out.line("")?;
        out.line(format_args!(
            "  {BOLD}{}{BOLD:#}  {DIM}{}{DIM:#}",
            printable(&turn.author_name),
            when.unwrap_or_default(),
        ))?;
        for line in turn.body.lines() {
            out.line(format_args!("  {}", printable(line)))?;
        }
    }
    Ok(())
}

fn seconds(at: Option<&Timestamp>) -> Option<i64> {
    at.map(|at| at.seconds)
}

fn place_as_json(place: Option<&PathSymbolRef>) -> Value {
    place.map_or(
        Value::Null,
        |place| json!({ "file": place.file, "symbol": place.symbol }),
    )
}

fn as_json(discussion: &Discussion) -> Value {
    let turns = discussion.turns.iter().map(|turn| {
        json!({
            "author_name": turn.author_name,
            "author_email": turn.author_email,
            "body": turn.body,
            "posted_at_secs": seconds(turn.posted_at.as_ref()),
        })
    });
    let resolution = match state_of(discussion) {
        None | Some(State::Open(_)) => json!({ "how": "open" }),
        Some(State::IntoAnnotation(into)) => {
            json!({ "how": "into_annotation", "annotation_id": into.annotation_id })
        }
        Some(State::ByEdit(by)) => json!({ "how": "by_edit", "state_id": hex(&by.state_id) }),
        Some(State::Dismissed(why)) => json!({ "how": "dismissed", "reason": why.reason }),
    };
    json!({
        "id": discussion.id,
        "anchor": place_as_json(discussion.anchor.as_ref()),
        "opened_on": place_as_json(discussion.opened_on.as_ref()),
        "opened_against_state": hex(&discussion.opened_against_state),
        "opened_at_secs": seconds(discussion.opened_at.as_ref()),
        "thread": discussion.thread_ref,
        "visibility": discussion.visibility,
        "body_changed_since_open": discussion.body_changed_since_open,
        "orphaned": discussion.orphaned,
        "resolution": resolution,
        "turns": turns.collect::<Vec<_>>(),
    })
}
