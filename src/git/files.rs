//! Single files of a state, and the line of commits that leads from one state to another.

use gix::{ObjectId, bstr::ByteSlice, objs::Kind};

use super::{Error, GitDir, StateId};

/// Commits that are looked at for a line from one state to another.
const LINE_LIMIT: usize = 5_000;

impl GitDir {
    /// The blob of the file at a path; `None` where a tree has none there: nothing, a folder, a link
    /// or a submodule.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn file_at(&self, tree: ObjectId, path: &[u8]) -> Result<Option<ObjectId>, Error> {
        if tree.is_empty_tree() {
            return Ok(None);
        }
        let git = self.local();
        let fail = |e| Error::unreadable(&git, &e);
        let parts = path.split_str("/");
        let found = git.find_tree(tree).map_err(fail)?.lookup_entry(parts);
        let found = found.map_err(fail)?.filter(|entry| entry.mode().is_blob());
        Ok(found.map(|entry| entry.object_id()))
    }

    /// The content of a blob; `None` where it has more bytes than `limit`.
    ///
    /// # Errors
    /// When it is not there, or no blob.
    pub fn blob(&self, id: ObjectId, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let git = self.local();
        let header = git
            .find_header(id)
            .map_err(|e| Error::unreadable(&git, &e))?;
        if header.kind() != Kind::Blob || header.size() > limit as u64 {
            return Ok(None);
        }
        let mut blob = git.find_blob(id).map_err(|e| Error::unreadable(&git, &e))?;
        Ok(Some(blob.take_data()))
    }

    /// The states to go through from one to another, the other with them and the one without: along
    /// first parents, back to where both lines meet and then on. Where they do not meet within 5,000
    /// commits there is nothing between them.
    ///
    /// # Errors
    /// When a commit cannot be read.
    pub fn line_between(&self, from: StateId, to: StateId) -> Result<Vec<StateId>, Error> {
        let (mut back, mut on) = (vec![from], vec![to]);
        loop {
            if let Some(at) = back.iter().position(|it| Some(it) == on.last()) {
                return Ok(joined(&back[..=at], &on));
            }
            if let Some(at) = on.iter().position(|it| Some(it) == back.last()) {
                return Ok(joined(&back, &on[..=at]));
            }
            let ended = [&mut back, &mut on].map(|line| self.go_back(line));
            let [back_ended, on_ended] = ended;
            if (back_ended? && on_ended?) || on.len() + back.len() > LINE_LIMIT {
                return Ok(vec![to]);
            }
        }
    }

    /// Whether the line has come to its end.
    fn go_back(&self, line: &mut Vec<StateId>) -> Result<bool, Error> {
        let Some(&last) = line.last() else {
            return Ok(true);
        };
        let parent = self.first_parent(last)?;
        line.extend(parent);
        Ok(parent.is_none())
    }

    /// The first parent of a commit.
    ///
    /// # Errors
    /// When the commit cannot be read.
    pub fn first_parent(&self, state: StateId) -> Result<Option<StateId>, Error> {
        let git = self.local();
        let commit = git
            .find_commit(state)
            .map_err(|e| Error::unreadable(&git, &e))?;
        let parent = commit.parent_ids().next();
        Ok(parent.map(|id| StateId::from(id.detach())))
    }
}

/// Two lines whose last states are one and the same, without the first of the first.
fn joined(back: &[StateId], on: &[StateId]) -> Vec<StateId> {
    let on = on.iter().rev().skip(1);
    back.iter().skip(1).chain(on).copied().collect()
}
