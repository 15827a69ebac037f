//! Git's rules for paths: what is ignored (gitignore(5)), what lies outside a sparse checkout
//! (git-sparse-checkout(1)), and how content is filtered (gitattributes(5)).

use std::{
    fs,
    path::Path,
    sync::{Mutex, OnceLock, PoisonError},
};

use gix::{
    bstr::{BStr, ByteSlice},
    glob::pattern::Case,
    ignore::Search,
    index::entry::Mode,
    worktree::{
        Stack,
        stack::state::{attributes, ignore},
    },
};

use super::index::UserIndex;
use crate::git::{Error, GitDir, Worktree};

/// The rules of one worktree at one moment. Threads may ask at once.
pub(super) struct Rules<'a> {
    root: &'a Path,
    git: &'a GitDir,
    index: &'a UserIndex,
    sparse: Option<Sparse>,
    ignores: OnceLock<Result<Stack, String>>,
    free: Mutex<Vec<Ignores>>,
}

/// A thread's own view of the ignore rules: it remembers the folder that it was last asked about.
struct Ignores {
    git: gix::Repository,
    stack: Stack,
}

impl<'a> Rules<'a> {
    pub(super) fn new(git: &'a GitDir, worktree: &'a Worktree, index: &'a UserIndex) -> Self {
        Self {
            root: &worktree.root,
            git,
            index,
            sparse: Sparse::of(&git.local(), worktree),
            ignores: OnceLock::new(),
            free: Mutex::default(),
        }
    }

    /// Whether Git ignores a path that it does not track.
    pub(super) fn ignores(&self, path: &BStr, is_folder: bool) -> Result<bool, Error> {
        Error::check_length(self.root, path)?;
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = free().pop();
        let mut view = match taken {
            Some(view) => view,
            None => self.view()?,
        };
        let mode = if is_folder { Mode::DIR } else { Mode::FILE };
        let ignored = view
            .stack
            .at_entry(path, Some(mode), &view.git.objects)
            .map(|platform| platform.is_excluded())
            .map_err(|e| {
                // The rules of the folder that it is in are read as well.
                let folder = path
                    .rfind_byte(b'/')
                    .map_or(&b""[..], |slash| &path[..=slash]);
                let rules = [folder, b".gitignore"].concat();
                let too_long = Error::check_length(self.root, rules.as_bstr()).err();
                too_long.unwrap_or_else(|| self.unreadable(&e))
            });
        free().push(view);
        ignored
    }

    fn view(&self) -> Result<Ignores, Error> {
        let git = self.git.local();
        let stack = self.ignores.get_or_init(|| {
            let source = ignore::Source::WorktreeThenIdMappingIfNotSkipped;
            let stack = git.excludes(self.index.state(), None, source);
            stack.map(|stack| stack.detach()).map_err(|e| e.to_string())
        });
        match stack {
            Ok(stack) => Ok(Ignores {
                stack: stack.clone(),
                git,
            }),
            Err(reason) => Err(self.unreadable(reason)),
        }
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Unreadable {
            path: self.git.local().git_dir().to_owned(),
            reason: format!("its ignore rules: {error}"),
        }
    }

    /// Whether a sparse checkout is on.
    pub(super) fn is_sparse(&self) -> bool {
        self.sparse.is_some()
    }

    /// Whether a path is within the sparse checkout, if there is one.
    pub(super) fn in_sparse_checkout(&self, path: &BStr) -> bool {
        let sparse = self.sparse.as_ref();
        sparse.is_none_or(|sparse| sparse.includes(path))
    }

    /// A thread's own filters, and the attributes that they go by.
    pub(super) fn filters(&self, git: &gix::Repository) -> Result<Filters, Error> {
        let fail = |e: gix::Error| Error::unreadable(git, &e);
        let source = attributes::Source::WorktreeThenIdMapping;
        let stack = git
            .attributes_only(self.index.state(), source)
            .map_err(fail)?;
        let pipeline = gix::filter::Pipeline::new(git, stack.detach()).map_err(fail)?;
        let (pipeline, attributes) = pipeline.into_parts();
        Ok(Filters {
            pipeline,
            attributes,
        })
    }
}

/// What turns a file's content into what Git keeps.
pub(in crate::git) struct Filters {
    pub(super) pipeline: gix::filter::plumbing::Pipeline,
    pub(super) attributes: Stack,
}

/// The patterns of a sparse checkout. A cone is written in patterns that mean the same without
/// being told that they are one.
struct Sparse {
    patterns: Search,
    case: Case,
}

impl Sparse {
    fn of(git: &gix::Repository, worktree: &Worktree) -> Option<Self> {
        let config = git.config_snapshot();
        if !config.boolean("core.sparseCheckout").unwrap_or(false) {
            return None;
        }
        let bytes = fs::read(worktree.git_dir.join("info/sparse-checkout")).ok()?;
        let mut patterns = Search::default();
        let from = Path::new("sparse-checkout");
        patterns
            .add_patterns_buffer(&bytes, from, None, Default::default())
            .ok()?;
        let fold = config.boolean("core.ignoreCase").unwrap_or(false);
        let case = if fold { Case::Fold } else { Case::Sensitive };
        Some(Self { patterns, case })
    }

    /// The last pattern that matches decides, of the path or else of the nearest folder above.
    fn includes(&self, path: &BStr) -> bool {
        let mut path = path;
        let mut is_folder = false;
        loop {
            let found =
                self.patterns
                    .pattern_matching_relative_path(path, Some(is_folder), self.case);
            if let Some(found) = found {
                return !found.pattern.is_negative();
            }
            match path.rfind_byte(b'/') {
                Some(slash) => path = path[..slash].as_bstr(),
                None => return false,
            }
            is_folder = true;
        }
    }
}
