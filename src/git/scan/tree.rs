//! Trees of what was found, folder by folder. A folder that is as it was keeps its tree, and costs
//! no hashing.

use std::collections::HashMap;

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    index::entry::{Mode, Stat},
    objs::Kind,
};

use super::{
    Listing, ScanError,
    cache::Found,
    walk::{Walk, Walked},
};
use crate::git::ObjectBatch;

/// The trees of a worktree's folders, by path, with the content that they were made of.
pub type Trees = HashMap<BString, (Vec<u8>, ObjectId)>;

struct Builder<'a> {
    found: &'a [Found],
    objects: &'a ObjectBatch,
    git: gix::Repository,
    before: &'a Trees,
    trees: Trees,
    /// Places in `found` whose blob is not there any more.
    missing: Vec<usize>,
    /// Whether the repository has promises of objects instead of the objects (partial-clone).
    partial: bool,
}

/// Builds the tree of everything that was found.
pub(super) fn build(
    walked: Vec<Walked>,
    walk: &Walk<'_>,
    objects: &ObjectBatch,
    before: &Trees,
) -> Result<(ObjectId, Trees, Listing), ScanError> {
    let found: Vec<Found> = walked.into_iter().filter_map(found).collect();
    let git = walk.git.to_thread_local();
    let mut builder = Builder {
        found: &found,
        objects,
        partial: is_partial(&git),
        git,
        before,
        trees: Trees::with_capacity(before.len()),
        missing: Vec::new(),
    };
    let tree = builder.folder(0, found.len(), 0)?;
    let Builder { trees, missing, .. } = builder;
    if let Some(at) = missing.first() {
        // Only a pruned or damaged object database lacks what the index or a state refers to.
        return Err(ScanError::Unreadable {
            path: walk.absolute(found[*at].path.as_bstr()),
            source: std::io::Error::other(format!(
                "Git's object {} is missing; `git fsck` says more, and touching the file has it read again",
                found[*at].id
            )),
        });
    }
    Ok((tree, trees, Listing::new(found, tree)))
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

fn found(walked: Walked) -> Option<Found> {
    Some(Found {
        id: walked.id?,
        path: walked.path,
        mode: walked.mode,
        stat: walked.stat,
        index_id: walked.index_id,
        seen_at: walked.seen_at,
    })
}

impl Builder<'_> {
    /// The tree of the paths from `start` to `end`, which share their first `prefix` bytes.
    fn folder(&mut self, start: usize, end: usize, prefix: usize) -> Result<ObjectId, ScanError> {
        let mut entries: Vec<(&BStr, Mode, ObjectId, Option<usize>)> = Vec::new();
        let all = self.found;
        let mut at = start;
        while at < end {
            let path = all[at].path.as_bstr();
            let rest = &path[prefix..];
            match rest.find_byte(b'/') {
                None => {
                    entries.push((rest.as_bstr(), all[at].mode, all[at].id, Some(at)));
                    at += 1;
                }
                Some(slash) => {
                    let folder = &path[..prefix + slash + 1];
                    let inside = |found: &Found| found.path.starts_with(folder);
                    let next = at + all[at..end].partition_point(inside);
                    let tree = self.folder(at, next, prefix + slash + 1)?;
                    entries.push((rest[..slash].as_bstr(), Mode::DIR, tree, None));
                    at = next;
                }
            }
        }
        // Already so, but for a folder outside of a sparse checkout that is one entry.
        entries.sort_by(|a, b| in_tree_order(a.0, a.1).cmp(in_tree_order(b.0, b.1)));
        let mut bytes = Vec::with_capacity(entries.len() * 48);
        for (name, mode, id, _) in &entries {
            bytes.extend_from_slice(format!("{:o} ", mode.bits()).as_bytes());
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(id.as_bytes());
        }
        let path = all
            .get(start)
            .map_or(BStr::new(b""), |found| found.path[..prefix].as_bstr());
        if let Some((before, id)) = self.before.get(path)
            && *before == bytes
        {
            let id = *id;
            self.trees.insert(path.to_owned(), (bytes, id));
            return Ok(id);
        }
        for (_, mode, id, at) in &entries {
            // A submodule's commit is in another repository, and a partial clone lacks what its
            // sparse checkout leaves out; a tree was just referred to.
            let absent = at.is_some_and(|at| all[at].stat == Stat::default());
            let elsewhere = *mode == Mode::COMMIT || (self.partial && absent);
            if !elsewhere && !self.objects.refer_to(&self.git, *id) {
                self.missing.extend(*at);
            }
        }
        let id = self.objects.write(&self.git, Kind::Tree, &bytes)?;
        self.trees.insert(path.to_owned(), (bytes, id));
        Ok(id)
    }
}

/// A folder sorts as `name/` (gitformat-index(5)).
fn in_tree_order(name: &BStr, mode: Mode) -> impl Iterator<Item = u8> {
    let slash = (mode == Mode::DIR).then_some(b'/');
    name.iter().copied().chain(slash)
}
