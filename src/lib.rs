//! `heddle agent`: a per-repository, same-user daemon that gives coding agents a fast, durable
//! memory beside a Git repository. It speaks gRPC over one Unix-domain socket and nothing else.
//!
//! Imports run downwards only:
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | arguments in, client call, text or JSON out |
//! | [`client`] | find, start and talk to the daemon of a repository |
//! | [`local_daemon`] | the life of the process: lock, listener, connections, idle, drain |
//! | [`grpc_local_impl`] | the services on the wire: protobuf in, domain call, protobuf out |
//! | [`hook`], [`operation`], [`thread`], [`capture`], [`discussion`] | the nouns: types, writes, reads |
//! | [`review`] | what was signed about states: reviews, verdicts, checks |
//! | [`signal`] | what a reviewer does well to look at first |
//! | [`checkpoint`] | commits and branch moves of plain Git, put into the log |
//! | [`upkeep`] | dropping what is past its time, checking and mending what is there |
//! | [`mutation`] | the one road that every write takes |
//! | [`symbol`] | tree-sitter: what source files define and refer to |
//! | [`store`] | SQLite: one writer, many readers |
//! | [`git`] | Git, seen from heddle |
//! | [`status`] | counters and latencies |
//! | [`deadline`] | how long an answer is waited for |
//! | [`failure`] | the closed list of reasons |

pub mod capture;
pub mod checkpoint;
mod child;
pub mod cli;
pub mod client;
pub mod command;
pub mod deadline;
pub mod discussion;
pub mod failure;
pub mod git;
pub mod grpc_local_impl;
pub mod hook;
pub mod local_daemon;
pub mod mutation;
pub mod operation;
pub mod review;
mod shorten;
pub mod signal;
pub mod status;
pub mod store;
pub mod symbol;
pub mod thread;
pub mod transaction;
pub mod upkeep;

pub use git::Repository;
pub use store::OperationDedupStore;
