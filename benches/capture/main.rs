//! `cargo bench --bench capture`: captures and restores through the daemon's socket, beside what Git
//! takes for the same, in one run and in turns. Git makes nothing durable unless it is told to; the
//! rows that say `synced` have it do so. `--quick` shows in seconds that it works; `--markdown` prints the
//! table for a note.

mod git;
mod rows;
#[path = "../shared/mod.rs"]
#[allow(dead_code, reason = "some of it is for the other benches")]
mod shared;

use shared::bench;

/// What goes wrong here is for the person who runs it.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result {
    let mut given = std::env::args().skip(1).peekable();
    if given.next_if_eq(git::PEAK).is_some() {
        return git::print_peak(given);
    }
    bench::run(given, rows::GROUPS)
}
