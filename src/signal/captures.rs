//! Computing the signals of captures after they were answered: one at a time, on one thread, and
//! written down together where several wait. What a daemon did not get to do the next one does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Signals,
    compute::symbols,
    record::{Found, Known, Record},
};
use crate::{
    deadline::Deadline,
    failure::{Failure, Reason},
    git::StateId,
    mutation::{Call, HookChain, Road, blocking},
    status::{Activity, Kind},
    store::PendingRecord,
};

/// Captures that are written down together at most.
const TOGETHER: u32 = 32;
/// No further capture is computed before what is known is written down, once that took so long.
const PATIENCE: Duration = Duration::from_millis(500);
/// What of one capture is not found in this time is left out: others wait for it.
const WITHIN: Duration = Duration::from_secs(5);
/// After a store that could not be read or written: look again.
const AGAIN: Duration = Duration::from_secs(30);

impl Signals {
    /// Computes the signals of what is captured, until the daemon drains.
    pub async fn follow_captures(
        self: Arc<Self>,
        road: Road,
        activity: Activity,
        draining: CancellationToken,
    ) {
        let captured = road.captured();
        loop {
            let again = match self.catch_up(&road, &activity, &draining).await {
                Ok(()) => None,
                Err(failure) => {
                    tracing::warn!("signals of captures are computed later: {failure}");
                    Some(AGAIN)
                }
            };
            tokio::select! {
                () = draining.cancelled() => return,
                () = captured.notified() => {}
                () = sleep(again.unwrap_or_default()), if again.is_some() => {}
            }
        }
    }

    /// Computes and writes down what is pending.
    async fn catch_up(
        self: &Arc<Self>,
        road: &Road,
        activity: &Activity,
        draining: &CancellationToken,
    ) -> Result<(), Failure> {
        loop {
            let store = self.places.store();
            let pending = store.read(|tx| tx.pending_signals(TOGETHER))?;
            if pending.is_empty() || draining.is_cancelled() {
                return Ok(());
            }
            let _busy = activity.begin(Kind::Signals);
            let (signals, stop) = (Arc::clone(self), draining.clone());
            let known = blocking(move || Ok(signals.compute(pending, &stop))).await?;
            if known.is_empty() {
                return Ok(());
            }
            let chain = known[0].pending.chain.clone();
            let hooks = HookChain::parse(&chain, "chain").unwrap_or_default();
            let call = Call {
                hooks: hooks.clone(),
                ..Call::own("signals of captures")
            };
            let record = Record {
                known,
                newest: self.newest.clone(),
                tells: hooks.room().is_ok(),
            };
            road.run(call, record, |_| Vec::new()).await?;
        }
    }

    /// The signals of the first of these captures, as many as came from the same hooks and are soon
    /// computed. Blocks.
    fn compute(&self, pending: Vec<PendingRecord>, stop: &CancellationToken) -> Vec<Known> {
        let began = Instant::now();
        let mut known: Vec<Known> = Vec::new();
        for pending in pending {
            let is_other = known
                .first()
                .is_some_and(|it| it.pending.chain != pending.chain);
            if is_other || stop.is_cancelled() || began.elapsed() > PATIENCE {
                break;
            }
            let found = match self.found(&pending, stop) {
                Ok(None) => break,
                Ok(found) => found,
                Err(failure) => {
                    let seq = pending.seq;
                    tracing::error!(seq, "a capture has no signals: {failure}");
                    None
                }
            };
            known.push(Known { pending, found });
        }
        known
    }

    /// What there is to say of a capture; `None` when the daemon stops meanwhile.
    fn found(
        &self,
        pending: &PendingRecord,
        stop: &CancellationToken,
    ) -> Result<Option<Found>, Failure> {
        let state = StateId::from_bytes(&pending.state_id).ok_or_else(|| {
            let message = "the state of a capture is damaged in the database";
            Failure::new(Reason::StoreCorrupt, message)
        })?;
        let git = self.places.git()?;
        let tree = git.tree_of(state)?;
        // What cannot be taken in now will not be later: the signals are those of what is.
        self.index
            .cover_unless(&git, tree, &|| stop.is_cancelled())?;
        let deadline = Deadline::within(WITHIN).unless(stop.clone());
        let prior = git.first_parent(state)?;
        let (computed, changes) = self.between(&git, state, prior, &deadline)?;
        // What was cut short by the end of the daemon is for the next one.
        Ok((!stop.is_cancelled()).then(|| Found {
            signals: computed.signals,
            symbols: symbols(&changes),
        }))
    }
}
