//! Text as wide as the terminal: broken between words, or cut. In a pipe nothing is broken: what reads
//! it breaks lines for itself.

use std::{borrow::Cow, io};

use textwrap::{Options, WordSplitter, WrapAlgorithm};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns of a text that is read along its lines; a wider terminal leaves the rest free.
const READABLE: usize = 100;
/// Columns below which nothing is broken: there would be little left to read.
const LEAST: usize = 20;

/// Columns of the terminal; `None` in a pipe.
pub(super) fn columns() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(io::stdout())?;
    Some(usize::from(width.0).max(LEAST))
}

/// The lines of a text of which each is to have this many columns, or as many as can be read.
pub(super) fn wrapped(text: &str, columns: Option<usize>) -> Vec<String> {
    let Some(columns) = columns else {
        return vec![text.to_owned()];
    };
    // A word with a hyphen may be a command's: it is to be found, and copied, whole.
    let options = Options::new(columns.clamp(LEAST, READABLE))
        .wrap_algorithm(WrapAlgorithm::FirstFit)
        .word_splitter(WordSplitter::NoHyphenation);
    let lines = textwrap::wrap(text, options);
    lines.into_iter().map(Cow::into_owned).collect()
}

/// The text, or what of it fits into this many columns.
pub(super) fn cut(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns.filter(|columns| text.width() > *columns) else {
        return text.to_owned();
    };
    let mut left = columns.saturating_sub(1);
    let fits = |letter: &char| {
        let rest = left.checked_sub(letter.width().unwrap_or(0));
        rest.map(|rest| left = rest).is_some()
    };
    text.chars().take_while(fits).chain(['…']).collect()
}
