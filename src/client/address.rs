//! The address of a repository's daemon, as any gRPC client takes it.

use std::os::unix::ffi::OsStrExt;

use crate::{
    git::Repository,
    local_daemon::{activation::OwnSocket, default_socket_path},
};

/// A `unix:` address (gRPC's naming document, doc/naming.md) with an absolute path short enough for
/// a socket; bytes that a URI cannot have are percent-encoded.
pub fn address(repository: &Repository) -> std::io::Result<String> {
    let path = OwnSocket::expected_path(&default_socket_path(repository))?;
    let mut address = String::from("unix:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            // Unreserved characters and the separator (RFC 3986, section 2.3).
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                address.push(char::from(*byte));
            }
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    Ok(address)
}
