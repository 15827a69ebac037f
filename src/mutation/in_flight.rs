//! Keyed calls under way: a retry that comes meanwhile waits for the first and gets its answer.
//! In memory only, so that nothing is ever stuck "in flight" after a crash (G3).

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::watch;
use uuid::Uuid;

use crate::failure::{Failure, Reason};

/// An encoded response, or why there is none.
pub(super) type Answer = Result<Vec<u8>, Failure>;

type Flights = Mutex<HashMap<Uuid, Flight>>;

#[derive(Debug, Default, Clone)]
pub(super) struct InFlight {
    flights: Arc<Flights>,
}

#[derive(Debug)]
struct Flight {
    fingerprint: [u8; 32],
    answer: watch::Receiver<Option<Answer>>,
}

/// What a keyed call finds when it arrives.
pub(super) enum Arrival {
    /// It is the first: it has to land.
    First(Landing),
    /// The same call is under way.
    Same(watch::Receiver<Option<Answer>>),
    /// Another call with the same key is under way: which of them the key is for shows when it ends.
    Different(watch::Receiver<Option<Answer>>),
}

impl InFlight {
    pub(super) fn arrive(&self, key: Uuid, fingerprint: [u8; 32]) -> Arrival {
        match lock(&self.flights).entry(key) {
            Entry::Occupied(entry) if entry.get().fingerprint == fingerprint => {
                Arrival::Same(entry.get().answer.clone())
            }
            Entry::Occupied(entry) => Arrival::Different(entry.get().answer.clone()),
            Entry::Vacant(entry) => {
                let (sender, answer) = watch::channel(None);
                entry.insert(Flight {
                    fingerprint,
                    answer,
                });
                Arrival::First(Landing {
                    key,
                    flights: Arc::clone(&self.flights),
                    sender,
                })
            }
        }
    }
}

/// The first call's duty to answer those that wait; kept also when it panics.
pub(super) struct Landing {
    key: Uuid,
    flights: Arc<Flights>,
    sender: watch::Sender<Option<Answer>>,
}

impl Landing {
    pub(super) fn land(self, answer: Answer) {
        self.sender.send_replace(Some(answer));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        lock(&self.flights).remove(&self.key);
    }
}

/// Waits for the answer of the call that came first.
pub(super) async fn wait(mut answer: watch::Receiver<Option<Answer>>) -> Answer {
    match answer.wait_for(Option::is_some).await {
        Ok(landed) => landed.clone().unwrap_or_else(|| Err(lost())),
        Err(_) => Err(lost()),
    }
}

fn lost() -> Failure {
    Failure::new(
        Reason::Internal,
        "the call with this client_operation_id that came first ended without an answer; try again",
    )
}

fn lock(flights: &Flights) -> MutexGuard<'_, HashMap<Uuid, Flight>> {
    flights
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
