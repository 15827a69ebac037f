//! Lines of the source as a state has them, for people to look at.

use super::{Result, output::printable};
use crate::git::{GitDir, Repository, StateId};

/// Files of more bytes than this are not shown from.
const SIZE_LIMIT: usize = 4 << 20;
/// Letters of a line that are shown.
const WIDTH: usize = 100;

/// The sources of one state.
pub(super) struct Code {
    git: GitDir,
    state: StateId,
}

impl Code {
    /// Those of this state, a raw object id; `None` where it is none.
    pub(super) fn at(repository: &Repository, state_id: &[u8]) -> Result<Option<Self>> {
        let git = GitDir::open(repository.common_dir())?;
        let state = StateId::from_bytes(state_id);
        Ok(state.map(|state| Self { git, state }))
    }

    /// The lines from the first to the last of these, counted from 1, with their numbers: `most` at
    /// most, and none of a file that is not there or cannot be shown.
    pub(super) fn lines(&self, file: &str, (first, last): (u32, u32), most: usize) -> Vec<String> {
        let text = || {
            let tree = self.git.tree_of(self.state).ok()?;
            let blob = self.git.file_at(tree, file.as_bytes()).ok()??;
            self.git.blob(blob, SIZE_LIMIT).ok()?
        };
        let Some(text) = text().filter(|_| first > 0) else {
            return Vec::new();
        };
        let text = String::from_utf8_lossy(&text);
        let numbered = (1_u32..).zip(text.lines()).skip(first as usize - 1);
        let numbered = numbered.take_while(|(number, _)| *number <= last);
        let digits = last.to_string().len();
        let shown = numbered.take(most).map(|(number, line)| {
            let line: String = line.replace('\t', "    ").chars().take(WIDTH).collect();
            format!("{number:>digits$} │ {}", printable(&line))
        });
        shown.map(|line| line.trim_end().to_owned()).collect()
    }
}
