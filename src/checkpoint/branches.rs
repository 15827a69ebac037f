//! Reading what moved on branches: in their logs, and, where they have none, by where they lead.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    look::{Looking, Read, Unlogged},
    place::Place,
    stray::Stray,
};
use crate::{
    failure::Failure,
    git::{LineId, LogName, Moved, ReflogLine, StateId},
};

/// Branches of which no log was read, and logs that may be another branch's.
#[derive(Default)]
pub(super) struct Unread {
    pub(super) without_log: Vec<Unlogged>,
    pub(super) strays: Vec<Stray>,
}

impl Looking<'_> {
    pub(super) fn read_branches(
        &mut self,
        moved: &Moved,
        known: &[LogName],
    ) -> Result<(), Failure> {
        let mut unread = Unread::default();
        let tips = self.tips(moved, known)?;
        for (name, tip) in &tips {
            self.read_branch(name, *tip, &mut unread)?;
        }
        // Last: Git brings logs from their branches here, and from here to other branches.
        self.read_branch(&LogName::between_names(), None, &mut unread)?;
        let mut without_log = self.place_strays(unread)?;
        self.leave_out_copies();
        let renamed = self.renamed();
        for name in renamed.iter().filter(|name| !tips.contains_key(name)) {
            without_log.extend(self.gone_by_renaming(name)?);
        }
        for branch in without_log {
            self.without_log(branch, &renamed);
        }
        Ok(())
    }

    /// The branches to look at, and where they are.
    fn tips(
        &mut self,
        moved: &Moved,
        known: &[LogName],
    ) -> Result<BTreeMap<LogName, Option<StateId>>, Failure> {
        // Branches before their logs: Git writes a new branch's log first.
        let mut tips: BTreeMap<LogName, Option<StateId>> = BTreeMap::new();
        match moved {
            Moved::All => {
                let there = self.logs.tips()?.into_iter();
                tips.extend(there.map(|(name, tip)| (name, Some(tip))));
                let known = known.iter().filter(|name| name.branch().is_some()).cloned();
                for name in self.logs.logged_branches()?.into_iter().chain(known) {
                    tips.entry(name).or_default();
                }
            }
            Moved::Some(names) => {
                for name in names.iter().filter(|name| !name.is_head()) {
                    match self.logs.tip(name) {
                        Ok(tip) => drop(tips.insert(name.clone(), tip)),
                        Err(error) => self.failed(name, &error),
                    }
                }
            }
        }
        Ok(tips)
    }

    fn read_branch(
        &mut self,
        name: &LogName,
        tip: Option<StateId>,
        unread: &mut Unread,
    ) -> Result<(), Failure> {
        let place = self.places.get(name)?;
        match self.read_log(name, place) {
            Read::Log(log) => match Stray::new(name, place, tip, log) {
                Ok(stray) => unread.strays.push(stray),
                Err(log) => self.add_lines(name, place, log)?,
            },
            Read::None => unread.without_log.push(Unlogged {
                name: name.clone(),
                before: place.and_then(Place::alive),
                new: tip,
            }),
            Read::Failed => {}
        }
        Ok(())
    }

    /// A branch that was copied brought the log of its source along; that is told of the source,
    /// where it has it still.
    fn leave_out_copies(&mut self) {
        for at in 0..self.branches.len() {
            let lines = &self.branches[at].lines;
            let copied = |line: &ReflogLine| line.taken().is_some() && !line.is_rename();
            let Some(copy) = lines.iter().rposition(copied) else {
                continue;
            };
            let others = self.branches.iter().enumerate();
            let others = others.filter(|(other, _)| *other != at);
            let others: HashSet<LineId> = others
                .flat_map(|(_, other)| other.lines.iter().map(|line| line.id))
                .collect();
            let mut index = 0;
            self.branches[at].lines.retain(|line| {
                index += 1;
                index > copy || !others.contains(&line.id)
            });
        }
    }

    /// The branches that are another by now.
    fn renamed(&self) -> BTreeSet<LogName> {
        let lines = self.branches.iter().flat_map(|branch| &branch.lines);
        let renames = lines.filter(|line| line.is_rename());
        renames
            .filter_map(|line| line.taken().map(|(from, _)| from))
            .collect()
    }

    /// A branch that was renamed, where nothing is under its former name.
    fn gone_by_renaming(&mut self, name: &LogName) -> Result<Option<Unlogged>, Failure> {
        let Some(place) = self.places.get(name)?.and_then(Place::alive) else {
            return Ok(None);
        };
        let is_there = self.logs.tip(name)?.is_some()
            || !matches!(self.read_log(name, Some(place)), Read::None);
        Ok((!is_there).then(|| Unlogged {
            name: name.clone(),
            before: Some(place),
            new: None,
        }))
    }

    fn without_log(&mut self, branch: Unlogged, renamed: &BTreeSet<LogName>) {
        let Unlogged { name, before, new } = &branch;
        let had_log = before.is_some_and(|place| place.mark.is_some());
        match (*before, *new) {
            (Some(place), None) if renamed.contains(name) || name.branch().is_none() => {
                self.gone(name, place);
            }
            (None, None) => {}
            (Some(_), new) if branch.old() == new => {
                if had_log {
                    self.unsure = true;
                    self.end(name, Place::at(new, None));
                }
            }
            _ => {
                self.unsure |= had_log;
                self.unlogged.push(branch);
            }
        }
    }
}
