//! Trees of what was seen, folder by folder. A folder that is as it was keeps its tree, and costs
//! neither hashing nor a look at its paths.

use std::{collections::HashMap, io::Write, mem, ops::Range};

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    index::entry::{Mode, Stat},
    objs::Kind,
};

use super::{
    Listing, ScanError,
    walk::{Seen, Walk},
};
use crate::git::ObjectBatch;

/// The trees of the folders of a listing, by path: empty, or with a slash at its end.
#[derive(Debug, Default)]
pub(super) struct Trees(HashMap<BString, ObjectId>);

impl Trees {
    /// Trees that were made are known from now on; with `listing`, those of folders that are not in
    /// it are no longer.
    pub(super) fn follow(&mut self, made: Made, listing: Option<&Listing>) {
        self.0.extend(made.0);
        if let Some(listing) = listing {
            let is_there = |path: &BStr| !listing.below(listing.all(), path).is_empty();
            self.0.retain(|path, _| is_there(path.as_bstr()));
        }
    }

    /// Something changed at a path in the listing: the folders above it have other trees.
    pub(super) fn forget(&mut self, path: &BStr) {
        let mut path = path;
        while let Some(slash) = path.rfind_byte(b'/') {
            self.0.remove(path[..=slash].as_bstr());
            path = path[..slash].as_bstr();
        }
        self.0.remove(BStr::new(b""));
    }
}

/// The trees that were made of what was seen, by path.
#[derive(Debug)]
pub(super) struct Made(Vec<(BString, ObjectId)>);

struct Builder<'a> {
    seen: &'a [Seen],
    walk: &'a Walk<'a>,
    before: &'a Listing,
    trees: &'a Trees,
    objects: &'a ObjectBatch,
    git: gix::Repository,
    made: Vec<(BString, ObjectId)>,
    /// A path whose blob is not there any more, and that blob.
    missing: Option<(BString, ObjectId)>,
    /// Whether the repository has promises of objects instead of the objects (partial-clone).
    partial: bool,
}

/// What a tree has of one name.
struct Row<'a> {
    name: &'a BStr,
    mode: Mode,
    id: ObjectId,
    /// Whether the object is known to be there for good.
    vouched: bool,
    /// Whether it is kept although nothing is in the worktree.
    absent: bool,
}

/// Builds the tree of everything that was seen. `trees` are those of `before`.
pub(super) fn build(
    seen: &[Seen],
    walk: &Walk<'_>,
    objects: &ObjectBatch,
    before: &Listing,
    trees: &Trees,
) -> Result<(ObjectId, Made), ScanError> {
    let git = walk.git.to_thread_local();
    let mut builder = Builder {
        seen,
        walk,
        before,
        trees,
        objects,
        partial: is_partial(&git),
        git,
        made: Vec::new(),
        missing: None,
    };
    let tree = builder.whole()?;
    if let Some((path, id)) = builder.missing {
        // Only a pruned or damaged object database lacks what the index or a state refers to.
        return Err(ScanError::Unreadable {
            path: walk.absolute(path.as_bstr()),
            source: std::io::Error::other(format!(
                "Git's object {id} is missing; `git fsck` says more, and touching the file has it read again",
            )),
        });
    }
    Ok((tree, Made(builder.made)))
}

/// A folder whose tree is being made.
struct Folder<'a> {
    /// Empty, or with a slash at its end.
    path: &'a BStr,
    /// What was seen in it and is not in a row yet.
    rest: Range<usize>,
    /// Where all of it was before.
    was: Range<usize>,
    rows: Vec<Row<'a>>,
}

impl<'a> Folder<'a> {
    /// A row for the folder at `path` in this one; `vouched` if it has the tree that it had before.
    fn add(&mut self, path: &'a BStr, id: ObjectId, vouched: bool) {
        self.rows.push(Row {
            name: path[self.path.len()..path.len() - 1].as_bstr(),
            mode: Mode::DIR,
            id,
            vouched,
            absent: false,
        });
    }
}

impl<'a> Builder<'a> {
    /// The tree of all that was seen. The folders that lie around the present one wait in a list, and
    /// not on the stack: no stack is as deep as folders are.
    fn whole(&mut self) -> Result<ObjectId, ScanError> {
        let mut around: Vec<Folder<'a>> = Vec::new();
        let mut folder = Folder {
            path: BStr::new(b""),
            rest: 0..self.seen.len(),
            was: self.before.all(),
            rows: Vec::new(),
        };
        if let Some(id) = self.known(&folder) {
            return Ok(id);
        }
        loop {
            if let Some(inner) = self.next_folder(&mut folder) {
                match self.known(&inner) {
                    Some(id) => folder.add(inner.path, id, true),
                    None => around.push(mem::replace(&mut folder, inner)),
                }
                continue;
            }
            let id = self.write(folder.rows, folder.path)?;
            self.made.push((folder.path.to_owned(), id));
            let Some(mut outer) = around.pop() else {
                return Ok(id);
            };
            outer.add(folder.path, id, false);
            folder = outer;
        }
    }

