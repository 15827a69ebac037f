//! What bytes a worktree has for what a tree has: through Git's filters, by that tree's own attributes.

use std::{collections::BTreeSet, io::Read};

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    filter::plumbing::{
        driver::apply::{Delay, MaybeDelayed},
        pipeline::convert::{
            ToWorktreeOutcome,
            to_worktree::{Options, UnknownEncoding},
        },
    },
    index::{
        self,
        entry::{Flags, Mode, Stat},
    },
    worktree::{Stack, stack::state::attributes::Source},
};

use super::CheckoutError;
use crate::git::{
    Entry, Error,
    diff::TreePaths,
    filter::{Named, encode_to_worktree},
};

/// Says what bytes a worktree has for what a tree has.
pub(super) struct Renderer {
    git: gix::Repository,
    pipeline: gix::filter::plumbing::Pipeline,
    attributes: Stack,
    tree: ObjectId,
}

impl Renderer {
    /// By the attributes in `tree`, as far as `paths` see them.
    pub(super) fn new<'p>(
        git: gix::Repository,
        tree: ObjectId,
        paths: impl Iterator<Item = &'p BStr>,
    ) -> Result<Self, CheckoutError> {
        let attributes = attributes_of(&git, tree, paths)?;
        Ok(Self::with(git, tree, attributes)?)
    }

    /// The same, by attributes that [`attributes_of`] read.
    pub(super) fn with(
        git: gix::Repository,
        tree: ObjectId,
        attributes: Stack,
    ) -> Result<Self, Error> {
        let pipeline = gix::filter::Pipeline::new(&git, attributes);
        let (pipeline, attributes) = pipeline
            .map_err(|e| Error::unreadable(&git, &e))?
            .into_parts();
        Ok(Self {
            git,
            pipeline,
            attributes,
            tree,
        })
    }

    /// The bytes of this entry at this path.
    pub(super) fn content(&mut self, path: &BStr, entry: Entry) -> Result<Vec<u8>, CheckoutError> {
        let git = &self.git;
        let blob = git
            .find_object(entry.id)
            .map_err(|e| Error::unreadable(git, &e))?
            .detach();
        if entry.mode == Mode::SYMLINK {
            return Ok(blob.data);
        }
        let failed = |reason: String| CheckoutError::Filter {
            path: path.to_owned(),
            reason,
        };
        let named =
            Named::of(&mut self.attributes, path, git).map_err(|e| failed(e.to_string()))?;
        if named.is_encoded {
            let made = tempfile::tempdir_in(git.common_dir().join("heddle"))
                .and_then(|folder| encode_to_worktree(git, folder.path(), self.tree, path));
            return made.map_err(|e| failed(e.to_string()));
        }
        let found = self
            .attributes
            .at_entry(path, Some(Mode::FILE), &git.objects)
            .map_err(|e| failed(e.to_string()))?;
        let filtered = named.convert(&mut self.pipeline, |pipeline| {
            to_worktree(pipeline, &blob.data, path, |outcome| {
                found.matching_attributes(outcome);
            })
        });
        Ok(filtered.map_err(failed)?.unwrap_or(blob.data))
    }
}

/// A blob's content as it lies in a worktree; `None` where that is the same.
fn to_worktree(
    pipeline: &mut gix::filter::plumbing::Pipeline,
    blob: &[u8],
    path: &BStr,
    attributes: impl Fn(&mut gix::attrs::search::Outcome),
) -> Result<Option<Vec<u8>>, String> {
    let options = Options {
        can_delay: Delay::Forbid,
        unknown_encoding: UnknownEncoding::Fail,
    };
    let mut of_path = |_: &BStr, outcome: &mut gix::attrs::search::Outcome| attributes(outcome);
    let outcome = pipeline.convert_to_worktree(blob, path, &mut of_path, options);
    match outcome.map_err(|e| e.to_string())? {
        ToWorktreeOutcome::Unchanged(_) => Ok(None),
        ToWorktreeOutcome::Buffer(filtered) => Ok(Some(filtered.to_vec())),
        ToWorktreeOutcome::Process(MaybeDelayed::Immediate(mut filter)) => {
            let mut filtered = Vec::new();
            let read = filter.read_to_end(&mut filtered);
            read.map_err(|e| e.to_string())?;
            Ok(Some(filtered))
        }
        ToWorktreeOutcome::Process(MaybeDelayed::Delayed(_)) => {
            Err("it delays its answer although it was not asked to".into())
        }
    }
}

/// The attributes of a tree, as far as these paths see them: where it is checked out they decide,
/// not those that lie in the worktree now (gitattributes(5)).
pub(super) fn attributes_of<'p>(
    git: &gix::Repository,
    tree: ObjectId,
    paths: impl Iterator<Item = &'p BStr>,
) -> Result<Stack, CheckoutError> {
    let mut folders: BTreeSet<BString> = BTreeSet::new();
    for mut path in paths {
        while let Some(slash) = path.rfind_byte(b'/') {
            path = path[..slash].as_bstr();
            if !folders.insert(path.to_owned()) {
                break;
            }
        }
    }
    folders.insert(BString::default());
    let mut state = index::State::new(git.object_hash());
    let mut tree = TreePaths::new(git, tree)?;
    for mut file in folders {
        if !file.is_empty() {
            file.push(b'/');
        }
        file.extend_from_slice(b".gitattributes");
        if let Some(entry) = tree.entry(file.as_bstr())? {
            let stat = Stat::default();
            state.dangerously_push_entry(
                stat,
                entry.id,
                Flags::empty(),
                entry.mode,
                file.as_bstr(),
            );
        }
    }
    state.sort_entries();
    let stack = git
        .attributes_only(&state, Source::IdMapping)
        .map_err(|e| Error::unreadable(git, &e))?;
    Ok(stack.detach())
}
