//! Outlines of a repository's files, made once for each blob.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Outline, SIZE_LIMIT, language_of, outline};
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
        if let Some(known) = kept().outlines.get(&key) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(source) = git.blob(blob, SIZE_LIMIT)? else {
            return Ok(None);
        };
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
        Ok(Some(made))
    }
}
