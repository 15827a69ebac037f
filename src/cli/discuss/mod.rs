//! `heddle discuss open`, `reply`, `resolve`, `list` and `show`; how they are shown, in a file of its own.

mod show;

use std::{
    io::{self, Read},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Common, Error, Result,
    here::Here,
    link::Link,
    output::Output,
    words::{resolve, symbol},
};
use crate::{
    failure::{Failure, Reason},
    grpc_local_impl::proto::v1::{
        AppendTurnRequest, ContextAnnotationKind, Discussion, GetDiscussionRequest,
        ListDiscussionsByStateRequest, ListDiscussionsBySymbolRequest, ListDiscussionsResponse,
        OpenDiscussionRequest, ResolveDiscussionRequest,
        discussion_service_client::DiscussionServiceClient, resolve_discussion_request as settle,
    },
    symbol::SymbolRef,
};
pub(super) use show::{as_json, short_id, status_and_style as status};
use show::{print, row};

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

async fn open(here: &Here, args: OpenArgs) -> Result<Discussion> {
    let request = OpenDiscussionRequest {
        repo_path: here.repo_path(),
        state_id: state(here, &args.state).await?,
        anchor: Some(symbol(here, &args.on)?.into()),
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
    let all = of_state(here, "all", Vec::new()).await?;
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

/// Every discussion that `page` lists: it is asked again, for what comes after the last one, while there
/// are more.
async fn all_pages(
    page: impl AsyncFn(String) -> Result<ListDiscussionsResponse>,
) -> Result<Vec<Discussion>> {
    let mut all: Vec<Discussion> = Vec::new();
    loop {
        let after = all.last().map(|it| it.id.clone()).unwrap_or_default();
        let page = page(after).await?;
        all.extend(page.discussions);
        if !page.truncated {
            return Ok(all);
        }
    }
}

async fn of_state(here: &Here, status: &str, state_id: Vec<u8>) -> Result<Vec<Discussion>> {
    all_pages(async |after_id| {
        let request = ListDiscussionsByStateRequest {
            repo_path: here.repo_path(),
            state_id: state_id.clone(),
            status: status.to_owned(),
            after_id,
        };
        let send = async |channel| client(channel).list_by_state(request.clone()).await;
        here.call("listing discussions", send).await
    })
    .await
}

async fn of_symbol(here: &Here, status: &str, anchor: SymbolRef) -> Result<Vec<Discussion>> {
    all_pages(async |after_id| {
        let request = ListDiscussionsBySymbolRequest {
            repo_path: here.repo_path(),
            anchor: Some(anchor.clone().into()),
            status: status.to_owned(),
            after_id,
        };
        let send = async |channel| client(channel).list_by_symbol(request.clone()).await;
        here.call("listing discussions", send).await
    })
    .await
}

async fn list(out: &Output, here: &Here, args: ListArgs) -> Result {
    let discussions = match &args.on {
        Some(on) => of_symbol(here, &args.status, symbol(here, on)?).await?,
        None => of_state(here, &args.status, state(here, &args.state).await?).await?,
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
