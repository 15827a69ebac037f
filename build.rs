//! Compiles `proto/` with protox: no `protoc` is needed.

use std::{env, fs, path::PathBuf};

use prost_types::FileDescriptorSet;

const PROTOS: &[&str] = &[
    "heddle/v1/hook.proto",
    "heddle/v1/operation.proto",
    "heddle/v1/transaction.proto",
    "heddle/v1/discussion.proto",
    "heddle/v1/review.proto",
    "heddle/v1/signal.proto",
    "heddle/v1/thread.proto",
    "heddle/local/v1/daemon.proto",
    "heddle/local/v1/hook.proto",
    "heddle/local/v1/transaction.proto",
    "heddle/local/v1/upkeep.proto",
    "heddle/local/v1/worktree.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut descriptors: FileDescriptorSet = protox::compile(PROTOS, ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds(descriptors.clone())?;

    // Reflection serves names and types, not our comments: half the size in memory.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let encoded = prost::Message::encode_to_vec(&descriptors);
    fs::write(out.join("descriptors.bin"), encoded)?;
    fs::write(out.join("methods.rs"), methods(&descriptors))?;
    Ok(())
}

/// Every method's path, and whether its response is a stream: as an array of Rust's.
fn methods(descriptors: &FileDescriptorSet) -> String {
    let mut array = String::from("&[\n");
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                array += &format!("    ({path:?}, {}),\n", method.server_streaming());
            }
        }
    }
    array + "]\n"
}
