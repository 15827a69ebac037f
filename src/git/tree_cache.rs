//! Trees that were read lately, by their ids: where a question looks at files all over a tree, it
//! costs the same in a small and in a large one.

use std::{
    hash::RandomState,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use clru::{CLruCache, WeightScale};
use gix::ObjectId;

use super::Error;

/// Bytes of trees that are kept (G8): those of some 100,000 files.
const KEPT: NonZeroUsize = NonZeroUsize::new(4 << 20).unwrap();

/// The content of trees, those that were asked for last. Whoever has it may keep it.
pub(super) struct TreeCache(Mutex<CLruCache<ObjectId, Content, RandomState, Bytes>>);

/// A tree as Git has it.
pub(super) type Content = Arc<[u8]>;

struct Bytes;

impl WeightScale<ObjectId, Content> for Bytes {
    fn weight(&self, _: &ObjectId, content: &Content) -> usize {
        content.len()
    }
}

impl Default for TreeCache {
    fn default() -> Self {
        Self(Mutex::new(CLruCache::with_scale(KEPT, Bytes)))
    }
}

impl TreeCache {
    /// A tree's content.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn tree(&self, git: &gix::Repository, tree: ObjectId) -> Result<Content, Error> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().get(&tree) {
            return Ok(Arc::clone(known));
        }
        let content: Content = match tree.is_empty_tree() {
            true => Arc::default(),
            false => {
                let found = git.find_tree(tree);
                Arc::from(&found.map_err(|e| Error::unreadable(git, &e))?.data[..])
            }
        };
        // One that is too large for all of the cache is read each time.
        drop(kept().put_with_weight(tree, Arc::clone(&content)));
        Ok(content)
    }
}
