//! The closed list of writes that a transaction can buffer. A command outlives the release that
//! buffered it: its name has the version of its content, and a version that was released is read for
//! ever.

use std::sync::Arc;

use crate::{
    capture::{CaptureThread, Captures, SnapshotRecord},
    failure::{Failure, Reason},
    hook::{DeregisterHook, Hook, RegisterHook, Registry},
    mutation::{Commands, Parcel, Replayed, Revived},
    thread::{CompleteThread, StartThread, StartedThread, ThreadName},
};

/// A write that can be buffered.
#[derive(Debug, serde::Deserialize)]
#[serde(tag = "kind", content = "body")]
enum Command {
    #[serde(rename = "register_hook.1")]
    RegisterHook(Hook),
    #[serde(rename = "deregister_hook.1")]
    DeregisterHook(String),
    #[serde(rename = "start_thread.1")]
    StartThread(StartedThread),
    #[serde(rename = "complete_thread.1")]
    CompleteThread(ThreadName),
    #[serde(rename = "capture_thread.1")]
    CaptureThread(SnapshotRecord),
}
