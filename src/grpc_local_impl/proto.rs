//! The generated messages and services, and what their descriptors say of them.

use std::{collections::HashSet, sync::OnceLock};

use prost::Message;
use prost_types::FileDescriptorSet;

/// `heddle.v1`: the shared contract.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("heddle.v1");
}

/// `heddle.local.v1`: what only this daemon offers.
#[allow(missing_docs, clippy::all)]
pub mod local {
    tonic::include_proto!("heddle.local.v1");
}

/// The descriptors of every file in `proto/`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The services in `proto/`, by their full names.
pub const SERVICES: &[&str] = &[
    "heddle.v1.HookService",
    "heddle.v1.OperationLogQueryService",
    "heddle.v1.TransactionService",
    "heddle.v1.DiscussionService",
    "heddle.v1.StateReviewService",
    "heddle.v1.SignalService",
    "heddle.v1.ThreadWorkflowService",
    "heddle.local.v1.DaemonService",
    "heddle.local.v1.HookRunService",
    "heddle.local.v1.TransactionListService",
    "heddle.local.v1.UpkeepService",
    "heddle.local.v1.WorktreeService",
];

/// Every method that the daemon answers: its path, and whether the response is a stream.
pub fn methods() -> Vec<(&'static str, bool)> {
    static METHODS: OnceLock<Vec<(String, bool)>> = OnceLock::new();
    METHODS
        .get_or_init(|| {
            let sets = [
                DESCRIPTORS,
                tonic_health::pb::FILE_DESCRIPTOR_SET,
                tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            ];
            let found: HashSet<_> = sets.into_iter().flat_map(methods_of).collect();
            found.into_iter().collect()
        })
        .iter()
        .map(|(path, streaming)| (path.as_str(), *streaming))
        .collect()
}

fn methods_of(descriptors: &[u8]) -> Vec<(String, bool)> {
    let files = FileDescriptorSet::decode(descriptors).unwrap_or_default();
    let mut methods = Vec::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.push((path, method.server_streaming()));
            }
        }
    }
    methods
}
