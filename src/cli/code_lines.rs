//! A few lines of a file as a state has it, with their numbers: what a signal points at. They are read
//! from the repository here, and not asked of the daemon.

use super::{
    Result,
    here::Here,
    output::{DIM, Output, printable},
    wrap::{columns, cut},
};
use crate::{
    failure::{Failure, Reason},
    git::{GitDir, ObjectId, StateId},
    symbol::SIZE_LIMIT,
};

/// Columns of a line of code in a pipe; more of it would be no help in finding the place.
const COLUMNS: usize = 200;

/// The files of a state.
pub(super) struct CodeLines {
    git: GitDir,
    tree: ObjectId,
}

impl CodeLines {
    /// Of the state with this raw object id.
    ///
    /// # Errors
    /// When Git cannot read it.
    pub(super) fn at(here: &Here, state: &[u8]) -> Result<Self> {
        let git = GitDir::open(here.repository().git_dir())?;
        let state = StateId::from_bytes(state).ok_or_else(|| {
            Failure::new(Reason::Internal, "the daemon answered an id that is none")
        })?;
        let tree = git.tree_of(state)?;
        Ok(Self { git, tree })
    }

    /// The lines from the first to the last, from 1, or `most` of them, each with its number. None
    /// where the file is not there, or larger than those whose symbols are known.
    ///
    /// # Errors
    /// When Git cannot read it.
    pub(super) fn of(
        &self,
        file: &str,
        (first, last): (u32, u32),
        most: usize,
    ) -> Result<Vec<(u32, String)>> {
        let Some(blob) = self.git.file_at(self.tree, file.as_bytes())? else {
            return Ok(Vec::new());
        };
        let content = self.git.blob(blob, SIZE_LIMIT)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        let wanted = (1..).zip(text.lines());
        let wanted = wanted.filter(|(number, _)| (first.max(1)..=last).contains(number));
        Ok(wanted
            .take(most)
            .map(|(number, line)| (number, line.to_owned()))
            .collect())
    }

    /// Prints them, and that there are more.
    ///
    /// # Errors
    /// As [`CodeLines::of`], and when nothing can be written.
    pub(super) fn print(
        &self,
        out: &Output,
        file: &str,
        lines: (u32, u32),
        most: usize,
    ) -> Result<()> {
        const GUTTER: usize = 8;
        let columns = columns().map_or(COLUMNS, |columns| columns.saturating_sub(GUTTER));
        let shown = self.of(file, lines, most)?;
        let last = shown.last().map_or(lines.1, |(number, _)| *number);
        for (number, line) in shown {
            let line = printable(&line.replace('\t', "    "));
            let line = cut(&format!(" {line}"), Some(columns));
            out.line(format_args!("{DIM}{number:>6} │{DIM:#}{}", line.trim_end()))?;
        }
        if last < lines.1 {
            out.line(format_args!("{DIM}{:>6} … to line {}{DIM:#}", "", lines.1))?;
        }
        Ok(())
    }
}
