//! `cargo bench --bench rpc`: the rows of DESIGN.md's table "Speed", measured beside their floors
//! in one run, by one client, both sides in turns, so that what the machine does meanwhile falls
//! on both. `--quick` shows in seconds that it works; `--markdown` prints the table for a note.

mod bare;
mod client;
mod floor;
mod rows;
mod served;
#[path = "../shared/mod.rs"]
#[allow(dead_code, reason = "some of it is for the other benches")]
mod shared;

use shared::table::Table;

/// What goes wrong here is for the person who runs it.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    quick: bool,
}

impl Effort {
    /// `full`, or a twentieth of it, in a quick run.
    fn of(self, full: usize) -> usize {
        if self.quick { (full / 20).max(3) } else { full }
    }
}

fn main() -> Result {
    let mut arguments = std::env::args().skip(1);
    let (mut quick, mut markdown) = (false, false);
    let mut wanted = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            bare::ARGUMENT => return bare::serve(&arguments.next().ok_or("no socket")?),
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
    rows::measure(Effort { quick }, &wanted, &mut table)?;
    table.print(markdown);
    Ok(())
}
