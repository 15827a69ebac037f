//! How far a HEAD or branch was followed, and what of its reflog was not told yet.

use std::collections::HashMap;

use crate::{
    git::{LogName, Reflog, ReflogLine, ReflogMark, StateId},
    mutation::now_secs,
    store::{self, ReflogRecord, Store},
};

/// A HEAD or branch, as far as it was followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Where it led.
    pub(super) tip: Option<StateId>,
    /// How far its reflog was read; `None` where it has none.
    pub(super) mark: Option<ReflogMark>,
    /// Since when it is known to be gone.
    pub(super) gone_secs: Option<i64>,
}

impl Place {
    /// One that is there.
    pub(super) fn at(tip: Option<StateId>, mark: Option<ReflogMark>) -> Self {
        let gone_secs = None;
        Self {
            tip,
            mark,
            gone_secs,
        }
    }

    /// The same, now that it is gone.
    pub(super) fn gone(self) -> Self {
        let gone_secs = Some(now_secs());
        Self { gone_secs, ..self }
    }

    /// The same, where it is not known to be gone.
    pub(super) fn alive(self) -> Option<Self> {
        self.gone_secs.is_none().then_some(self)
    }

    /// As it is kept.
    pub(super) fn record(&self, name: &LogName) -> ReflogRecord {
        ReflogRecord {
            name: name.as_bytes().to_vec(),
            tip: self.tip.map(StateId::to_vec),
            // Plain data of ours: it can always be written.
            mark: self.mark.and_then(|mark| serde_json::to_string(&mark).ok()),
            gone_secs: self.gone_secs,
        }
    }

    fn of(record: &ReflogRecord) -> Self {
        let mark = record.mark.as_deref();
        Self {
            tip: record.tip.as_deref().and_then(StateId::from_bytes),
            mark: mark.and_then(|mark| serde_json::from_str(mark).ok()),
            gone_secs: record.gone_secs,
        }
    }
}

/// The places that were followed.
pub(super) struct Places<'a> {
    store: &'a Store,
    read: HashMap<LogName, Option<Place>>,
}

impl<'a> Places<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        let read = HashMap::new();
        Self { store, read }
    }

    /// Reads all that are not known to be gone; answers their names.
    pub(super) fn read_all(&mut self) -> Result<Vec<LogName>, store::Error> {
        let all = self.store.read(|tx| tx.reflogs())?;
        let named = all.iter().map(|record| {
            let name = LogName::from_bytes(&record.name);
            (name, Some(Place::of(record)))
        });
        self.read.extend(named);
        Ok(self.read.keys().cloned().collect())
    }

    /// How far this one was followed; also one that is gone.
    pub(super) fn get(&mut self, name: &LogName) -> Result<Option<Place>, store::Error> {
        if let Some(place) = self.read.get(name) {
            return Ok(*place);
        }
        let record = self.store.read(|tx| tx.reflog(name.as_bytes()))?;
        let place = record.as_ref().map(Place::of);
        self.read.insert(name.clone(), place);
        Ok(place)
    }

    /// The lines of a log that were not told yet, when `place` is how far it was followed.
    pub(super) fn untold(
        &mut self,
        place: Option<Place>,
        log: &mut Reflog,
    ) -> Result<Vec<ReflogLine>, store::Error> {
        let mut lines = std::mem::take(&mut log.lines);
        if log.continues {
            return Ok(lines);
        }
        let told = match self.last_told(place, &lines)? {
            Some(last) => last + 1,
            None => first_untold(place, &lines),
        };
        lines.drain(..told);
        Ok(lines)
    }

    /// The last line that was told already, in a log that was rewritten, or came with a branch that
    /// was renamed or copied.
    fn last_told(
        &mut self,
        place: Option<Place>,
        lines: &[ReflogLine],
    ) -> Result<Option<usize>, store::Error> {
        let own = existing(place).and_then(|mark| lines.iter().rposition(|l| l.id == mark.line));
        let mut last = own;
        for (at, line) in lines.iter().enumerate() {
            let Some((from, _)) = line.taken() else {
                continue;
            };
            for source in [from, LogName::between_names()] {
                let mark = self.get(&source)?.and_then(|source| source.mark);
                let told = mark.and_then(|m| lines[..at].iter().rposition(|l| l.id == m.line));
                last = last.max(told);
            }
        }
        Ok(last)
    }
}

/// How far the log was read that is there. That of a branch which was seen to be gone is another.
fn existing(place: Option<Place>) -> Option<ReflogMark> {
    place.and_then(Place::alive).and_then(|place| place.mark)
}

/// Where what was not told begins in a log in which nothing that was told is left: at its first line
/// where it was begun anew, else at what goes on from there in time.
fn first_untold(place: Option<Place>, lines: &[ReflogLine]) -> usize {
    let Some(mark) = existing(place) else {
        return 0;
    };
    let tip = place.and_then(|place| place.tip);
    let anew = |line: &ReflogLine| line.old.is_none() && line.id != mark.first;
    if lines.first().is_none_or(anew) {
        return 0;
    }
    lines
        .iter()
        .position(|line| line.secs > mark.secs || (line.secs == mark.secs && line.old == tip))
        .unwrap_or(lines.len())
}
