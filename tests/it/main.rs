//! The real binary on real Git repositories, through its outermost doors: the command line and the
//! socket. One binary, so that it is linked once.

#[allow(dead_code)]
mod drop_in;
#[allow(dead_code)]
mod fault;
#[allow(dead_code)]
mod harness;
#[allow(dead_code)]
mod listening;
#[allow(dead_code)]
mod manager;
#[allow(dead_code)]
mod rpc;

mod activation;
mod address;
mod bounds;
#[allow(dead_code)]
mod scenes;
#[allow(dead_code)]
mod signing;
#[allow(dead_code)]
mod states;
mod symbols;

mod call_graph;
mod capture_runs;
mod capture_tree;
mod captures;
mod checkpoints;
mod cli;
mod cli_capture;
mod cli_diff;
mod cli_discuss;
mod cli_restore;
mod cli_shell;
mod cli_signals;
mod cli_thread;
mod cli_upkeep;
mod crash;
mod database_links;
mod deadlines;
mod deep;
mod diffs;
mod discussions;
mod discussions_elsewhere;
mod docs;
mod doctor;
mod durable;
mod edits;
mod elsewhere;
mod faults;
mod first_use;
mod foreign;
mod foreign_ground;
mod hook_cli;
mod hook_commands;
mod hook_git;
mod hook_lint;
mod hook_nested;
mod hook_notices;
mod hook_processes;
mod hook_sandbox;
mod hook_subscribers;
mod hooks;
mod housekeeping;
mod idle_exit;
mod index;
mod install;
mod journal;
mod launchd;
mod left_out;
mod life;
mod mixed;
mod notify;
mod obstacles;
mod odd_repositories;
mod odd_restores;
mod oddities;
mod once;
mod operations;
mod packaging;
mod places;
mod power;
mod random_trees;
mod real_trees;
mod rebuilt;
mod reflection;
mod refused;
mod renames;
mod restores;
mod review;
mod review_cli;
mod review_kept;
mod review_lists;
mod review_page;
mod review_page_odd;
mod review_refused;
mod review_required;
mod review_show;
mod review_ssh;
mod reviewed;
mod service;
mod service_bursts;
mod service_gone;
mod service_life;
mod service_load;
mod service_packaged;
mod service_slow;
mod signal_config;
mod signal_kept;
mod signal_states;
mod signal_updates;
mod signals;
mod storm;
mod strangers;
mod threads;
mod transaction_faults;
mod transactions;
#[allow(dead_code)]
mod trees;
mod txn_storm;
mod upkeep;
mod wal;
mod walk;
mod warm_up;
mod wire;
