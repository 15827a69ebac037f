//! The life of the process: lock, listener, connections, idle, drain. Its guarantees are G1 to G8
//! of DESIGN.md.

mod accept;
pub mod activation;
mod config;
mod connection;
mod contend;
mod drain;
mod holder;
mod idle;
mod lock;
mod log;
mod made;
mod notify;
mod peer;
mod pidfile;
mod process;
mod refuse;
mod running;
mod serve;
mod warm_up;
mod watch;

pub use config::{
    FileSettings, LocalDaemonConfig, Overrides, parse_duration, parse_size, parse_timeout,
};
pub use connection::{CONNECTION_LIMIT, PREFACE_DEADLINE};
pub use holder::{Holder, ask, ask_at, lock_is_held, wait_until_free};
pub use lock::RepositoryLock;
pub use log::{BoundedLog, LOG_LIMIT};
pub use peer::{PeerCredentials, PeerError, check_peer_uid_matches_self};
pub use pidfile::{PIDFILE_MARKER, PidFileContents};
pub use process::{has_ended, is_heddle_process, lock_holder, pid_alive};
pub use refuse::refuse;
pub use serve::{ServeError, serve};

use std::path::PathBuf;

use crate::git::Repository;

/// Where clients look for the socket of a repository. What lies there may be a link.
pub fn default_socket_path(repository: &Repository) -> PathBuf {
    repository.heddle_dir().join("sockets").join("grpc.sock")
}

/// Where a daemon that binds for itself records its process.
pub fn default_pid_path(repository: &Repository) -> PathBuf {
    repository.heddle_dir().join("sockets").join("grpc.pid")
}
