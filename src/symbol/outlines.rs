//! Outlines of a repository's files, made once for each blob.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{LeftOut, Outline, SIZE_LIMIT, language_of, outline};
use crate::git::{Error, GitDir, ObjectId};

/// Definitions and references of the outlines that are kept in memory (G8): one takes some 100 bytes.
const KEPT: usize = 50_000;

/// Makes outlines, and keeps those of the files that are asked about again and again.
#[derive(Debug, Default)]
pub struct Outlines {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    outlines: HashMap<(&'static str, ObjectId), Arc<Outline>>,
    /// How many definitions and references they have.
    size: usize,
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub enum Looked {
    /// What it defines and refers to.
    Outline(Arc<Outline>),
    /// Nothing, by its size or content.
    LeftOut(LeftOut),
    /// Nothing: it is in no language that is known.
    OtherLanguage,
}

impl Looked {
    /// The outline, where there is one.
    pub fn outline(self) -> Option<Arc<Outline>> {
        match self {
            Self::Outline(outline) => Some(outline),
            Self::LeftOut(_) | Self::OtherLanguage => None,
        }
    }
}

impl Outlines {
    /// The outline of the file with this path and blob, if it has one: [`Outlines::look`]. Blocks.
    ///
    /// # Errors
    /// When the blob cannot be read.
    pub fn of(
        &self,
        git: &GitDir,
        path: &[u8],
        blob: ObjectId,
    ) -> Result<Option<Arc<Outline>>, Error> {
        Ok(self.look(git, path, blob)?.outline())
    }

    /// What is known of the file with this path and blob, whatever attributes it has. Blocks.
    ///
    /// # Errors
    /// When the blob cannot be read.
    pub fn look(&self, git: &GitDir, path: &[u8], blob: ObjectId) -> Result<Looked, Error> {
        let Some(language) = language_of(path) else {
            return Ok(Looked::OtherLanguage);
        };
        let key = (language.name, blob);
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().outlines.get(&key) {
            return Ok(Looked::Outline(Arc::clone(known)));
        }
        let Some(source) = git.blob(blob, SIZE_LIMIT)? else {
            return Ok(Looked::LeftOut(LeftOut::TooLarge));
        };
        if let Some(why) = LeftOut::by_content(&source) {
            return Ok(Looked::LeftOut(why));
        }
        let made = Arc::new(outline(language, &source));
        let size = 1 + made.definitions.len() + made.references.len();
        let mut kept = kept();
        if kept.size + size > KEPT {
            *kept = Kept::default();
        }
        // Two may have made it at once.
        if size <= KEPT && kept.outlines.insert(key, Arc::clone(&made)).is_none() {
            kept.size += size;
        }
        Ok(Looked::Outline(made))
    }
}
