//! What `cargo bench` is given behind `--`, the same for every bench.

use crate::Result;

/// What is asked of a run.
#[derive(Default)]
pub struct Arguments {
    /// Show in seconds that it works.
    pub quick: bool,
    /// Print the table for a note.
    pub markdown: bool,
    /// The groups to measure; none means all.
    pub groups: Vec<String>,
}

impl Arguments {
    /// Reads them; `names` are the groups that there are.
    pub fn read(given: impl Iterator<Item = String>, names: &[&str]) -> Result<Self> {
        let mut read = Self::default();
        for argument in given {
            match argument.as_str() {
                "--quick" => read.quick = true,
                "--markdown" => read.markdown = true,
                // What `cargo bench` adds.
                "--bench" => {}
                name if names.contains(&name) => read.groups.push(argument),
                other => {
                    return Err(format!(
                        "{other}: the arguments are --quick, --markdown and names of groups: {}",
                        names.join(", ")
                    )
                    .into());
                }
            }
        }
        Ok(read)
    }

    /// Whether this group is to be measured.
    pub fn want(&self, name: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|wanted| wanted == name)
    }
}
