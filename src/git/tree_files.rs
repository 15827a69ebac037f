//! What a tree has at paths, and what attributes its own `.gitattributes` files give them. Those of
//! the worktree, of the user and of the machine have no say: the answer is the tree's alone.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use gix::{
    ObjectId,
    attrs::{
        Search, StateRef,
        search::{MetadataCollection, Outcome},
    },
    bstr::{BString, ByteSlice},
    glob::pattern::Case,
    objs::{Kind, TreeRefIter},
};

use super::{
    Error, GitDir,
    repository::MAX_TREE_DEPTH,
    tree_cache::{Content, TreeCache},
};
use crate::shorten::shortened;

/// Files of attributes with more bytes than this say nothing.
const RULES_LIMIT: u64 = 1 << 20;
const RULES: &[u8] = b".gitattributes";
/// Rules with more `**` than this say nothing. Matching one, in Git as well, takes the depth of the path
/// to the power of their number.
const STARS_LIMIT: usize = 4;

/// The files of one tree. Folders around the last path stay open: where paths are asked for in their
/// order, each folder is read once.
pub struct TreeFiles {
    git: gix::Repository,
    trees: Arc<TreeCache>,
    open: Vec<Folder>,
    rules: Search,
    names: MetadataCollection,
    found: Outcome,
}

struct Folder {
    /// Empty, or with a slash at its end.
    path: BString,
    content: Content,
    has_rules: bool,
    in_force: Rules,
}

/// The files of rules that hold in a folder, by the lengths of their own folders' paths.
pub type Rules = Vec<(usize, ObjectId)>;

/// A file or folder in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InFolder {
    /// A file, and neither a link nor a submodule: its name and blob.
    File(BString, ObjectId),
    /// A folder: its name and tree.
    Folder(BString, ObjectId),
}

impl TreeFiles {
    /// Those of this tree, and which of these attributes they have.
    ///
    /// # Errors
    /// When the tree cannot be read.
    pub fn new(git: &GitDir, tree: ObjectId, attributes: &[&str]) -> Result<Self, Error> {
        let mut names = MetadataCollection::default();
        // Only the attributes that are built into Git, and no file.
        let rules = Search::new_globals(Vec::<&Path>::new(), &mut Vec::new(), &mut names)
            .unwrap_or_default();
        let mut found = Outcome::default();
        found.initialize_with_selection(&names, attributes);
        let mut files = Self {
            git: git.local(),
            trees: git.trees(),
            open: Vec::new(),
            rules,
            names,
            found,
        };
        files.enter(BString::default(), tree)?;
        Ok(files)
    }

