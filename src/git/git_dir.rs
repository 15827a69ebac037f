//! `GitDir`: Git opened on a worktree's folder, or on the one that all share. What layers above ask
//! of Git's objects and refs, they ask it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use gix::ObjectId;

use super::{
    Change, Error, Head, NotAState, RepoPath, StateId,
    config_files::ConfigFiles,
    diff::{TreePaths, diff_trees},
    repository::open_git,
    revision,
    tree_cache::TreeCache,
};

/// Git, opened. Clones share it; threads may ask at once.
#[derive(Clone)]
pub struct GitDir {
    git: gix::ThreadSafeRepository,
    /// Whether packs are looked for anew when an object is missing.
    looks_again: bool,
    trees: Arc<TreeCache>,
}

/// Git, opened, with what must be as it was for it to be used on: configuration is read once, and
/// packs that were removed are still believed in.
pub struct OpenedGit {
    git: GitDir,
    config: ConfigFiles,
    packs: Packs,
}

impl OpenedGit {
    /// Opens a Git folder: a worktree's own, or the common one.
    ///
    /// # Errors
    /// When Git's files cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let git = GitDir::open(path)?;
        let local = git.local();
        Ok(Self {
            packs: Packs::of(&local),
            config: ConfigFiles::of(&local),
            git,
        })
    }

    /// Whether neither configuration nor packs have changed.
    pub fn is_current(&self) -> bool {
        self.has_its_config() && !self.packs.changed()
    }

    /// Whether configuration has not changed.
    pub(super) fn has_its_config(&self) -> bool {
        !self.config.changed()
    }

    /// Git, opened.
    pub fn git(&self) -> &GitDir {
        &self.git
    }
}

/// Where packs lie, of other repositories as well that lend theirs (gitrepository-layout(5),
/// objects/info/alternates), and when one last came or went there.
struct Packs {
    places: Vec<(PathBuf, Option<SystemTime>)>,
    opened: SystemTime,
}

/// The kernel stamps a folder with the time of its last tick: it may be stamped so once more.
const TICK: Duration = Duration::from_millis(20);

impl Packs {
    fn of(git: &gix::Repository) -> Self {
        let opened = SystemTime::now();
        let store = git.objects.store_ref();
        let lent = store.alternate_db_paths().unwrap_or_default();
        let all = std::iter::once(store.path()).chain(lent.iter().map(PathBuf::as_path));
        let places = all.flat_map(|objects| [objects.join("pack"), objects.join("info")]);
        let stamped = |place: PathBuf| {
            let seen = changed(&place);
            (place, seen)
        };
        Self {
            places: places.map(stamped).collect(),
            opened,
        }
    }

    fn changed(&self) -> bool {
        self.places.iter().any(|(place, seen)| {
            let unsettled = seen.is_some_and(|seen| seen + TICK > self.opened);
            unsettled || changed(place) != *seen
        })
    }
}

fn changed(folder: &Path) -> Option<SystemTime> {
    folder.metadata().and_then(|found| found.modified()).ok()
}

impl GitDir {
    /// Opens a Git folder: a worktree's own, or the common one.
    ///
    /// # Errors
    /// When Git's files cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let git = open_git(path).map_err(|e| Error::Unreadable {
            path: path.to_owned(),
            reason: e.to_string(),
        })?;
        Ok(Self {
            git: git.into_sync(),
            looks_again: true,
            trees: Arc::default(),
        })
    }

    /// The same, opened anew: what it maps of packs is given back when it is let go.
    ///
    /// # Errors
    /// When Git's files cannot be read.
    pub fn opened_anew(&self) -> Result<Self, Error> {
        let trees = self.trees();
        Ok(Self {
            trees,
            ..Self::open(self.git.path())?
        })
    }

    /// The same with the packs that are known now: an object that is in none is missing, which is found
    /// several times faster where many are.
    pub fn as_it_is(&self) -> Self {
        Self {
            looks_again: false,
            ..self.clone()
        }
    }

    /// Git for this thread.
    pub fn local(&self) -> gix::Repository {
        let mut git = self.git.to_thread_local();
        if !self.looks_again {
            git.objects.refresh_never();
        }
        git
    }

    /// Trees that were read lately.
    pub(super) fn trees(&self) -> Arc<TreeCache> {
        Arc::clone(&self.trees)
    }

    /// The branch and commit that are checked out now.
    ///
    /// # Errors
    /// When Git's files cannot be read.
    pub fn head(&self) -> Result<Head, Error> {
        Head::of(&self.local())
    }

    /// The commit that a revision means to Git.
    ///
    /// # Errors
    /// When it is none, or not a single one.
    pub fn resolve(&self, revision: &str) -> Result<StateId, NotAState> {
        revision::resolve(&self.local(), revision)
    }

    /// The commit of this raw object id.
    ///
    /// # Errors
    /// When it is none of this repository's.
    pub fn resolve_bytes(&self, bytes: &[u8]) -> Result<StateId, NotAState> {
        revision::resolve_bytes(&self.local(), bytes)
    }

    /// The tree of a state.
    ///
    /// # Errors
    /// When the commit is not there, or damaged.
    pub fn tree_of(&self, state: StateId) -> Result<ObjectId, Error> {
        let git = self.local();
        let tree = git
            .find_commit(state)
            .and_then(|commit| commit.tree_id())
            .map(gix::Id::detach);
        tree.map_err(|e| Error::unreadable(&git, &e))
    }

    /// Whether this is a tree, and there.
    pub fn has_tree(&self, id: ObjectId) -> bool {
        id.is_empty_tree() || self.local().find_tree(id).is_ok()
    }

    /// The tree that has nothing in it.
    pub fn empty_tree(&self) -> ObjectId {
        ObjectId::empty_tree(self.local().object_hash())
    }

    /// The paths in which two trees differ, in order; limited to `paths`, unless there are none.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn diff(
        &self,
        from: ObjectId,
        to: ObjectId,
        paths: &[RepoPath],
    ) -> Result<Vec<Change>, Error> {
        diff_trees((&self.local(), &self.trees), from, to, paths)
    }

    /// The first path, in their order, at which neither tree has a file or folder.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn unknown_path<'p>(
        &self,
        trees: [ObjectId; 2],
        paths: &'p [RepoPath],
    ) -> Result<Option<&'p RepoPath>, Error> {
        let git = self.local();
        let [mut one, mut other] = [
            TreePaths::new(&git, trees[0])?,
            TreePaths::new(&git, trees[1])?,
        ];
        let mut paths: Vec<&RepoPath> = paths.iter().collect();
        paths.sort_unstable_by_key(|path| path.as_bstr());
        for path in paths {
            if !one.has(path.as_bstr())? && !other.has(path.as_bstr())? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Whether a branch of this name is there.
    pub fn has_branch(&self, name: &str) -> bool {
        let git = self.local();
        let name = format!("refs/heads/{name}");
        matches!(git.try_find_reference(name.as_str()), Ok(Some(_)))
    }
}
