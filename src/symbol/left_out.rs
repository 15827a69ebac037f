//! Which files are left out: what nobody reads for its symbols, by its size, by its content, or by
//! the attributes that the tree itself gives it (gitattributes(5), and GitHub's linguist, whose names
//! these are).

use crate::git::{Error, TreeFiles};

/// Why no symbols of a file are known, though its language is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOut {
    /// It has more than [`SIZE_LIMIT`](super::SIZE_LIMIT) bytes.
    TooLarge,
    /// It is no text, as Git sees it.
    Binary,
    /// The tree's attributes say `linguist-generated`.
    Generated,
    /// The tree's attributes say `linguist-vendored`.
    Vendored,
}

/// The attributes that leave files out, as [`LeftOut::by_rules`] takes them.
pub(super) const ATTRIBUTES: [&str; 2] = ["linguist-generated", "linguist-vendored"];
/// Git takes a file for binary that has a NUL in so many bytes of its beginning.
const LOOKED_AT: usize = 8_000;

impl LeftOut {
    /// Whether the attributes of a tree leave out the file at a path, in whatever language it is.
    /// `files` was made for [`ATTRIBUTES`].
    pub(super) fn by_rules(files: &mut TreeFiles, path: &[u8]) -> Result<Option<Self>, Error> {
        Ok(files.first_set(path)?.map(|at| match at {
            0 => Self::Generated,
            _ => Self::Vendored,
        }))
    }

    /// Whether a file of this content is left out for what it is.
    pub(super) fn by_content(content: &[u8]) -> Option<Self> {
        let beginning = &content[..content.len().min(LOOKED_AT)];
        beginning.contains(&0).then_some(Self::Binary)
    }

    /// As the index keeps it.
    pub(super) fn number(self) -> u8 {
        self as u8
    }

    /// What the index keeps as this number.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        let all = [
            Self::TooLarge,
            Self::Binary,
            Self::Generated,
            Self::Vendored,
        ];
        all.get(usize::from(number)).copied()
    }

    /// As it is called in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too large",
            Self::Binary => "binary",
            Self::Generated => "generated",
            Self::Vendored => "vendored",
        }
    }
}
