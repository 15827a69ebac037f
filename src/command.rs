//! The closed list of writes that a transaction can buffer. A command outlives the release that
//! buffered it: its name has the version of its content, and a version that was released is read for
//! ever.

use std::sync::Arc;

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    capture::{CaptureRecord, PreparedCapture},
    discussion::{AppendedTurn, OpenedDiscussion, ResolvedDiscussion},
    failure::{Failure, Reason},
    hook::{DeregisterHook, Hook, RegisterHook, Registry},
    mutation::{Carried, Mutation, Parcel, Replayed},
    review::SignedStatement,
    store::HookRecord,
    thread::{CompletedThread, StartedThread},
    transaction::Commands,
};

/// A write that can be buffered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Command {
    #[serde(rename = "register_hook.1")]
    RegisterHook,
    #[serde(rename = "deregister_hook.1")]
    DeregisterHook,
    #[serde(rename = "start_thread.1")]
    StartThread,
    #[serde(rename = "complete_thread.1")]
    CompleteThread,
    #[serde(rename = "capture_thread.1")]
    CaptureThread,
    #[serde(rename = "record_statement.1")]
    RecordStatement,
    #[serde(rename = "open_discussion.1")]
    OpenDiscussion,
    #[serde(rename = "append_turn.1")]
    AppendTurn,
    #[serde(rename = "resolve_discussion.1")]
    ResolveDiscussion,
}

/// Makes changes of buffered commands again.
pub struct Reviver {
    hooks: Arc<Registry>,
}

impl Reviver {
    /// Changes to this registry, among others.
    pub fn new(hooks: Arc<Registry>) -> Self {
        Self { hooks }
    }
}

impl Commands for Reviver {
    fn revive(&self, parcel: &Parcel) -> Result<Box<dyn Replayed>, Failure> {
        let kind = serde_json::Value::from(parcel.kind.as_str());
        let command = Command::deserialize(kind).map_err(|_| damaged(parcel))?;
        Ok(match command {
            Command::RegisterHook => {
                let hook = Hook::of(content::<HookRecord>(parcel)?)?;
                again(RegisterHook::new(hook, Arc::clone(&self.hooks)))
            }
            Command::DeregisterHook => {
                let kept = content(parcel)?;
                again(DeregisterHook::again(kept, Arc::clone(&self.hooks)))
            }
            Command::StartThread => again(content::<StartedThread>(parcel)?),
            Command::RecordStatement => again(content::<SignedStatement>(parcel)?),
            Command::CompleteThread => again(content::<CompletedThread>(parcel)?),
            Command::OpenDiscussion => again(content::<OpenedDiscussion>(parcel)?),
            Command::AppendTurn => again(content::<AppendedTurn>(parcel)?),
            Command::ResolveDiscussion => again(content::<ResolvedDiscussion>(parcel)?),
            Command::CaptureThread => {
                let record: CaptureRecord = content(parcel)?;
                again(PreparedCapture::of(record).ok_or_else(|| damaged(parcel))?)
            }
        })
    }
}

/// Its call was answered when it was buffered.
fn again(change: impl Mutation) -> Box<dyn Replayed> {
    Box::new(Carried::new(change, |_| Vec::new()))
}

fn content<T: DeserializeOwned>(parcel: &Parcel) -> Result<T, Failure> {
    serde_json::from_str(&parcel.body).map_err(|e| {
        tracing::error!("a buffered {} cannot be read: {e}", parcel.kind);
        damaged(parcel)
    })
}

fn damaged(parcel: &Parcel) -> Failure {
    let kind: String = parcel.kind.chars().take(64).collect();
    Failure::new(
        Reason::StoreCorrupt,
        format!(
            "a buffered call ({kind:?}) is damaged, or of a newer heddle; abort the transaction and begin anew, or use the heddle that buffered it"
        ),
    )
}
