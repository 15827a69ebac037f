//! The generated messages and services, and what their descriptors say of them.

use crate::symbol::SymbolRef;

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

impl From<SymbolRef> for v1::PathSymbolRef {
    fn from(SymbolRef { file, symbol }: SymbolRef) -> Self {
        Self { file, symbol }
    }
}

impl From<v1::PathSymbolRef> for SymbolRef {
    fn from(v1::PathSymbolRef { file, symbol }: v1::PathSymbolRef) -> Self {
        Self { file, symbol }
    }
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

/// The methods in `proto/`: their paths, and whether the response is a stream.
const METHODS: &[(&str, bool)] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// Those of health and reflection.
const STANDARD_METHODS: &[(&str, bool)] = &[
    ("/grpc.health.v1.Health/Check", false),
    ("/grpc.health.v1.Health/Watch", true),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        true,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        true,
    ),
];

/// Every method that the daemon answers: its path, and whether the response is a stream.
pub fn methods() -> impl Iterator<Item = (&'static str, bool)> {
    METHODS.iter().chain(STANDARD_METHODS).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn all_methods_of_the_descriptors_are_known() {
        let mut found = BTreeSet::new();
        for set in [
            DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    let path =
                        |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                    let methods = service.method.iter();
                    found.extend(methods.map(|m| (path(m.name()), m.server_streaming())));
                }
            }
        }
        let known = methods().map(|(path, streaming)| (path.to_owned(), streaming));
        assert_eq!(known.collect::<BTreeSet<_>>(), found);
    }
}
