//! Discussions on a terminal, in a table and in JSON.

use anstyle::Style;
use prost_types::Timestamp;
use serde_json::{Value, json};

use super::super::{
    Result,
    output::{BOLD, DIM, GOOD, NOTE, Output, ago, hex, printable, short},
};
use crate::{
    grpc_local_impl::proto::v1::{Discussion, PathSymbolRef, discussion_resolution::State},
    symbol::SymbolRef,
};

/// Letters of an id that are shown: its last ones, which are random; the first tell the time.
const SHOWN_OF_ID: usize = 8;

pub(in crate::cli) fn short_id(id: &str) -> &str {
    &id[id.len().saturating_sub(SHOWN_OF_ID)..]
}

fn about(anchor: Option<&PathSymbolRef>) -> String {
    let anchor = anchor.cloned().map(SymbolRef::from);
    anchor.map(|it| it.to_string()).unwrap_or_default()
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

/// Where it stands, and how that is shown.
pub(in crate::cli) fn status_and_style(discussion: &Discussion) -> (String, Style) {
    let style = match state_of(discussion) {
        None | Some(State::Open(_)) => NOTE,
        Some(_) => GOOD,
    };
    (status(discussion), style)
}

pub(super) fn row(discussion: &Discussion) -> [String; 5] {
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

pub(super) fn print(out: &Output, discussion: &Discussion) -> Result<()> {
    let (status, style) = status_and_style(discussion);
    out.line(format_args!(
        "{BOLD}{}{BOLD:#}  {style}{}{style:#}  {DIM}{}{DIM:#}",
        printable(&about(discussion.anchor.as_ref())),
        status,
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

pub(in crate::cli) fn as_json(discussion: &Discussion) -> Value {
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
