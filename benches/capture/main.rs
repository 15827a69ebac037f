//! `cargo bench --bench capture`: captures and restores through the daemon's socket, beside what Git
//! takes for the same, in one run and in turns. Git makes nothing durable unless it is told to; the
//! rows that say `synced` have it do so. `--quick` shows in seconds that it works; `--markdown` prints the
//! table for a note.

mod git;
mod ours;
mod rows;
#[path = "../shared/mod.rs"]
#[allow(dead_code, reason = "some of it is for the other benches")]
mod shared;
mod worktree;

use shared::table::Table;

/// What goes wrong here is for the person who runs it.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result {
    let mut arguments = std::env::args().skip(1);
    let (mut quick, mut markdown) = (false, false);
    let mut wanted = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            git::PEAK => return git::print_peak(arguments),
            "--quick" => quick = true,
            "--markdown" => markdown = true,
            // What `cargo bench` adds.
            "--bench" => {}
            name if !name.starts_with('-') => wanted.push(name.to_owned()),
            other => {
                return Err(format!(
                    "{other}: the arguments are --quick, --markdown and names of groups: {}",
                    rows::names()
                )
                .into());
            }
        }
    }
    let mut table = Table::default();
    rows::measure(quick, &wanted, &mut table)?;
    table.print(markdown);
    Ok(())
}
