//! The walk through what is new in a tree: folders that are in with all that is in them are not
//! entered.

use std::{cell::Cell, rc::Rc, vec};

use super::{Counts, folder_id, progress::Became, tree_files};
use crate::{
    git::{BString, Error, GitDir, InFolder, ObjectId, Rules, TreeFiles},
    store::{self, SymbolReads},
    symbol::{Language, LeftOut, language_of},
};

/// What the walk comes to.
pub(super) enum Step {
    /// A file that is not left out by the tree's rules, in a folder with this tally.
    File {
        path: BString,
        blob: ObjectId,
        language: &'static Language,
        tally: Tally,
    },
    /// A folder that is in: it was counted.
    Known(Counts),
    /// A file that is left out by the tree's rules, or a folder that cannot be read: it was counted.
    Passed(Became),
    /// The end of a folder: all that is in it came before.
    Done(Folder),
}

/// Counts of a folder that is walked through.
pub(super) type Tally = Rc<Cell<Counts>>;

/// A folder that was walked through.
pub(super) struct Folder {
    pub(super) id: i64,
    pub(super) tally: Tally,
    /// That of the folder around it.
    pub(super) around: Option<Tally>,
}

pub(super) struct Walk {
    files: TreeFiles,
    /// The tree, until the walk begins.
    top: Option<ObjectId>,
    /// Folders in each other.
    open: Vec<Open>,
}

struct Open {
    folder: Folder,
    path: BString,
    inside: vec::IntoIter<InFolder>,
    rules: Rules,
}

/// Why a walk ends early.
pub(super) enum Failed {
    Git(Error),
    Store(store::Error),
}

impl Failed {
    /// What is wrong with Git beside what was found, and what is wrong with the database by itself.
    pub(super) fn sort<T>(result: Result<T, Self>) -> Result<Result<T, Error>, store::Error> {
        match result {
            Ok(found) => Ok(Ok(found)),
            Err(Self::Git(error)) => Ok(Err(error)),
            Err(Self::Store(error)) => Err(error),
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Git(error)
    }
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl Walk {
    /// Through this tree.
    pub(super) fn new(git: &GitDir, tree: ObjectId) -> Result<Self, Error> {
        Ok(Self {
            files: tree_files(git, tree)?,
            top: Some(tree),
            open: Vec::new(),
        })
    }

    fn enter(&mut self, path: BString, id: i64) -> Result<(), Error> {
        let (inside, rules) = self.files.folder(&path)?;
        let around = self.open.last().map(|open| Rc::clone(&open.folder.tally));
        self.open.push(Open {
            folder: Folder {
                id,
                tally: Tally::default(),
                around,
            },
            path,
            inside: inside.into_iter(),
            rules,
        });
        Ok(())
    }

    /// The next step; `None` at the end.
    pub(super) fn next(&mut self, reads: &SymbolReads<'_>) -> Result<Option<Step>, Failed> {
        if let Some(top) = self.top.take() {
            let id = folder_id(top, b"", &[]);
            if let Some(counts) = reads.folder(id)? {
                return Ok(Some(Step::Known(counts.into())));
            }
            self.enter(BString::default(), id)?;
        }
        loop {
            let Some(open) = self.open.last_mut() else {
                return Ok(None);
            };
            match open.inside.next() {
                None => return Ok(self.open.pop().map(|done| Step::Done(done.folder))),
                Some(InFolder::Folder(name, tree)) => {
                    let path = [&open.path[..], &name, b"/"].concat();
                    let id = folder_id(tree, &path, &open.rules);
                    if let Some(counts) = reads.folder(id)? {
                        let counts = Counts::from(counts);
                        add(&open.folder.tally, counts);
                        return Ok(Some(Step::Known(counts)));
                    }
                    let around = Rc::clone(&open.folder.tally);
                    if let Err(error) = self.enter(path.into(), id) {
                        tracing::debug!("not in the index: {error}");
                        return Ok(Some(passed(&around, Became::Unreadable)));
                    }
                }
                Some(InFolder::File(name, blob)) => {
                    let Some(language) = language_of(&name) else {
                        continue;
                    };
                    let path = BString::from([&open.path[..], &name].concat());
                    if let Some(why) = LeftOut::by_rules(&mut self.files, &path)? {
                        return Ok(Some(passed(&open.folder.tally, Became::LeftOut(why))));
                    }
                    return Ok(Some(Step::File {
                        path,
                        blob,
                        language,
                        tally: Rc::clone(&open.folder.tally),
                    }));
                }
            }
        }
    }
}

pub(super) fn add(tally: &Tally, counts: Counts) {
    let mut all = tally.get();
    all.add(counts);
    tally.set(all);
}

pub(super) fn count(tally: &Tally, became: Became) {
    let mut all = tally.get();
    all.count(became);
    tally.set(all);
}

fn passed(tally: &Tally, became: Became) -> Step {
    count(tally, became);
    Step::Passed(became)
}
