//! What is printed over many lines for people: headings, and texts that are broken where the terminal
//! ends.

use anstyle::{AnsiColor, Style};

use super::{
    Result,
    output::{DIM, Output, plural, printable},
    wrap::{columns, wrapped},
};

const HEADING: Style = AnsiColor::Cyan.on_default().bold();

/// Where it is printed.
pub(super) struct Paper<'a> {
    pub(super) out: &'a Output,
    /// Its columns; `None` in a pipe.
    pub(super) columns: Option<usize>,
}

impl<'a> Paper<'a> {
    pub(super) fn new(out: &'a Output) -> Self {
        Self {
            out,
            columns: columns(),
        }
    }

    /// A heading, with space above it.
    pub(super) fn heading(&self, text: &str) -> Result<()> {
        self.out.line("")?;
        self.out.line(format_args!("{HEADING}{text}{HEADING:#}"))
    }

    /// A text behind a mark of so many columns on its first line, and below that on those that follow.
    pub(super) fn beside(&self, mark: &str, width: usize, style: Style, text: &str) -> Result<()> {
        let left = self.columns.map(|columns| columns.saturating_sub(width));
        for (number, line) in wrapped(&printable(text), left).iter().enumerate() {
            let space = " ".repeat(if number == 0 || line.is_empty() {
                0
            } else {
                width
            });
            let mark = if number == 0 { mark } else { "" };
            self.out
                .line(format_args!("{mark}{space}{style}{line}{style:#}"))?;
        }
        Ok(())
    }

    /// A text that stands this far in.
    pub(super) fn paragraph(&self, indent: usize, style: Style, text: &str) -> Result<()> {
        let space = " ".repeat(if text.is_empty() { 0 } else { indent });
        self.beside(&space, indent, style, text)
    }

    /// That there are more, of which none were asked for.
    pub(super) fn more(&self, left: usize, one: &str, many: &str) -> Result<()> {
        if left == 0 {
            return Ok(());
        }
        let more = plural(left as u64, one, many);
        self.paragraph(2, DIM, &format!("and {more}; --all shows all"))
    }
}
