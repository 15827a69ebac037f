//! Words that name states, and then paths, told apart as Git does it (gitcli(7)): by `--`, and
//! without one by what there is.

use std::ffi::{OsStr, OsString};

use super::{
    Error, Result,
    here::{Here, exists},
};
use crate::{
    failure::{Failure, Reason},
    grpc_local_impl::proto::local::{
        PreviewRestoreRequest, ResolveStateRequest, RestoreTarget, restore_target::Target,
        worktree_service_client::WorktreeServiceClient,
    },
    symbol::SymbolRef,
};

/// What a command line asks about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// States, as they were written.
    pub(super) states: Vec<String>,
    /// Paths, as requests carry them: none for everything.
    pub(super) paths: Vec<String>,
}

/// Sorts the words before a `--`, of which `most` may name states, and those after it.
///
/// # Errors
/// When a word is neither a state nor a path, or could be both and no `--` says which.
pub(super) async fn sort(
    here: &Here,
    before: &[OsString],
    after: &[OsString],
    most: usize,
) -> Result<Asked> {
    // What a variable that is not set leaves does not mean everything.
    if let Some(empty) = before.iter().find(|word| word.is_empty()) {
        return Err(unknown_state(empty));
    }
    if after.iter().any(|word| word.is_empty()) {
        let message = "an empty path names nothing; leave it out to mean everything";
        return Err(Failure::new(Reason::PathInvalid, message).into());
    }
    // Clap does not tell `x --` from `x`.
    let separated = std::env::args_os().any(|word| word == "--");
    let asked = if separated {
        if before.len() > most {
            let surplus = &before[most];
            return Err(Error::Usage(format!(
                "{surplus:?} stands before the --, where no more than {} can; paths stand after it",
                if most == 1 { "one state" } else { "two states" }
            )));
        }
        let states = before
            .iter()
            .map(|word| state(word))
            .collect::<Result<_>>()?;
        let paths = here.paths(after)?;
        Asked { states, paths }
    } else {
        let states = leading_states(here, before, most).await?;
        let paths = &before[states.len()..];
        // The first word that is no state may be meant as one. The daemon checks the others.
        if let Some(first) = paths.first().filter(|_| states.len() < most)
            && !exists(first)
            && !is_in(here, first, states.last().map(String::as_str)).await?
        {
            return Err(neither(first));
        }
        let paths = here.paths(paths)?;
        Asked { states, paths }
    };
    Ok(asked)
}

fn state(word: &OsStr) -> Result<String> {
    match word.to_str() {
        Some(word) if !word.is_empty() => Ok(word.to_owned()),
        _ => Err(unknown_state(word)),
    }
}

fn unknown_state(word: &OsStr) -> Error {
    let message =
        format!("{word:?} names no state; `heddle log` shows states, `heddle thread list` threads");
    Failure::new(Reason::StateUnknown, message).into()
}

async fn leading_states(here: &Here, words: &[OsString], most: usize) -> Result<Vec<String>> {
    let mut states = Vec::new();
    for word in words.iter().take(most) {
        let Some(name) = word.to_str().filter(|word| !word.is_empty()) else {
            break;
        };
        let is_path = exists(word);
        match resolve(here, name).await {
            Ok(_) if is_path => return Err(both(word)),
            Ok(_) => states.push(name.to_owned()),
            // A short id that could be several is none, where there is such a file.
            Err(error) if is_path && error.is_no_state() => break,
            Err(error) if error.has_reason(Reason::StateUnknown) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(states)
}

/// The state that a name means; the current one where it is empty.
///
/// # Errors
/// When it means none, or no single one.
pub(super) async fn resolve(here: &Here, name: &str) -> Result<Vec<u8>> {
    let request = ResolveStateRequest {
        repo_path: here.repo_path(),
        state: name.to_owned(),
    };
    let send = async |channel| {
        let mut client = WorktreeServiceClient::new(channel);
        client.resolve_state(request.clone()).await
    };
    let resolved = here.call("looking for the state", send).await?;
    Ok(resolved.state_id)
}

/// The symbol, or the file, that a word means: `src/cache.rs:Cache::get`. The file is written from the
/// current folder.
///
/// # Errors
/// As [`Here::path`].
pub(super) fn symbol(here: &Here, written: &str) -> Result<SymbolRef> {
    // A symbol may have colons of its own.
    let (file, symbol) = written.split_once(':').unwrap_or((written, ""));
    Ok(SymbolRef {
        file: here.path(file.as_ref())?,
        symbol: symbol.to_owned(),
    })
}

/// A symbol or a file as [`symbol`] reads it.
pub(super) fn place(here: &Here, file: &str, symbol: &str) -> String {
    SymbolRef {
        file: here.shown(file),
        symbol: symbol.to_owned(),
    }
    .to_string()
}

/// Whether a state, the newest without one, has something at a path where the worktree has nothing.
async fn is_in(here: &Here, path: &OsStr, state: Option<&str>) -> Result<bool> {
    let target = state.map(|state| RestoreTarget {
        target: Some(Target::State(state.to_owned())),
    });
    let request = PreviewRestoreRequest {
        repo_path: here.repo_path(),
        target,
        paths: vec![here.path(path)?],
        ..PreviewRestoreRequest::default()
    };
    let send = async |channel| {
        let mut client = WorktreeServiceClient::new(channel);
        client.preview_restore(request.clone()).await
    };
    match here.call("looking for the path", send).await {
        Ok(_) => Ok(true),
        Err(error) if error.has_reason(Reason::PathUnknown) => Ok(false),
        // There is no state yet.
        Err(error) if state.is_none() && error.has_reason(Reason::StateUnknown) => Ok(false),
        Err(error) => Err(error),
    }
}

fn both(word: &OsStr) -> Error {
    let word = word.display();
    Error::Usage(format!(
        "`{word}` is a state and a path; write `{word} --` for the state, or `-- {word}` for the path"
    ))
}

fn neither(word: &OsStr) -> Error {
    Failure::new(
        Reason::StateUnknown,
        format!(
            "{word:?} is neither a state nor a path that the worktree or the state has; `heddle log` shows states, `heddle thread list` threads; paths may stand after a --"
        ),
    )
    .into()
}
