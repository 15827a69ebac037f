//! What the benches share: the table, samples, turns, a repository, the daemon that serves it.

pub mod connect;
pub mod repo;
pub mod samples;
pub mod table;
pub mod turns;
