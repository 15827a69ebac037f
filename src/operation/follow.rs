//! Following the log: what matches, oldest first, then whatever is committed, by sequence number
//! only. Read from the store page by page, so that a slow reader lags, loses nothing and holds no
//! memory.

use std::collections::VecDeque;

use tokio::sync::watch;

use super::{Operation, OperationFilter};
use crate::store::{Error, Store};

/// Operations read at once.
const PAGE: u32 = 128;

/// Entries of the log that one read looks at, however few of them match.
const STRIDE: u64 = 20_000;

/// A place in the log, and what to deliver from there.
pub struct Follow {
    store: Store,
    newest: watch::Receiver<u64>,
    /// Changes when symbols and signals of entries became known.
    known: watch::Receiver<i64>,
    filter: OperationFilter,
    after: u64,
    page: VecDeque<Operation>,
}

impl Follow {
    /// Starts after the sequence number `after_seq` and, where the filter has a `since_secs`, not
    /// before the first entry whose time is not before it. Where the filter asks for symbols or
    /// signals, what is not known of an entry is waited for: `known` changes when some became known.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(
        store: Store,
        newest: watch::Receiver<u64>,
        known: watch::Receiver<i64>,
        mut filter: OperationFilter,
        after_seq: u64,
    ) -> Result<Self, Error> {
        let mut after = after_seq;
        // A time only says where to begin: clocks jump, sequence numbers do not.
        if let Some(since) = filter.since_secs.take() {
            let first = store
                .read_large(move |tx| {
                    let first = tx.first_operation_since(since)?;
                    first.map_or_else(|| Ok(tx.newest_operation()? + 1), Ok)
                })
                .await?;
            after = after.max(first.saturating_sub(1));
        }
        Ok(Self {
            store,
            newest,
            known,
            filter,
            after,
            page: VecDeque::new(),
        })
    }

    /// The next operation; waits for it. `None` when the log has ended with the daemon.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next(&mut self) -> Result<Option<Operation>, Error> {
        loop {
            if let Some(operation) = self.page.pop_front() {
                return Ok(Some(operation));
            }
            let newest = *self.newest.borrow_and_update();
            self.known.borrow_and_update();
            let end = self.known_up_to(newest)?;
            if self.after < end {
                self.read_page(end).await?;
                continue;
            }
            // What is waited for may be dropped as well, which the log tells of.
            let changed = tokio::select! {
                changed = self.known.changed() => changed,
                changed = self.newest.changed() => changed,
            };
            if changed.is_err() {
                return Ok(None);
            }
        }
    }

    /// The last entry up to which everything that the filter asks for is known.
    fn known_up_to(&self, newest: u64) -> Result<u64, Error> {
        if self.filter.symbol.is_none() && self.filter.signal_kind.is_none() {
            return Ok(newest);
        }
        let first = self.store.read(|tx| tx.first_pending_signal())?;
        Ok(first.map_or(newest, |first| newest.min(first.saturating_sub(1))))
    }

    async fn read_page(&mut self, newest: u64) -> Result<(), Error> {
        let (after, until) = (self.after, newest.min(self.after.saturating_add(STRIDE)));
        let filter = self.filter.clone();
        let read = move |tx: &crate::store::ReadTx<'_>| {
            let mut page = VecDeque::new();
            tx.operations_between(&filter, (after, until), PAGE, |operation| {
                page.push_back(operation);
                true
            })?;
            Ok(page)
        };
        // Up to a page of log is a small read, as it is for all that follow live.
        self.page = if until - after <= u64::from(PAGE) {
            self.store.read(read)?
        } else {
            self.store.read_large(read).await?
        };
        self.after = match self.page.back() {
            Some(last) if self.page.len() == PAGE as usize => last.seq,
            _ => until,
        };
        Ok(())
    }
}
