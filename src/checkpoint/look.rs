//! One look at Git: what has moved since the last one.
//!
//! A commit on a branch is a line in HEAD's reflog and one in the branch's, and is told once. Git
//! writes them one after the other while it holds `HEAD.lock`. So HEADs are read first: what one has
//! and no branch, while it is not held, is a move of HEAD alone. A branch's line that HEAD's log
//! does not have yet is remembered, and known when it comes.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    Checkpoint,
    place::{Place, Places},
};
use crate::{
    failure::Failure,
    git::{LineId, LogName, Moved, RefLogs, RefWatch, ReflogLine, StateId},
    store::{ReflogRecord, Store},
    thread::Places as Threads,
};

/// What a look has found.
#[derive(Default)]
pub(super) struct Look {
    /// What there is to tell, in order.
    pub(super) told: Vec<Told>,
    /// How far everything was followed with that.
    pub(super) ends: Vec<ReflogRecord>,
    /// Lines of branches that were told before, and that a HEAD's log has now as well.
    pub(super) paired: Vec<LineId>,
    /// What moved meanwhile and was not looked at.
    pub(super) meanwhile: Moved,
    /// What could not be looked at: to be tried when something else moves.
    pub(super) again: Moved,
}

/// Something to tell, or to pass over.
pub(super) struct Told {
    pub(super) checkpoint: Option<Checkpoint>,
    /// How far the logs that have it are followed with it.
    pub(super) reached: Vec<ReflogRecord>,
    /// The line, where it is a branch's that no HEAD's log has yet.
    pub(super) unpaired: Option<LineId>,
}

/// The lines of one log that were not told yet.
pub(super) struct Lines {
    pub(super) name: LogName,
    pub(super) lines: Vec<ReflogLine>,
}

/// A branch whose move no reflog has.
pub(super) struct Unlogged {
    pub(super) name: LogName,
    /// As it was, where it was there.
    pub(super) before: Option<Place>,
    pub(super) new: Option<StateId>,
}

impl Unlogged {
    pub(super) fn old(&self) -> Option<StateId> {
        self.before.and_then(|place| place.tip)
    }
}

/// A look under way.
pub(super) struct Looking<'a> {
    pub(super) logs: &'a RefLogs,
    pub(super) threads: &'a Threads,
    pub(super) places: Places<'a>,
    pub(super) heads: Vec<Lines>,
    pub(super) held: BTreeSet<LogName>,
    pub(super) branches: Vec<Lines>,
    pub(super) unlogged: Vec<Unlogged>,
    pub(super) look: Look,
}

impl Look {
    /// Looks at what may have moved. It blocks.
    pub(super) fn take(
        (store, logs, threads): (&Store, &RefLogs, &Threads),
        mut moved: Moved,
        watch: &mut RefWatch,
    ) -> Result<Self, Failure> {
        let mut looking = Looking {
            logs,
            threads,
            places: Places::new(store),
            heads: Vec::new(),
            held: BTreeSet::new(),
            branches: Vec::new(),
            unlogged: Vec::new(),
            look: Self::default(),
        };
        let known = match moved {
            Moved::All => looking.places.read_all()?,
            Moved::Some(_) => Vec::new(),
        };
        looking.read_heads(&moved, &known)?;
        // A HEAD that was not held had its branch's line written by then.
        if !watch.is_blind() {
            let later = watch.take();
            moved.add(later.clone());
            looking.look.meanwhile = match later {
                Moved::All => Moved::All,
                Moved::Some(names) => Moved::Some(names.into_iter().filter(is_head).collect()),
            };
        }
        looking.read_branches(&moved, &known)?;
        let unpaired = store.read(|tx| tx.unpaired_moves())?;
        Ok(looking.put_in_order(&unpaired))
    }
}

fn is_head(name: &LogName) -> bool {
    name.branch().is_none()
}

