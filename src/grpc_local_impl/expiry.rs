//! Aborting transactions that were left alone for too long. It sleeps until the next one is due, and
//! for ever while none is active (G8).

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::Services;
use crate::{
    mutation::Call,
    transaction::{ExpireTransaction, stalest},
};

/// How long a transaction may be left alone, where nothing else is configured.
pub const DEFAULT_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// After a failing store, or a clock that was set: look again.
const AGAIN: Duration = Duration::from_secs(60 * 60);

impl Services {
    /// How long a transaction may be left alone from now on.
    pub fn set_transaction_timeout(&self, timeout: Duration) {
        self.transaction_timeout.send_replace(timeout);
    }

    /// Aborts what is left alone, until the daemon drains.
    pub async fn expire_transactions(self: Arc<Self>) {
        let mut timeout = self.transaction_timeout.subscribe();
        loop {
            let patience = *timeout.borrow_and_update();
            let due = match stalest(&self.store, patience) {
                Ok(Some((id, left))) if left.is_zero() => {
                    let expire = ExpireTransaction::new(id, patience);
                    let call = Call::own("expiry of a transaction");
                    match self.road.run(call, expire, |_| Vec::new()).await {
                        Ok(_) => continue,
                        Err(failure) => {
                            tracing::warn!("the transaction {id} is not aborted yet: {failure}");
                            Some(AGAIN)
                        }
                    }
                }
                Ok(Some((_, left))) => Some(left.min(AGAIN)),
                Ok(None) => None,
                Err(error) => {
                    tracing::warn!("transactions cannot be looked at: {error}");
                    Some(AGAIN)
                }
            };
            let due = async {
                match due {
                    Some(due) => sleep(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.draining.cancelled() => return,
                () = self.transactions_changed.notified() => {}
                changed = timeout.changed() => if changed.is_err() { return },
                () = due => {}
            }
        }
    }
}
