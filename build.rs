//! Compiles `proto/` with protox: no `protoc` is needed.

use std::{
    env, fs,
    hash::{DefaultHasher, Hasher as _},
    path::PathBuf,
};

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
    println!("cargo:rustc-env=HEDDLE_OUTLINE_RULES={}", outline_rules()?);
    Ok(())
}

/// What decides what an outline is and how it is kept.
const OUTLINE_RULES: &[&str] = &[
    "Cargo.lock",
    "src/symbol/digest.rs",
    "src/symbol/encode.rs",
    "src/symbol/extract.rs",
    "src/symbol/found.rs",
    "src/symbol/index",
    "src/symbol/language",
    "src/symbol/language.rs",
    "src/symbol/left_out.rs",
    "src/symbol/mod.rs",
    "src/symbol/parse.rs",
    "src/symbol/path_kind.rs",
];

/// A number that is another one whenever the rules or the grammars are. Outlines that were made by
/// others are made anew.
fn outline_rules() -> Result<u32, Box<dyn std::error::Error>> {
    let mut digest = DefaultHasher::new();
    let mut open: Vec<PathBuf> = OUTLINE_RULES.iter().map(PathBuf::from).collect();
    while let Some(path) = open.pop() {
        println!("cargo:rerun-if-changed={}", path.display());
        if path.is_dir() {
            let inside = fs::read_dir(&path)?.map(|entry| entry.map(|entry| entry.path()));
            let mut inside = inside.collect::<Result<Vec<_>, _>>()?;
            inside.sort();
            open.extend(inside);
        } else if path.ends_with("Cargo.lock") {
            // Packaged, there may be none.
            let lock = fs::read_to_string(&path).unwrap_or_default();
            let packages = lock.split("[[package]]");
            let grammars = packages.filter(|it| it.contains("name = \"tree-sitter"));
            grammars.for_each(|it| digest.write(it.as_bytes()));
        } else {
            digest.write(&fs::read(&path)?);
        }
    }
    Ok(digest.finish() as u32)
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
