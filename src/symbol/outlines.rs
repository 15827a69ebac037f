//! Outlines of a repository's files, made once for each blob.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Language, LeftOut, Outline, SIZE_LIMIT, encode, index, language_of, outline};
use crate::{
    git::{Error, GitDir, ObjectId},
    store::{BlobRecord, SymbolStore},
};

/// Definitions and references of the outlines that are kept in memory (G8): one takes some 100 bytes.
const KEPT: usize = 50_000;

/// Makes outlines, and keeps those of the files that are asked about again and again.
#[derive(Default)]
pub struct Outlines {
    kept: Mutex<Kept>,
    store: Option<Arc<SymbolStore>>,
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

/// What is in a blob of this language, or why it is left out. Blocks.
pub(super) fn look_at(
    git: &GitDir,
    language: &Language,
    blob: ObjectId,
) -> Result<Result<Outline, LeftOut>, Error> {
    let Some(source) = git.blob(blob, SIZE_LIMIT)? else {
        return Ok(Err(LeftOut::TooLarge));
    };
    Ok(match LeftOut::by_content(&source) {
        Some(why) => Err(why),
        None => Ok(outline(language, &source)),
    })
}

impl Outlines {
    /// Those that are made, or are in a database already.
    pub(super) fn kept_in(store: Arc<SymbolStore>) -> Self {
        Self {
            store: Some(store),
            ..Self::default()
        }
    }

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
        let known = self.known(language, blob);
        let made = match known.map_or_else(|| look_at(git, language, blob), Ok)? {
            Ok(outline) => Arc::new(outline),
            Err(why) => return Ok(Looked::LeftOut(why)),
        };
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

    /// What the database says of a blob.
    fn known(&self, language: &Language, blob: ObjectId) -> Option<Result<Outline, LeftOut>> {
        let id = index::blob_id(language, blob);
        let record = self.store.as_ref()?.read(|reads| reads.blob(id))??;
        match record {
            BlobRecord::Outline(bytes) => encode::decode(&bytes).map(Ok),
            BlobRecord::LeftOut(why) => LeftOut::from_number(why).map(Err),
        }
    }
}