impl Looking<'_> {
    fn read_heads(&mut self, moved: &Moved, known: &[LogName]) -> Result<(), Failure> {
        let heads: BTreeSet<LogName> = match moved {
            Moved::All => {
                let known = known.iter().filter(|name| is_head(name)).cloned();
                self.logs.heads()?.into_iter().chain(known).collect()
            }
            Moved::Some(names) => names.iter().filter(|name| is_head(name)).cloned().collect(),
        };
        for name in heads {
            let lines = match self.read_log(&name)? {
                Read::Lines(lines) => lines,
                Read::None(Some(place)) if place.gone_secs.is_none() => {
                    self.gone(&name, place);
                    continue;
                }
                Read::None(_) | Read::Failed => continue,
            };
            if self.logs.is_held(&name) {
                self.held.insert(name.clone());
            }
            self.heads.push(Lines { name, lines });
        }
        Ok(())
    }

    fn read_branches(&mut self, moved: &Moved, known: &[LogName]) -> Result<(), Failure> {
        // Branches before their logs: Git writes a new branch's log first.
        let mut tips: BTreeMap<LogName, Option<StateId>> = BTreeMap::new();
        match moved {
            Moved::All => {
                let there = self.logs.tips()?.into_iter();
                tips.extend(there.map(|(name, tip)| (name, Some(tip))));
                let known = known.iter().filter(|name| !is_head(name)).cloned();
                for name in self.logs.logged_branches()?.into_iter().chain(known) {
                    tips.entry(name).or_default();
                }
            }
            Moved::Some(names) => {
                for name in names.iter().filter(|name| !is_head(name)) {
                    match self.logs.tip(name) {
                        Ok(tip) => drop(tips.insert(name.clone(), tip)),
                        Err(error) => self.failed(name, &error),
                    }
                }
            }
        }
        let mut without_log = Vec::new();
        for (name, tip) in tips {
            match self.read_log(&name)? {
                Read::Lines(lines) => self.branches.push(Lines { name, lines }),
                Read::None(place) => without_log.push((name, place, tip)),
                Read::Failed => {}
            }
        }
        self.leave_out_copies();
        let renamed = self.renamed();
        for (name, place, tip) in without_log {
            let alive = place.filter(|place| place.gone_secs.is_none());
            let old = alive.and_then(|place| place.tip);
            match (alive, tip) {
                (Some(place), None) if renamed.contains(&name) => self.gone(&name, place),
                (Some(place), _) if old == tip && place.mark.is_none() => {}
                (None, None) => {}
                (Some(_), _) if old == tip => self.end(&name, Place::at(tip, None)),
                (before, new) => self.unlogged.push(Unlogged { name, before, new }),
            }
        }
        Ok(())
    }

    /// A branch that was copied brought the log of its source along; that is told of the source,
    /// where it has it still.
    fn leave_out_copies(&mut self) {
        for at in 0..self.branches.len() {
            let lines = &self.branches[at].lines;
            let copied = |line: &ReflogLine| line.taken_from().is_some() && !line.is_rename();
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
            .filter_map(|line| line.taken_from())
            .map(|from| LogName::from_bytes(from.as_bytes()))
            .collect()
    }

    /// What a log has that was not told yet; where it ends is noted.
    fn read_log(&mut self, name: &LogName) -> Result<Read, Failure> {
        let place = self.places.get(name)?;
        let alive = place.filter(|place| place.gone_secs.is_none());
        let mut log = match self.logs.read(name, alive.and_then(|place| place.mark)) {
            Ok(Some(log)) => log,
            Ok(None) => return Ok(Read::None(place)),
            Err(error) => {
                self.failed(name, &error);
                return Ok(Read::Failed);
            }
        };
        let newest = log.lines.last().map(|line| line.new);
        let before = alive.and_then(|place| place.tip);
        let end = Place::at(newest.unwrap_or(before), log.mark);
        if alive != Some(end) {
            self.end(name, end);
        }
        Ok(Read::Lines(self.places.untold(place, &mut log)?))
    }

    pub(super) fn end(&mut self, name: &LogName, end: Place) {
        self.look.ends.push(end.record(name));
    }

    fn gone(&mut self, name: &LogName, place: Place) {
        self.end(name, place.gone());
    }

    fn failed(&mut self, name: &LogName, error: &crate::git::Error) {
        tracing::warn!("what moved {name} is not in the log yet: {error}");
        self.look_again(name);
    }

    pub(super) fn look_again(&mut self, name: &LogName) {
        let again = Moved::Some(BTreeSet::from([name.clone()]));
        self.look.again.add(again);
    }
}

/// What was read of a log.
enum Read {
    Lines(Vec<ReflogLine>),
    /// There is none; and how far it was followed before.
    None(Option<Place>),
    Failed,
}
