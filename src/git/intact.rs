//! Whether all of a state is there: its commit, its folders, its files.

use std::{collections::HashMap, vec};

use gix::{ObjectId, objs::tree::EntryKind};

use super::{Error, GitDir, StateId, repository::MAX_TREE_DEPTH};

/// Looks at states. What one was found to have is not looked for again in the next.
pub struct Intact {
    git: gix::Repository,
    /// The first fault in each tree and file that was looked at.
    seen: HashMap<ObjectId, Option<String>>,
}

/// What a tree has of one name.
type Row = (EntryKind, String, ObjectId);

/// A folder that is being looked at.
struct Open {
    tree: ObjectId,
    path: String,
    rest: vec::IntoIter<Row>,
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
            Ok(_) => self.tree(tree),
        }
    }

    /// The first fault in a tree. The folders around the present one wait in a list, and not on the
    /// stack: a tree may be as deep as somebody made it.
    fn tree(&mut self, tree: ObjectId) -> Option<String> {
        let mut open = Vec::new();
        let mut fault = self.enter(tree, "", &mut open);
        while fault.is_none() {
            let folder = open.last_mut()?;
            let Some((kind, name, id)) = folder.rest.next() else {
                self.seen.insert(folder.tree, None);
                open.pop();
                continue;
            };
            let path = match folder.path.as_str() {
                "" => name,
                path => format!("{path}/{name}"),
            };
            fault = match kind {
                EntryKind::Tree => self.enter(id, &path, &mut open),
                // Another repository's.
                EntryKind::Commit => None,
                _ => self.file(id, &path),
            };
        }
        for folder in open {
            self.seen.insert(folder.tree, fault.clone());
        }
        fault
    }

    /// Goes into a folder that was not looked at yet; answers what is wrong with it by itself.
    fn enter(&mut self, tree: ObjectId, path: &str, open: &mut Vec<Open>) -> Option<String> {
        if tree.is_empty_tree() {
            return None;
        }
        if let Some(known) = self.seen.get(&tree) {
            return known.clone();
        }
        if open.len() > MAX_TREE_DEPTH {
            return Some(Error::too_deep(path.into()).to_string());
        }
        match self.read(tree) {
            Some(entries) => {
                open.push(Open {
                    tree,
                    path: path.to_owned(),
                    rest: entries.into_iter(),
                });
                None
            }
            None => {
                let fault = match path {
                    "" => format!("its tree {tree} is missing or damaged"),
                    path => format!("the folder {path} ({tree}) is missing or damaged"),
                };
                self.seen.insert(tree, Some(fault.clone()));
                Some(fault)
            }
        }
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

    fn read(&self, tree: ObjectId) -> Option<Vec<Row>> {
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
