//! `cargo bench --bench transaction`: calls in a transaction beside the same calls one by one, and
//! captures that a gate is asked about beside those that nobody is, in one run and in turns, with the
//! floors of both. `--quick` shows in seconds that it works; `--markdown` prints the table for a note.

mod calls;
mod gates;
mod rows;
#[path = "../shared/mod.rs"]
#[allow(dead_code, reason = "some of it is for the other benches")]
mod shared;

use shared::{bare, bench};

/// What goes wrong here is for the person who runs it.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result {
    let mut given = std::env::args().skip(1).peekable();
    if given.next_if_eq(bare::ARGUMENT).is_some() {
        return bare::serve(&given.next().ok_or("no socket")?);
    }
    bench::run(given, rows::GROUPS)
}
