//! The address of a repository's daemon, as any gRPC client takes it.
//!
//! gRPC's C core, and with it grpcio, sends a socket's path as the name of the host, percent-encoded
//! (grpc/grpc issue 38142). Our side of HTTP/2 refuses such a host, but takes the same text as a user's
//! name before one. Hence paths that end in `@localhost`, the convention of the other clients.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    git::{ADDRESS_SUFFIX, Repository},
    local_daemon::{
        activation::{SUN_PATH_MAX, short_link},
        default_socket_path,
    },
};

/// A `unix:` address (gRPC's naming document, doc/naming.md) with an absolute path short enough for
/// a socket. Where the path has bytes that clients read differently, it is that of a link without
/// them, which this makes; what is left of them is percent-encoded.
pub fn address(repository: &Repository) -> std::io::Result<String> {
    let path = path(&default_socket_path(repository))?;
    let mut address = String::from("unix:");
    for byte in path.as_os_str().as_bytes() {
        if is_plain(*byte) {
            address.push(char::from(*byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(address)
}

fn path(usual: &Path) -> std::io::Result<PathBuf> {
    let path = usual.with_file_name(format!("grpc{ADDRESS_SUFFIX}"));
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= SUN_PATH_MAX && bytes.iter().copied().all(is_plain) {
        Ok(path)
    } else {
        short_link(usual, ADDRESS_SUFFIX)
    }
}

/// Whether every client takes this byte for itself: unreserved (RFC 3986, section 2.3), the separator,
/// or what parts a host from the user's name.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/@".contains(&byte)
}
