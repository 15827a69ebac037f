//! One look at Git: what has moved since the last one.
//!
//! A commit on a branch is a line in HEAD's reflog and one in the branch's, and is told once. Git
//! writes them one after the other while it holds `HEAD.lock`. So HEADs are read first: what one has
//! and no branch, while it is not held, is a move of HEAD alone. A branch's line that HEAD's log
//! does not have yet is remembered, and known when it comes.

use std::collections::BTreeSet;

use super::{
    Checkpoint,
    place::{Place, Places},
};
use crate::{
    failure::Failure,
    git::{LineId, LogName, Moved, RefLogs, RefWatch, Reflog, ReflogLine, StateId},
    store::{self, ReflogRecord, Store},
    thread::Places as Threads,
};

/// A look that fell between two steps of Git's is taken so often at most.
const TRIES: usize = 3;

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
    /// A log is not where it was: it may have come to a place that was looked at before.
    pub(super) unsure: bool,
    pub(super) look: Look,
}

impl Look {
    /// Looks at what may have moved. It blocks.
    pub(super) fn take(
        (store, logs, threads): (&Store, &RefLogs, &Threads),
        mut moved: Moved,
        watch: &mut RefWatch,
    ) -> Result<Self, Failure> {
        let mut tries = 1;
        let looking = loop {
            let mut looking = Looking {
                logs,
                threads,
                places: Places::new(store),
                heads: Vec::new(),
                held: BTreeSet::new(),
                branches: Vec::new(),
                unlogged: Vec::new(),
                unsure: false,
                look: Self::default(),
            };
            looking.read(&mut moved, watch)?;
            if !looking.unsure || tries == TRIES {
                break looking;
            }
            let later = watch.take();
            if later.is_empty() {
                break looking;
            }
            moved.add(later);
            tries += 1;
        };
        let unpaired = store.read(|tx| tx.unpaired_moves())?;
        Ok(looking.put_in_order(&unpaired))
    }
}

impl Looking<'_> {
    fn read(&mut self, moved: &mut Moved, watch: &mut RefWatch) -> Result<(), Failure> {
        let known = match moved {
            Moved::All => self.places.read_all()?,
            Moved::Some(_) => Vec::new(),
        };
        self.read_heads(moved, &known)?;
        // A HEAD that was not held had its branch's line written by then.
        if !watch.is_blind() {
            let later = watch.take();
            moved.add(later.clone());
            self.look.meanwhile = match later {
                Moved::All => Moved::All,
                Moved::Some(names) => {
                    Moved::Some(names.into_iter().filter(LogName::is_head).collect())
                }
            };
        }
        self.read_branches(moved, &known)
    }

    fn read_heads(&mut self, moved: &Moved, known: &[LogName]) -> Result<(), Failure> {
        let heads: BTreeSet<LogName> = match moved {
            Moved::All => {
                let known = known.iter().filter(|name| name.is_head()).cloned();
                self.logs.heads()?.into_iter().chain(known).collect()
            }
            Moved::Some(names) => names.iter().filter(|n| n.is_head()).cloned().collect(),
        };
        for name in heads {
            let place = self.places.get(&name)?;
            let lines = match self.read_log(&name, place) {
                Read::Log(log) => self.untold(&name, place, log)?,
                Read::None => {
                    if let Some(place) = place.and_then(Place::alive) {
                        self.gone(&name, place);
                    }
                    continue;
                }
                Read::Failed => continue,
            };
            if self.logs.is_held(&name) {
                self.held.insert(name.clone());
            }
            self.heads.push(Lines { name, lines });
        }
        Ok(())
    }

    /// What a log has, beyond how far it was followed where it is the same log.
    pub(super) fn read_log(&mut self, name: &LogName, place: Option<Place>) -> Read {
        let mark = place.and_then(Place::alive).and_then(|place| place.mark);
        match self.logs.read(name, mark) {
            Ok(Some(log)) => Read::Log(log),
            Ok(None) => Read::None,
            Err(error) => {
                self.failed(name, &error);
                Read::Failed
            }
        }
    }

    /// What a log has that was not told yet; where it ends is noted.
    pub(super) fn untold(
        &mut self,
        name: &LogName,
        place: Option<Place>,
        mut log: Reflog,
    ) -> Result<Vec<ReflogLine>, store::Error> {
        let alive = place.and_then(Place::alive);
        let newest = log.lines.last().map(|line| line.new);
        let end = Place::at(
            newest.unwrap_or(alive.and_then(|place| place.tip)),
            log.mark,
        );
        if alive != Some(end) {
            self.end(name, end);
        }
        self.places.untold(place, &mut log)
    }

    pub(super) fn end(&mut self, name: &LogName, end: Place) {
        self.look.ends.push(end.record(name));
    }

    pub(super) fn gone(&mut self, name: &LogName, place: Place) {
        self.end(name, place.gone());
    }

    pub(super) fn failed(&mut self, name: &LogName, error: &crate::git::Error) {
        tracing::warn!("what moved {name} is not in the log yet: {error}");
        self.look_again(name);
    }

    pub(super) fn look_again(&mut self, name: &LogName) {
        let again = Moved::Some(BTreeSet::from([name.clone()]));
        self.look.again.add(again);
    }
}

/// What was read of a log.
pub(super) enum Read {
    Log(Reflog),
    /// There is none.
    None,
    Failed,
}
