//! Changes of files, as people and scripts see them.

use serde_json::{Map, Value, json};

use super::{
    Error, Result,
    output::{BAD, DIM, GOOD, NOTE, Output, printable},
};
use crate::{
    failure::{Failure, Reason},
    grpc_local_impl::proto::local::{FileChange, file_change::Kind},
};

/// Prints the changes, a line each, or the first `most` of `count`.
pub(super) fn list(out: &Output, changes: &[FileChange], most: usize, count: usize) -> Result<()> {
    let shown = changes.iter().take(most);
    let printed = shown.len();
    for change in shown {
        line(out, change)?;
    }
    if let more @ 1.. = count - printed {
        out.line(format_args!("  {DIM}and {more} more{DIM:#}"))?;
    }
    Ok(())
}

/// Prints one change: `A path`, `M path`, `D path`, `R old -> new` or `T path`.
pub(super) fn line(out: &Output, change: &FileChange) -> Result<()> {
    let (letter, style) = match change.kind() {
        Kind::Added => ('A', GOOD),
        Kind::Deleted => ('D', BAD),
        Kind::Renamed => ('R', NOTE),
        Kind::TypeChanged => ('T', NOTE),
        Kind::Modified | Kind::Unspecified => ('M', NOTE),
    };
    out.line(format_args!("  {style}{letter}{style:#} {}", name(change)))
}

/// What the change is of: its path, and the one before where it has another now.
pub(super) fn name(change: &FileChange) -> String {
    let path = printable(&change.path);
    match change.kind() {
        Kind::Renamed => format!("{} -> {path}", printable(&change.old_path)),
        _ => path,
    }
}

/// One change as a script gets it.
pub(super) fn as_json(change: &FileChange) -> Map<String, Value> {
    let kind = match change.kind() {
        Kind::Added => "added",
        Kind::Modified => "modified",
        Kind::Deleted => "deleted",
        Kind::Renamed => "renamed",
        Kind::TypeChanged => "type_changed",
        Kind::Unspecified => "unspecified",
    };
    let mode = |mode: u32| (mode != 0).then(|| format!("{mode:06o}"));
    let old_path = (!change.old_path.is_empty()).then_some(&change.old_path);
    let fields = [
        ("path", json!(change.path)),
        ("kind", json!(kind)),
        ("old_path", json!(old_path)),
        ("old_mode", json!(mode(change.old_mode))),
        ("new_mode", json!(mode(change.new_mode))),
    ];
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// All of them as a script gets them.
pub(super) fn all_as_json(changes: &[FileChange]) -> Vec<Value> {
    changes
        .iter()
        .map(|change| as_json(change).into())
        .collect()
}

/// An answer that says that there is more, and has nothing itself: asking on would never end.
pub(super) fn stuck() -> Error {
    Failure::new(
        Reason::Internal,
        "the daemon answers nothing of what there is still to tell",
    )
    .into()
}
