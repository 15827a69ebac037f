//! The real binary on real Git repositories, through its outermost doors: the command line and the
//! socket. One binary, so that it is linked once.

#[allow(dead_code)]
mod fault;
#[allow(dead_code)]
mod harness;
#[allow(dead_code)]
mod manager;
#[allow(dead_code)]
mod rpc;

mod activation;
mod address;
mod bounds;
#[allow(dead_code)]
mod states;

mod capture_runs;
mod capture_tree;
mod captures;
mod cli;
mod docs;
mod durable;
mod elsewhere;
mod faults;
mod first_use;
mod foreign;
mod hooks;
mod idle_exit;
mod install;
mod journal;
mod life;
mod notify;
mod once;
mod operations;
mod packaging;
mod places;
mod reflection;
mod restores;
mod service;
mod service_life;
mod service_load;
mod strangers;
mod threads;
mod wal;
mod wire;
