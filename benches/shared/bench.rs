//! One run of a bench: the groups of rows that are asked for, and what they share.

use std::path::Path;

use tempfile::TempDir;

use super::{arguments::Arguments, table::Table};
use crate::Result;

/// Turns in which all sides are measured.
const TURNS: usize = 20;

/// A name, and what measures the rows of that group.
pub type Group = (&'static str, fn(&Bench, &mut Table) -> Result);

/// What the groups share.
pub struct Bench {
    folder: TempDir,
    quick: bool,
}

impl Bench {
    /// A folder for what is measured.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `full`, or a twentieth of it, in a quick run.
    pub fn of(&self, full: usize) -> usize {
        if self.quick { (full / 20).max(3) } else { full }
    }

    /// Turns in which all sides are measured.
    pub fn turns(&self) -> usize {
        self.of(TURNS)
    }
}

/// Measures the groups that the arguments name, or all of them, and prints the table.
pub fn run(arguments: impl Iterator<Item = String>, groups: &[Group]) -> Result {
    let names: Vec<_> = groups.iter().map(|(name, _)| *name).collect();
    let arguments = Arguments::read(arguments, &names)?;
    // Not in a tmpfs, where a sync is nothing.
    let folder = tempfile::Builder::new()
        .prefix("hdl")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let bench = Bench {
        folder,
        quick: arguments.quick,
    };
    let mut table = Table::default();
    for (name, group) in groups {
        if arguments.want(name) {
            eprintln!("{name}");
            group(&bench, &mut table)?;
        }
    }
    table.print(arguments.markdown);
    Ok(())
}