    /// The blob of the file at a path; `None` where there is nothing, a folder, a link or a submodule.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn file(&mut self, path: &[u8]) -> Result<Option<ObjectId>, Error> {
        let name = self.go_to(path)?;
        let found = name.and_then(|name| self.lookup(name));
        let is_file = |mode: gix::objs::tree::EntryMode| mode.is_blob();
        Ok(found.and_then(|(mode, id)| is_file(mode).then_some(id)))
    }

    /// The first of the attributes that is set for the path, if one is; set to `false` is not set.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn first_set(&mut self, path: &[u8]) -> Result<Option<usize>, Error> {
        self.go_to(path)?;
        self.found.initialize(&self.names);
        let path = path.as_bstr();
        let case = Case::Sensitive;
        self.rules
            .pattern_matching_relative_path(path, case, Some(false), &mut self.found);
        let is_set = |state: StateRef<'_>| match state {
            StateRef::Set => true,
            StateRef::Value(value) => value.as_bstr() != "false",
            StateRef::Unset | StateRef::Unspecified => false,
        };
        let mut all = self.found.iter_selected();
        Ok(all.position(|one| is_set(one.assignment.state)))
    }

    /// What is in the folder at a path that is empty or ends with a slash, and which rules hold in it.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn folder(&mut self, path: &[u8]) -> Result<(Vec<InFolder>, Rules), Error> {
        let found = self.go_to(path)?;
        let Some(folder) = self.open.last().filter(|_| found == Some(b"")) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let mut inside = Vec::new();
        for entry in TreeRefIter::from_bytes(&folder.content, self.git.object_hash()) {
            let fail = |e| Error::unreadable(&self.git, &gix::Error::from_error(e));
            let entry = entry.map_err(fail)?;
            let (name, id) = (entry.filename.to_owned(), entry.oid.to_owned());
            match entry.mode {
                mode if mode.is_tree() => inside.push(InFolder::Folder(name, id)),
                mode if mode.is_blob() => inside.push(InFolder::File(name, id)),
                _ => {}
            }
        }
        Ok((inside, folder.in_force.clone()))
    }

    /// Opens the folder around a path; answers the path's last name, if the tree has that folder.
    fn go_to<'p>(&mut self, path: &'p [u8]) -> Result<Option<&'p [u8]>, Error> {
        while let Some(folder) = self.open.last()
            && !path.starts_with(&folder.path)
            && self.open.len() > 1
        {
            if self.open.pop().is_some_and(|folder| folder.has_rules) {
                self.rules.pop_pattern_list();
            }
        }
        let mut at = self.open.last().map_or(0, |folder| folder.path.len());
        while let Some(end) = path[at..].find_byte(b'/').map(|slash| at + slash) {
            let inner = self.lookup(&path[at..end]);
            let Some((_, inner)) = inner.filter(|(mode, _)| mode.is_tree()) else {
                return Ok(None);
            };
            self.enter(path[..=end].into(), inner)?;
            at = end + 1;
        }
        Ok(Some(&path[at..]))
    }

    /// Opens a folder in the innermost that is open. One whose rules cannot be read is not opened.
    fn enter(&mut self, path: BString, tree: ObjectId) -> Result<(), Error> {
        if self.open.len() > MAX_TREE_DEPTH {
            return Err(Error::too_deep(path.as_bstr()));
        }
        let content = self.trees.tree(&self.git, tree)?;
        let is_top = self.open.is_empty();
        let around = self.open.last();
        let in_force = around.map_or_else(Vec::new, |folder| folder.in_force.clone());
        self.open.push(Folder {
            path,
            content,
            has_rules: false,
            in_force,
        });
        let rules = self.lookup(RULES).filter(|(mode, _)| mode.is_blob());
        let Some((_, id)) = rules else {
            return Ok(());
        };
        let text = self.rules_text(id).inspect_err(|_| {
            self.open.pop();
        })?;
        if let Some(text) = text
            && let Some(folder) = self.open.last_mut()
        {
            let place = [&folder.path, RULES].concat();
            let place = Path::new(OsStr::from_bytes(&place)).to_owned();
            let top = Some(Path::new(""));
            let added = self
                .rules
                .add_patterns_buffer(&text, place, top, &mut self.names, is_top);
            folder.has_rules = added.is_ok();
            folder.in_force.push((folder.path.len(), id));
        }
        Ok(())
    }

    fn rules_text(&self, id: ObjectId) -> Result<Option<Vec<u8>>, Error> {
        let fail = |e| Error::unreadable(&self.git, &e);
        let header = self.git.find_header(id).map_err(fail)?;
        if header.kind() != Kind::Blob || header.size() > RULES_LIMIT {
            return Ok(None);
        }
        let text = self.git.find_blob(id).map_err(fail)?.take_data();
        let (quick, slow): (Vec<_>, Vec<_>) = text
            .lines_with_terminator()
            .partition(|rule| rule.find_iter("**").count() <= STARS_LIMIT);
        if let Some(slow) = slow.first() {
            let rule = slow.trim_end().to_str_lossy();
            tracing::warn!(
                "a .gitattributes has a rule with more than {STARS_LIMIT} times **, which is passed over: {}",
                shortened(&rule, 200)
            );
        }
        Ok(Some(quick.concat()))
    }

    /// What the innermost open folder has of this name.
    fn lookup(&self, name: &[u8]) -> Option<(gix::objs::tree::EntryMode, ObjectId)> {
        let folder = self.open.last()?;
        let mut entries = TreeRefIter::from_bytes(&folder.content, self.git.object_hash());
        entries.find_map(|entry| {
            let entry = entry.ok().filter(|entry| entry.filename == name)?;
            Some((entry.mode, entry.oid.to_owned()))
        })
    }
}