    /// The tree of a folder that is as it was before.
    fn known(&self, folder: &Folder<'a>) -> Option<ObjectId> {
        let id = self.trees.0.get(folder.path)?;
        is_same(&self.seen[folder.rest.clone()], &folder.was).then_some(*id)
    }

    /// Gives the files of a folder their rows, up to the next folder in it.
    fn next_folder(&self, folder: &mut Folder<'a>) -> Option<Folder<'a>> {
        let (all, walk) = (self.seen, self.walk);
        while !folder.rest.is_empty() {
            let (at, end) = (folder.rest.start, folder.rest.end);
            let path = walk.path_of(&all[at]);
            let rest = &path[folder.path.len()..];
            let Some(slash) = rest.find_byte(b'/') else {
                folder
                    .rows
                    .extend(row(&all[at], rest.as_bstr(), self.before));
                folder.rest.start += 1;
                continue;
            };
            let path = path[..folder.path.len() + slash + 1].as_bstr();
            let inside = |seen: &Seen| walk.path_of(seen).starts_with(path);
            let next = at + all[at..end].partition_point(inside);
            folder.rest.start = next;
            return Some(Folder {
                path,
                rest: at..next,
                was: self.before.below(folder.was.clone(), path),
                rows: Vec::new(),
            });
        }
        None
    }

    fn write(&mut self, mut rows: Vec<Row<'_>>, path: &BStr) -> Result<ObjectId, ScanError> {
        // Already so, but for a folder outside of a sparse checkout that is one entry.
        rows.sort_by(|a, b| in_tree_order(a.name, a.mode).cmp(in_tree_order(b.name, b.mode)));
        let mut bytes = Vec::with_capacity(rows.len() * 48);
        for row in &rows {
            // A vector takes all that it is given.
            let _ = write!(bytes, "{:o} ", row.mode.bits());
            bytes.extend_from_slice(row.name);
            bytes.push(0);
            bytes.extend_from_slice(row.id.as_bytes());
            // A submodule's commit is in another repository, and a partial clone lacks what its
            // sparse checkout leaves out.
            let elsewhere = row.mode == Mode::COMMIT || (self.partial && row.absent);
            if !elsewhere && !row.vouched && !self.objects.refer_to(&self.git, row.id) {
                let mut path = path.to_owned();
                path.extend_from_slice(row.name);
                self.missing.get_or_insert((path, row.id));
            }
        }
        Ok(self.objects.write(&self.git, Kind::Tree, &bytes)?)
    }
}

fn row<'a>(seen: &Seen, name: &'a BStr, before: &Listing) -> Option<Row<'a>> {
    let (mode, id, stat, vouched) = match seen {
        Seen::Same { at, .. } => {
            let known = before.at(*at);
            (known.mode, known.id, known.stat, known.vouched)
        }
        Seen::New(walked) => (walked.mode, walked.id?, walked.stat, false),
    };
    Some(Row {
        name,
        mode,
        id,
        vouched,
        absent: stat == Stat::default(),
    })
}

/// Whether a remote has promised objects that are not here (gitrepository-layout(5), promisor).
fn is_partial(git: &gix::Repository) -> bool {
    let config = git.config_snapshot();
    let promises = |section: &gix::config::file::SectionRef<'_>| {
        section.value("promisor").is_some() || section.value("partialCloneFilter").is_some()
    };
    let remotes = config.plumbing().sections_by_name("remote");
    config.string("extensions.partialClone").is_some()
        || remotes.is_some_and(|mut remotes| remotes.any(|remote| promises(&remote)))
}

/// Whether what was seen is what the listing has at `was`: all of it, and nothing else.
fn is_same(seen: &[Seen], was: &Range<usize>) -> bool {
    let same = |(seen, was): (&Seen, usize)| matches!(seen, Seen::Same { at, .. } if *at == was);
    seen.len() == was.len() && seen.iter().zip(was.clone()).all(same)
}

/// A folder sorts as `name/` (gitformat-index(5)).
fn in_tree_order(name: &BStr, mode: Mode) -> impl Iterator<Item = u8> {
    let slash = (mode == Mode::DIR).then_some(b'/');
    name.iter().copied().chain(slash)
}
