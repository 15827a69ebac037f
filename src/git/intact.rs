//! Whether all of a state is there: its commit, its folders, its files.

use std::collections::HashMap;

use gix::{ObjectId, objs::tree::EntryKind};

use super::{Error, GitDir, StateId};

/// Looks at states. What one was found to have is not looked for again in the next.
pub struct Intact {
    git: gix::Repository,
    /// The first fault in each tree and file that was looked at.
    seen: HashMap<ObjectId, Option<String>>,
}

impl Intact {
    /// Looks in a repository's objects.
    pub fn new(git: &GitDir) -> Self {
        let mut git = git.local();
        // A tree is often read again as part of the next state's.
        git.object_cache_size_if_unset(8 * 1024 * 1024);
        let seen = HashMap::new();
        Self { git, seen }
    }

    /// What is missing or damaged of a state; `None` where all of it is there. Files are looked
    /// for, and not read.
    pub fn fault(&mut self, state: StateId, tree: ObjectId) -> Option<String> {
        let commit = self.git.find_commit(state);
        match commit.and_then(|commit| commit.tree_id()) {
            Err(_) => Some("its commit is missing or damaged".to_owned()),
            Ok(found) if found.detach() != tree => {
                Some(format!("its commit has the tree {found} and not {tree}"))
            }
            Ok(_) => self.tree(tree, ""),
        }
    }

    fn tree(&mut self, tree: ObjectId, path: &str) -> Option<String> {
        if tree.is_empty_tree() {
            return None;
        }
        if let Some(known) = self.seen.get(&tree) {
            return known.clone();
        }
        let fault = self.entries(tree, path);
        self.seen.insert(tree, fault.clone());
        fault
    }

    fn entries(&mut self, tree: ObjectId, path: &str) -> Option<String> {
        let Some(entries) = self.read(tree) else {
            return Some(match path {
                "" => format!("its tree {tree} is missing or damaged"),
                path => format!("the folder {path} ({tree}) is missing or damaged"),
            });
        };
        entries.into_iter().find_map(|(kind, name, id)| {
            let path = match path {
                "" => name,
                path => format!("{path}/{name}"),
            };
            match kind {
                EntryKind::Tree => self.tree(id, &path),
                // Another repository's.
                EntryKind::Commit => None,
                _ => self.file(id, &path),
            }
        })
    }

    fn file(&mut self, file: ObjectId, path: &str) -> Option<String> {
        if let Some(known) = self.seen.get(&file) {
            return known.clone();
        }
        let there = self.git.has_object(file);
        let fault = (!there).then(|| format!("the file {path} ({file}) is missing"));
        self.seen.insert(file, fault.clone());
        fault
    }

    fn read(&self, tree: ObjectId) -> Option<Vec<(EntryKind, String, ObjectId)>> {
        let tree = self.git.find_tree(tree).ok()?;
        let entries = tree.iter().map(|entry| {
            let entry = entry.ok()?;
            let name = entry.filename().to_string();
            Some((entry.kind(), name, entry.object_id()))
        });
        entries.collect()
    }
}

impl GitDir {
    /// Whether an object is there.
    pub fn has_object(&self, id: impl Into<ObjectId>) -> bool {
        self.local().has_object(id.into())
    }

    /// The object id of these raw bytes.
    ///
    /// # Errors
    /// When they are none.
    pub fn object_id(bytes: &[u8]) -> Result<ObjectId, Error> {
        ObjectId::try_from(bytes)
            .map_err(|_| Error::Git(format!("{} bytes are no object id", bytes.len())))
    }
}
