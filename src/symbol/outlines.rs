//! Outlines of a repository's files, made once for each blob.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Outline, SIZE_LIMIT, language_of, outline};
use crate::git::{Error, GitDir, ObjectId};

/// Outlines that are kept in memory: those of the files that are asked about again and again.
const KEPT: usize = 64;

/// Makes outlines, and keeps some.
#[derive(Debug, Default)]
pub struct Outlines {
    kept: Mutex<HashMap<(&'static str, ObjectId), Arc<Outline>>>,
}

impl Outlines {
    /// The outline of the file with this path and blob; `None` where it is in no language that is
    /// known, or has more than 512 KiB. Blocks.
    ///
    /// # Errors
    /// When the blob cannot be read.
    pub fn of(
        &self,
        git: &GitDir,
        path: &[u8],
        blob: ObjectId,
    ) -> Result<Option<Arc<Outline>>, Error> {
        let Some(language) = language_of(path) else {
            return Ok(None);
        };
        let key = (language.name, blob);
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().get(&key) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(source) = git.blob(blob, SIZE_LIMIT)? else {
            return Ok(None);
        };
        let made = Arc::new(outline(language, &source));
        let mut kept = kept();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&made));
        Ok(Some(made))
    }
}
