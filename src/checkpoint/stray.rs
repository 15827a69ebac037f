//! Logs that are not where they belong. To rename a branch (`git branch -m`) Git puts its log aside,
//! removes the branch, puts the log where that of the new branch is to be, and only then writes down
//! that it was renamed, and makes the branch; to copy one (`-c`) it does the same with a copy. In
//! between nothing but its lines says whose log it is.

use std::collections::HashMap;

use super::{
    branches::Unread,
    look::{Lines, Looking, Unlogged},
    place::Place,
};
use crate::{
    failure::Failure,
    git::{LineId, LogName, Reflog, ReflogLine, StateId},
    store,
};

/// A log that may be another branch's than that of its place.
pub(super) struct Stray {
    at: LogName,
    before: Option<Place>,
    tip: Option<StateId>,
    log: Reflog,
}

impl Stray {
    /// The log at this place if it is one; otherwise the log again.
    pub(super) fn new(
        at: &LogName,
        place: Option<Place>,
        tip: Option<StateId>,
        log: Reflog,
    ) -> Result<Self, Reflog> {
        let before = place.and_then(Place::alive);
        let followed = before.and_then(|place| place.mark);
        let is_own = log.continues
            || followed.is_some_and(|mark| log.lines.iter().any(|line| line.id == mark.line));
        let leads_here = log.lines.last().is_none_or(|line| line.new == tip);
        // A copy may lead where the branch that it replaces did. A branch that was begun anew, with
        // one line, is more likely than such a copy of one line.
        let is_replaced = followed.is_some() && log.lines.len() > 1;
        if is_own || (leads_here && !is_replaced) {
            return Err(log);
        }
        let at = at.clone();
        Ok(Self {
            at,
            before,
            tip,
            log,
        })
    }

    /// Its lines, and where the last of them that is so is.
    fn lines(&self) -> HashMap<LineId, usize> {
        let lines = self.log.lines.iter().enumerate();
        lines.map(|(at, line)| (line.id, at)).collect()
    }

    /// Whether it has what the branch was told to be from there on.
    fn was_taken(&self, from: &LogName, after: usize) -> bool {
        let mut later = self.log.lines[after + 1..].iter();
        later.any(|line| line.taken().is_some_and(|(source, _)| source == *from))
    }

    /// Whether a log begins with all that this has: then it is a copy of it, as far as it was made.
    fn is_copy_of(&self, log: &Reflog) -> bool {
        let ids = |lines: &[ReflogLine]| lines.iter().map(|line| line.id).collect::<Vec<_>>();
        ids(&log.lines).starts_with(&ids(&self.log.lines))
    }
}

/// Whose log it is.
enum Owner {
    /// The branch at whose place it is.
    Place,
    /// A branch that is being renamed.
    Other(LogName),
    /// It says nothing that its source does not say.
    Copy,
}

impl Looking<'_> {
    pub(super) fn add_lines(
        &mut self,
        name: &LogName,
        place: Option<Place>,
        log: Reflog,
    ) -> Result<(), store::Error> {
        let lines = self.untold(name, place, log)?;
        let name = name.clone();
        self.branches.push(Lines { name, lines });
        Ok(())
    }

    /// Reads each stray log as that of the branch which it belongs to; answers the branches that
    /// are left without one.
    pub(super) fn place_strays(&mut self, unread: Unread) -> Result<Vec<Unlogged>, Failure> {
        let Unread {
            mut without_log,
            strays,
        } = unread;
        if strays.is_empty() {
            return Ok(without_log);
        }
        let known = self.places.read_all()?;
        for stray in strays {
            let owner = match self.owner(&stray, &known, &without_log)? {
                Owner::Place => {
                    // Or one that nothing is known of yet.
                    self.unsure = true;
                    let place = self.places.get(&stray.at)?;
                    self.add_lines(&stray.at, place, stray.log)?;
                    continue;
                }
                Owner::Other(owner) => Some(owner),
                Owner::Copy => None,
            };
            without_log.push(Unlogged {
                name: stray.at,
                before: stray.before,
                new: stray.tip,
            });
            if let Some(owner) = owner {
                without_log.retain(|branch| branch.name != owner);
                let place = self.places.get(&owner)?;
                self.add_lines(&owner, place, stray.log)?;
            }
        }
        Ok(without_log)
    }

    fn owner(
        &mut self,
        stray: &Stray,
        known: &[LogName],
        without_log: &[Unlogged],
    ) -> Result<Owner, Failure> {
        let lines = stray.lines();
        let first = stray.log.lines.first().map(|line| line.id);
        let read = self.branches.iter();
        let read: HashMap<LogName, Option<LineId>> = read
            .map(|branch| (branch.name.clone(), branch.lines.last().map(|line| line.id)))
            .collect();
        let others = known.iter().filter(|name| !read.contains_key(name));
        let others = others.filter(|name| !name.is_head()).chain(read.keys());
        let mut owner = None;
        for other in others.filter(|name| **name != stray.at) {
            let place = self.places.get(other)?.and_then(Place::alive);
            let mark = place.and_then(|place| place.mark);
            let newest = read.get(other).copied().flatten();
            let end = newest.or(mark.map(|mark| mark.line));
            let end = end.and_then(|end| lines.get(&end).copied());
            if end.is_none() && mark.is_none_or(|mark| Some(mark.first) != first) {
                continue;
            }
            match self.logs.read(other, None) {
                Ok(Some(log)) if stray.is_copy_of(&log) => return Ok(Owner::Copy),
                Ok(None) if read.contains_key(other) => {
                    // It was moved after it was read.
                    self.unsure = true;
                    return Ok(Owner::Copy);
                }
                Ok(None) => {
                    let end = end.filter(|end| !stray.was_taken(other, *end));
                    owner = owner.max(end.map(|end| (end, other.clone())));
                }
                Ok(Some(_)) | Err(_) => {}
            }
        }
        if let Some((_, owner)) = owner {
            return Ok(Owner::Other(owner));
        }
        // A branch that nothing is known of yet, and that is about to be removed.
        let tip = stray.log.lines.last().and_then(|line| line.new);
        let unknown = without_log
            .iter()
            .find(|branch| branch.before.is_none() && tip.is_some() && branch.new == tip);
        Ok(match unknown {
            Some(branch) if stray.at.branch().is_none() => Owner::Other(branch.name.clone()),
            _ => Owner::Place,
        })
    }
}
