//! Questions about the files of one tree.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Index, blob_id, name_id, tests_id, tree_files};
use crate::{
    git::{BString, Error, GitDir, ObjectId, TreeFiles},
    symbol::{
        Language, LeftOut, Looked, Outline,
        encode::{Used, type_before},
        is_test_path, language_of, last_name,
    },
};

/// Places where a name was ever seen that are looked at for one question.
const PLACES_LIMIT: usize = 20_000;

impl Index {
    /// What is known of the files of this tree.
    pub fn at<'a>(&'a self, git: &'a GitDir, tree: ObjectId) -> View<'a> {
        View {
            index: self,
            git,
            tree,
            files: Arc::default(),
        }
    }
}

/// What is known of the files of one tree, as far as it was taken in. Answers depend on the tree alone,
/// and not on what else was taken in. Clones share what they read.
#[derive(Clone)]
pub struct View<'a> {
    pub(super) index: &'a Index,
    git: &'a GitDir,
    tree: ObjectId,
    files: Arc<Mutex<Option<TreeFiles>>>,
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
    /// In the order of their paths. Where there are more than were asked for, these are any of them,
    /// by what is in them: the same ones each time.
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
    /// Whether what it is in is called without being named.
    pub is_implied: bool,
}

impl View<'_> {
    /// The outline of a file, also of one that is left out by attributes, and of one that was not taken
    /// in.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn outline(&self, path: &[u8]) -> Result<Option<Arc<Outline>>, Error> {
        match self.files(|files| files.file(path))? {
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
        let Some(blob) = self.files(|files| files.file(path))? else {
            return Ok(None);
        };
        if let Some(why) = self.files(|files| LeftOut::by_rules(files, path))? {
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
        self.having(name_id(name, Used::Referred), limit, |file| {
            file.outline.references.iter().any(|it| it.name == name)
        })
    }

    /// Files that use a name right after that of a type, `limit` at most.
    pub(super) fn using_of(&self, of: &str, name: &str, limit: usize) -> Result<Found, Error> {
        let qualified = format!("{of}::{name}");
        self.having(name_id(&qualified, Used::Referred), limit, |file| {
            let mut references = file.outline.references.iter();
            references.any(|it| it.name == name && type_before(&file.outline, it) == Some(of))
        })
    }

    /// A file of the tree, as it is found.
    pub(super) fn file(&self, path: &[u8]) -> Result<Option<IndexedFile>, Error> {
        match self.files(|files| files.file(path))? {
            Some(blob) => self.read(path, blob),
            None => Ok(None),
        }
    }

    /// Files that define a name, its last part, `limit` at most.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn defining(&self, name: &str, limit: usize) -> Result<Found, Error> {
        self.having(name_id(name, Used::Defined), limit, |file| {
            let mut all = file.outline.definitions.iter();
            all.any(|it| last_name(&it.name) == name)
        })
    }

    /// Whether a file in this language has a test, by the source or by its path; `None` where that is not
    /// known.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn has_tests(&self, language: &Language) -> Result<Option<bool>, Error> {
        let is_marked = |it: &IndexedFile| it.outline.definitions.iter().any(|it| it.is_test);
        let mut has_one = false;
        let is_all = self.places(tests_id(language), |blob, path| {
            has_one = match self.here(blob, path)? {
                Some(_) if is_test_path(path) => true,
                Some(here) => self.read(path, here)?.is_some_and(|it| is_marked(&it)),
                None => false,
            };
            Ok(!has_one)
        })?;
        Ok((has_one || is_all).then_some(has_one))
    }

    /// Files with a name, by its id, that have it indeed.
    fn having(
        &self,
        name: i64,
        limit: usize,
        has_it: impl Fn(&IndexedFile) -> bool,
    ) -> Result<Found, Error> {
        let mut found = Found::default();
        let is_all = self.places(name, |blob, path| {
            if let Some(here) = self.here(blob, path)?
                && let Some(file) = self.read(path, here)?
                && has_it(&file)
            {
                match found.files.len() < limit {
                    true => found.files.push(file),
                    false => found.truncated = true,
                }
            }
            Ok(!found.truncated)
        })?;
        found.truncated |= !is_all;
        found.files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    /// Looks at the places where a name was ever seen, by its id, until `look` says that it is enough;
    /// answers whether there are no more than are looked at.
    fn places(
        &self,
        name: i64,
        mut look: impl FnMut(i64, &[u8]) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let mut places = 0;
        let mut failed = None;
        let mut take = |blob: i64, path: &[u8]| {
            places += 1;
            places <= PLACES_LIMIT
                && look(blob, path).unwrap_or_else(|error| {
                    failed = Some(error);
                    false
                })
        };
        let store = self.index.store.as_ref();
        let read = store.and_then(|store| store.read(|reads| reads.places(name, &mut take)));
        match failed {
            Some(error) => Err(error),
            None => Ok(read.is_some() && places <= PLACES_LIMIT),
        }
    }

    /// The blob at a path where this tree, too, has this one there, and does not leave it out.
    fn here(&self, blob: i64, path: &[u8]) -> Result<Option<ObjectId>, Error> {
        let Some(language) = language_of(path) else {
            return Ok(None);
        };
        self.files(|files| {
            let here = files.file(path)?;
            match here.filter(|it| blob_id(language, *it) == blob) {
                Some(here) if LeftOut::by_rules(files, path)?.is_none() => Ok(Some(here)),
                _ => Ok(None),
            }
        })
    }

    fn read(&self, path: &[u8], blob: ObjectId) -> Result<Option<IndexedFile>, Error> {
        let outline = self.index.outlines.of(self.git, path, blob)?;
        Ok(outline.map(|outline| IndexedFile {
            path: path.into(),
            blob,
            outline,
        }))
    }

    fn files<T>(&self, ask: impl FnOnce(&mut TreeFiles) -> Result<T, Error>) -> Result<T, Error> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *files {
            Some(files) => ask(files),
            unread => ask(unread.insert(tree_files(self.git, self.tree)?)),
        }
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
