//! Following the signals of captures as they become known, and how often each module raises one.

use std::collections::VecDeque;

use tokio::sync::watch;

use super::{Module, Signal};
use crate::{
    failure::{Failure, Reason},
    store::{Error, ReadTx, SignalsRecord, Store},
};

/// Captures that are read at once.
const PAGE: u32 = 8;
/// Captures that health looks at where the caller does not say.
pub const WINDOW: u32 = 50;
/// Captures that health looks at at most.
pub const WINDOW_LIMIT: u32 = 1_000;

/// The signals of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalUpdate {
    /// The state.
    pub state_id: Vec<u8>,
    /// When they were computed, in milliseconds since the Unix epoch.
    pub computed_ms: i64,
    /// All of them.
    pub signals: Vec<Signal>,
}

/// A place among what was computed. What upkeep has dropped before it was read is passed over.
pub struct FollowSignals {
    store: Store,
    newest: watch::Receiver<i64>,
    after: i64,
    page: VecDeque<SignalsRecord>,
}

impl FollowSignals {
    /// Starts after what is known by now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start(store: Store, newest: watch::Receiver<i64>) -> Result<Self, Error> {
        let after = store.read(|tx| tx.newest_signals())?;
        Ok(Self {
            store,
            newest,
            after,
            page: VecDeque::new(),
        })
    }

    /// The next capture's; waits for it. `None` when nothing follows any more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next(&mut self) -> Result<Option<SignalUpdate>, Error> {
        loop {
            if let Some(record) = self.page.pop_front() {
                self.after = record.id;
                return Ok(Some(SignalUpdate {
                    state_id: record.state_id,
                    computed_ms: record.computed_ms,
                    signals: serde_json::from_str(&record.signals).unwrap_or_else(|error| {
                        tracing::error!(
                            "signals of a capture are damaged in the database: {error}"
                        );
                        Vec::new()
                    }),
                }));
            }
            self.newest.borrow_and_update();
            let page = self.store.read(|tx| tx.signals_after(self.after, PAGE))?;
            if page.is_empty() {
                if self.newest.changed().await.is_err() {
                    return Ok(None);
                }
            } else {
                self.page.extend(page);
            }
        }
    }
}

/// How often the modules raised a signal of late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Captures that were looked at: the newest whose signals are known.
    pub states: u32,
    /// One for each module, in order of priority.
    pub rates: Vec<Rate>,
}

/// How often one module raised a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// The module.
    pub module: Module,
    /// Captures for which it raised one.
    pub fired: u32,
    /// Whether those are more than half.
    pub warns: bool,
}

/// The window that a caller asked for; 0 is the usual one.
///
/// # Errors
/// `INVALID_FIELD` for more than there may be.
pub fn window(asked: u32) -> Result<u32, Failure> {
    match asked {
        0 => Ok(WINDOW),
        asked if asked <= WINDOW_LIMIT => Ok(asked),
        asked => Err(Failure::field(
            Reason::InvalidField,
            "window_states",
            format!(
                "window_states is {asked}; at most {WINDOW_LIMIT} captures are looked at, and 0 means {WINDOW}"
            ),
        )),
    }
}

/// How often each module raised a signal of the newest captures.
///
/// # Errors
/// When the store cannot be read.
pub fn health(tx: &ReadTx<'_>, window: u32) -> Result<Health, Error> {
    let captures = tx.modules_of_newest(window)?;
    let states = captures.len() as u32;
    let rates = Module::ALL.map(|module| {
        let raised = |lines: &&String| lines.lines().any(|line| line == module.name());
        let fired = captures.iter().filter(raised).count() as u32;
        Rate {
            module,
            fired,
            warns: fired * 2 > states,
        }
    });
    Ok(Health {
        states,
        rates: rates.into(),
    })
}
