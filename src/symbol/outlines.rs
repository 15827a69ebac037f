//! Outlines of a repository's files, made once for each blob.

use std::{
    hash::RandomState,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use clru::{CLruCache, WeightScale};

use super::{Language, LeftOut, Outline, SIZE_LIMIT, encode, index, language_of, outline};
use crate::{
    git::{Error, GitDir, ObjectId},
    store::{BlobRecord, SymbolStore},
};

/// Definitions and references of the outlines that are kept in memory (G8): one takes some 100 bytes.
const KEPT: NonZeroUsize = NonZeroUsize::new(50_000).unwrap();

/// Makes outlines, and keeps those of the files that were asked about last.
pub struct Outlines {
    kept: Mutex<CLruCache<Key, Arc<Outline>, RandomState, Size>>,
    store: Option<Arc<SymbolStore>>,
}

/// A language's name, and a blob.
type Key = (&'static str, ObjectId);

/// How many definitions and references an outline has.
struct Size;

impl WeightScale<Key, Arc<Outline>> for Size {
    fn weight(&self, _: &Key, outline: &Arc<Outline>) -> usize {
        outline.definitions.len() + outline.references.len()
    }
}

impl Default for Outlines {
    fn default() -> Self {
        Self {
            kept: Mutex::new(CLruCache::with_scale(KEPT, Size)),
            store: None,
        }
    }
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

    /// The outline of a blob of this language that was asked for lately.
    pub(super) fn kept(&self, language: &Language, blob: ObjectId) -> Option<Arc<Outline>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&(language.name, blob)).map(Arc::clone)
    }

    /// What is known of the file with this path and blob, whatever attributes it has. Blocks.
    ///
    /// # Errors
    /// When the blob cannot be read.
    pub fn look(&self, git: &GitDir, path: &[u8], blob: ObjectId) -> Result<Looked, Error> {
        let Some(language) = language_of(path) else {
            return Ok(Looked::OtherLanguage);
        };
        if let Some(known) = self.kept(language, blob) {
            return Ok(Looked::Outline(known));
        }
        let known = self.known(language, blob);
        let made = match known.map_or_else(|| look_at(git, language, blob), Ok)? {
            Ok(outline) => Arc::new(outline),
            Err(why) => return Ok(Looked::LeftOut(why)),
        };
        // One that is too large for all of the cache is made each time.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        drop(kept.put_with_weight((language.name, blob), Arc::clone(&made)));
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
