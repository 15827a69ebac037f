//! Single files of a state, and the line of commits that leads from one state to another.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    iter,
};

use gix::{ObjectId, bstr::ByteSlice, objs::Kind};

use super::{Error, GitDir, StateId};

/// Commits that are looked at for a line from one state to another.
const LINE_LIMIT: usize = 5_000;
/// Seconds by which the clocks of those who commit may differ.
const CLOCKS_DIFFER: i64 = 24 * 60 * 60;

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

    /// The parents of a commit; none where a shallow clone ends.
    ///
    /// # Errors
    /// When the commit cannot be read.
    fn parents(&self, state: StateId) -> Result<Vec<StateId>, Error> {
        let git = self.local();
        let fail = |e| Error::unreadable(&git, &e);
        let commit = git.find_commit(state).map_err(fail)?;
        let end = git.shallow_commits().map_err(fail)?;
        if end.is_some_and(|end| end.contains(&commit.id)) {
            return Ok(Vec::new());
        }
        let parents = commit.parent_ids();
        Ok(parents.map(|id| StateId::from(id.detach())).collect())
    }

    /// The first parent of a commit; `None` for a root, and where a shallow clone ends.
    ///
    /// # Errors
    /// When the commit cannot be read.
    pub fn first_parent(&self, state: StateId) -> Result<Option<StateId>, Error> {
        Ok(self.parents(state)?.first().copied())
    }
}

/// The lines of states that lead to one state: along first parents, and from where merges brought a
/// state in.
pub struct LinesTo<'a> {
    git: &'a GitDir,
    /// The state, and its ancestors as far as they were needed.
    chain: Vec<StateId>,
    places: HashMap<StateId, usize>,
    is_whole: bool,
}

impl<'a> LinesTo<'a> {
    /// Lines to this state.
    pub fn new(git: &'a GitDir, to: StateId) -> Self {
        Self {
            git,
            chain: vec![to],
            places: HashMap::from([(to, 0)]),
            is_whole: false,
        }
    }

    /// The state that they lead to.
    pub fn to(&self) -> StateId {
        self.chain[0]
    }

    /// The states from one to the other, both with them: on from the one, where a merge brought it in;
    /// else back to where their lines meet, and on from there. Where they do not meet within 5,000
    /// commits there is nothing between them.
    ///
    /// # Errors
    /// When a commit cannot be read.
    pub fn from(&mut self, from: StateId) -> Result<Vec<StateId>, Error> {
        let (mut back, mut seen) = (vec![from], HashSet::from([from]));
        let mut last = Some(from);
        while back.len() < LINE_LIMIT {
            if let Some(&at) = last.and_then(|last| self.places.get(&last)) {
                return self.joined(back, at);
            }
            last = match last {
                Some(last) => self.git.first_parent(last)?,
                None => None,
            };
            back.extend(last);
            seen.extend(last);
            let Some(older) = self.extend()? else {
                match last {
                    Some(_) => continue,
                    None => break,
                }
            };
            if seen.contains(&older) {
                back.truncate(back.iter().take_while(|it| **it != older).count() + 1);
                return self.joined(back, self.chain.len() - 1);
            }
        }
        Ok(vec![from, self.to()])
    }

    /// Whether this state came before the one that they lead to.
    ///
    /// # Errors
    /// When a commit cannot be read.
    pub fn come_from(&mut self, state: StateId) -> Result<bool, Error> {
        match self.from(state)?[..] {
            [first, second, ..] => Ok(self.git.parents(second)?.contains(&first)),
            _ => Ok(true),
        }
    }

    /// The next older state of the chain, if it has one and is not long enough.
    fn extend(&mut self) -> Result<Option<StateId>, Error> {
        let newest = self.chain.last().filter(|_| !self.is_whole);
        let older = match newest {
            Some(&newest) if self.chain.len() < LINE_LIMIT => self.git.first_parent(newest)?,
            _ => None,
        };
        self.is_whole = older.is_none();
        if let Some(older) = older {
            self.places.insert(older, self.chain.len());
            self.chain.push(older);
        }
        Ok(older)
    }

    /// What leads back to this place of the chain, and what leads on from it; or a way through merges.
    fn joined(&self, mut back: Vec<StateId>, at: usize) -> Result<Vec<StateId>, Error> {
        if back.len() > 1
            && let Some(line) = self.through_merges(back[0], at)?
        {
            return Ok(line);
        }
        back.extend(self.chain[..at].iter().rev());
        Ok(back)
    }

    /// The way on from a state that a merge of the chain before this place brought in.
    fn through_merges(&self, from: StateId, at: usize) -> Result<Option<Vec<StateId>>, Error> {
        let secs = |state| self.git.committed_secs(state).unwrap_or(i64::MAX);
        let oldest = secs(from).saturating_sub(CLOCKS_DIFFER);
        let mut next = HashMap::new();
        let mut open: VecDeque<_> = self.chain[..at].iter().copied().collect();
        while let Some(state) = open.pop_front()
            && next.len() < LINE_LIMIT
        {
            for parent in self.git.parents(state)? {
                if self.places.contains_key(&parent) || next.contains_key(&parent) {
                    continue;
                }
                next.insert(parent, state);
                if parent == from {
                    let mut line = vec![from];
                    line.extend(iter::successors(next.get(&from), |it| next.get(*it)));
                    let place = line.last().and_then(|last| self.places.get(last));
                    line.extend(self.chain[..place.map_or(0, |at| *at)].iter().rev());
                    return Ok(Some(line));
                }
                if secs(parent) >= oldest {
                    open.push_back(parent);
                }
            }
        }
        Ok(None)
    }
}
