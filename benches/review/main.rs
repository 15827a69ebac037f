//! `cargo bench --bench review`: the signals and the review payload of a change to one file, in a small
//! repository and in a large one, in turns; and how fast all of a repository is indexed, beside what
//! `ctags` takes for the same files. `--quick` shows in seconds that it works; `--markdown` prints the
//! table for a note.

mod ctags;
mod reviewed;
mod rows;
#[path = "../shared/mod.rs"]
#[allow(dead_code, reason = "some of it is for the other benches")]
mod shared;
mod sources;
mod syntax;

use shared::bench;

/// What goes wrong here is for the person who runs it.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result {
    bench::run(std::env::args().skip(1), rows::GROUPS)
}
