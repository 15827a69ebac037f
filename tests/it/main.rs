//! The real binary on real Git repositories, through its outermost doors: the command line and the
//! socket. One binary, so that it is linked once.

#[allow(dead_code)]
mod harness;

mod first_use;
mod wal;
