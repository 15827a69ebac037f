//! What the files of a whole tree define and use.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use super::{LeftOut, Looked, Outline, Outlines, last_name, left_out};
use crate::git::{BString, Entry, Error, GitDir, ObjectId, TreeFiles};

/// The outlines of a repository's files, and where each name is defined and used.
#[derive(Debug, Default)]
pub struct Index {
    outlines: Outlines,
}

impl Index {
    /// Outlines of single files.
    pub fn outlines(&self) -> &Outlines {
        &self.outlines
    }

    /// Takes in what is new in a tree, until then at most; answers whether all of it is in. Blocks.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn cover(
        &self,
        _git: &GitDir,
        _tree: ObjectId,
        _until: Option<Instant>,
    ) -> Result<bool, Error> {
        Ok(true)
    }

    /// What is known of the files of this tree.
    pub fn at<'a>(&'a self, git: &'a GitDir, tree: ObjectId) -> View<'a> {
        View {
            index: self,
            git,
            tree,
        }
    }
}

/// What is known of the files of one tree. Answers depend on the tree alone, and not on what else was
/// taken in.
#[derive(Clone, Copy)]
pub struct View<'a> {
    index: &'a Index,
    git: &'a GitDir,
    tree: ObjectId,
}

/// A file of a tree.
#[derive(Debug, Clone)]
pub struct IndexedFile {
    /// Its path from the root.
    pub path: BString,
    /// Its blob.
    pub blob: ObjectId,
    /// What it defines and uses.
    pub outline: Arc<Outline>,
}

/// Files that were looked for.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of their paths.
    pub files: Vec<IndexedFile>,
    /// Whether there may be more.
    pub truncated: bool,
}

/// A place that calls or uses a symbol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// The file.
    pub path: BString,
    /// The definition that the call is in; `None` where it is in none.
    pub symbol: Option<String>,
    /// The line of the call, from 1.
    pub line: u32,
    /// Whether it is in a test, by the source or by the path.
    pub is_test: bool,
}

impl View<'_> {
    /// The outline of a file.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn outline(&self, path: &[u8]) -> Result<Option<Arc<Outline>>, Error> {
        match self.git.file_at(self.tree, path)? {
            Some(blob) => self.index.outlines.of(self.git, path, blob),
            None => Ok(None),
        }
    }

    /// Why the file at a path is left out, if it is: for its attributes, in whatever language it is;
    /// else, where its language is known, for its size or content.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn left_out(&self, path: &[u8]) -> Result<Option<LeftOut>, Error> {
        let mut files = TreeFiles::new(self.git, self.tree, &left_out::ATTRIBUTES)?;
        let Some(blob) = files.file(path)? else {
            return Ok(None);
        };
        if let Some(why) = LeftOut::by_rules(&mut files, path)? {
            return Ok(Some(why));
        }
        Ok(match self.index.outlines.look(self.git, path, blob)? {
            Looked::LeftOut(why) => Some(why),
            Looked::Outline(_) | Looked::OtherLanguage => None,
        })
    }

    /// Files that use a name, its last part, `limit` at most.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn using(&self, name: &str, limit: usize) -> Result<Found, Error> {
        self.files(limit, |outline| {
            outline.references.iter().any(|it| it.name == name)
        })
    }

    /// Files that define a name, its last part, `limit` at most.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn defining(&self, name: &str, limit: usize) -> Result<Found, Error> {
        let is_it = |name_of: &str| last_name(name_of) == name;
        self.files(limit, |outline| {
            outline.definitions.iter().any(|it| is_it(&it.name))
        })
    }

    fn files(&self, limit: usize, is_it: impl Fn(&Outline) -> bool) -> Result<Found, Error> {
        let mut found = Found::default();
        for change in self.git.diff(self.git.empty_tree(), self.tree, &[])? {
            let Some(entry) = change.after.filter(Entry::is_file) else {
                continue;
            };
            let outline = self.index.outlines.of(self.git, &change.path, entry.id)?;
            let Some(outline) = outline.filter(|outline| is_it(outline)) else {
                continue;
            };
            if found.files.len() == limit {
                found.truncated = true;
                break;
            }
            found.files.push(IndexedFile {
                path: change.path,
                blob: entry.id,
                outline,
            });
        }
        Ok(found)
    }
}

/// Names that a file defines, their last parts.
pub fn defined_names(outline: &Outline) -> BTreeSet<&str> {
    outline
        .definitions
        .iter()
        .map(|it| last_name(&it.name))
        .collect()
}
