//! The writes on discussions: one file each, and here what they share.

mod append;
mod open;
mod resolve;

use uuid::Uuid;

use super::{Discussion, DiscussionRecord, Discussions, Seen, TurnRecord, settled, unknown};
use crate::{
    failure::{Failure, Reason},
    git::Identity,
    mutation::{Entry, Verb, now_millis},
    store::WriteTx,
};

pub use append::{AppendTurn, AppendedTurn};
pub use open::{OpenDiscussion, OpenRequest, OpenedDiscussion};
pub use resolve::{ResolveDiscussion, ResolvedDiscussion, Settlement};

fn turn(author: &Identity, body: &str) -> TurnRecord {
    TurnRecord {
        author_name: author.name.clone(),
        author_email: author.email.clone(),
        body: body.to_owned(),
        posted_ms: now_millis(),
    }
}

/// What a discussion's symbol is at the current state, where that is known: a discussion that is opened
/// in the same transaction is not yet, and a branch without a commit has no state. Blocks.
fn seen_now(discussions: &Discussions, repo_path: &str, id: Uuid) -> Result<Option<Seen>, Failure> {
    match discussions.one(id, repo_path, &[]) {
        Ok(discussion) => Ok(Some(discussion.seen)),
        Err(failure) => match failure.reason {
            Reason::DiscussionUnknown | Reason::StateUnknown => Ok(None),
            _ => Err(failure),
        },
    }
}

/// An open discussion, as the store has it now.
fn still_open(tx: &WriteTx<'_>, id: Uuid) -> Result<DiscussionRecord, Failure> {
    let record = tx.reads().discussion(id)?.ok_or_else(|| unknown(id))?;
    match record.resolution {
        None => Ok(record),
        Some(_) => Err(settled(&record)),
    }
}

fn entry(verb: Verb, discussion: &Discussion, what: &str) -> Entry {
    let record = &discussion.record;
    let anchor = &discussion.seen.anchor;
    let named = Some(anchor).filter(|anchor| !anchor.symbol.is_empty());
    let symbols = named.into_iter().map(ToString::to_string);
    Entry {
        thread: (!record.thread.is_empty()).then(|| record.thread.clone()),
        state_id: Some(record.opened_against.clone()),
        symbols: symbols.collect(),
        ..Entry::new(verb, format!("{what} the discussion of `{anchor}`"))
    }
}
