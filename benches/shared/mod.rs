//! What the benches share: arguments, the table, samples, turns, floors, a repository with its worktree,
//! the daemon that serves it.

pub mod arguments;
pub mod bare;
pub mod bench;
pub mod connect;
pub mod floor;
pub mod ours;
pub mod repo;
pub mod samples;
pub mod table;
pub mod turns;
pub mod worktree;
