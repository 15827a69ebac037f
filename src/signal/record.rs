//! Writing down what was computed of captures: the signals, and the symbols and kinds of their entries
//! in the operation log, in one commit; hooks are told with it.

use serde::Serialize;

use super::{Anchor, Signal};
use crate::{
    failure::Failure,
    git::StateId,
    mutation::{Entry, HookEvent, Mutation, News, Told, now_millis, state_in_hex},
    store::{PendingRecord, SignalsRecord, WriteTx},
};

/// A capture, and what was computed of it.
pub(super) struct Known {
    pub pending: PendingRecord,
    /// `None` where it cannot be computed: the entry then waits no more, and has none.
    pub found: Option<Found>,
}

/// What was computed of a capture.
pub(super) struct Found {
    pub signals: Vec<Signal>,
    /// What changed, as `file:symbol`.
    pub symbols: Vec<String>,
}

/// What was computed of captures that came from the same hooks.
pub(super) struct Record {
    pub known: Vec<Known>,
    /// Told of the newest that was written.
    pub newest: tokio::sync::watch::Sender<i64>,
    /// Whether hooks are told: not where that would be one hook too many inside the others.
    pub tells: bool,
}

/// What was written: the place of the newest, and which captures still waited.
pub(super) struct Written {
    newest: Option<i64>,
    waited: Vec<bool>,
}

impl Mutation for Record {
    type Output = Written;

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Written, Failure> {
        let mut written = Written {
            newest: None,
            waited: Vec::new(),
        };
        for Known { pending, found } in &self.known {
            // What became of it meanwhile is told by whoever did that: it may have been dropped.
            let waited = tx.signals_known(pending.seq)?;
            written.waited.push(waited);
            let Some(found) = found.as_ref().filter(|_| waited) else {
                continue;
            };
            let kinds = distinct(found.signals.iter().map(|signal| &signal.kind));
            tx.complete_operation(pending.seq, &found.symbols, &kinds)?;
            let place = tx.put_signals(&SignalsRecord {
                id: 0,
                state_id: pending.state_id.clone(),
                computed_ms: now_millis(),
                modules: distinct(found.signals.iter().map(|signal| &signal.producer)),
                // Plain data of ours: it can always be written.
                signals: serde_json::to_string(&found.signals).unwrap_or_default(),
            })?;
            written.newest = Some(place);
        }
        Ok(written)
    }

    fn describe(&self, _: &Written) -> Option<Entry> {
        None
    }

    fn tell(&self, written: &Written, told: &mut Told<'_>) {
        if !self.tells {
            return;
        }
        for (known, waited) in self.known.iter().zip(&written.waited) {
            let found = known.found.as_ref().filter(|_| *waited);
            let visible = found.into_iter().flat_map(|found| &found.signals);
            for signal in visible.filter(|signal| signal.is_visible) {
                told.tell(|| OnSignal::of(&known.pending.state_id, signal));
            }
        }
    }

    fn publish(&mut self, written: &Written) {
        // Whoever waits for an entry looks again, whether it has signals now or never will.
        self.newest.send_modify(|newest| {
            *newest = written.newest.unwrap_or(*newest).max(*newest);
        });
    }
}

/// Each once, in their order.
fn distinct<'a>(all: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for one in all {
        // A line of its own is kept of each.
        if !one.contains('\n') && !found.contains(one) {
            found.push(one.clone());
        }
    }
    found
}

/// A signal was raised.
#[derive(Serialize)]
struct OnSignal {
    #[serde(serialize_with = "state_in_hex")]
    state_id: Option<StateId>,
    signal_kind: String,
    anchor: Place,
    reason: String,
}

/// Where; what is not known is left out.
#[derive(Serialize)]
struct Place {
    #[serde(skip_serializing_if = "String::is_empty")]
    file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    symbol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_line: Option<u32>,
}

impl News for OnSignal {
    const EVENT: HookEvent = HookEvent::OnSignal;
}

impl OnSignal {
    fn of(state_id: &[u8], signal: &Signal) -> Self {
        let Anchor {
            file,
            symbol,
            lines,
        } = signal.anchor.clone();
        let line = |line: u32| (line > 0).then_some(line);
        Self {
            state_id: StateId::from_bytes(state_id),
            signal_kind: signal.kind.clone(),
            anchor: Place {
                file,
                symbol,
                start_line: line(lines.0),
                end_line: line(lines.1),
            },
            reason: signal.reason.clone(),
        }
    }
}
