//! Large answers: few are in memory at once, and none for long that nobody reads (G8).

use std::{sync::Arc, time::Duration};

use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{ConnectionCalls, RESPONSE_LIMIT};
use crate::failure::{Failure, Reason};

/// Time in which a client must have read a large answer.
const READING_TIME: Duration = Duration::from_secs(30);
/// Bytes from which on an answer is a large one.
pub(super) const LARGE: usize = 256 * 1024;
/// Large answers that one connection may have in memory.
pub(super) const LARGE_PER_CONNECTION: usize = 2;

/// What is left of one answer, with room for what else it says (G8).
pub(super) struct Room(usize);

impl Room {
    pub(super) fn new() -> Self {
        Self(RESPONSE_LIMIT - 256 * 1024)
    }

    /// Room for one part of an answer.
    pub(super) fn of(bytes: usize) -> Self {
        Self(bytes)
    }

    /// Whether there is room for this one as well.
    pub(super) fn takes(&mut self, one: &impl Message) -> bool {
        // The tag and the length of a field.
        let rest = self.0.checked_sub(one.encoded_len() + 8);
        rest.map(|rest| self.0 = rest).is_some()
    }
}

/// As many of these as one answer can hold.
pub(super) fn fitting<M: Message>(all: impl IntoIterator<Item = M>) -> Vec<M> {
    let mut room = Room::new();
    let all = all.into_iter();
    all.take_while(|one| room.takes(one)).collect()
}

/// The same for an answer that goes on with another: it gets on, or says why not.
///
/// # Errors
/// `ANSWER_TOO_LARGE` where not even the first one fits.
pub(super) fn page<M: Message>(all: impl IntoIterator<Item = M>) -> Result<Vec<M>, Failure> {
    let mut all = all.into_iter().peekable();
    let is_any = all.peek().is_some();
    let page = fitting(all);
    if is_any && page.is_empty() {
        return Err(Failure::new(
            Reason::AnswerTooLarge,
            "the next entry of the answer alone is larger than 3 MiB, which no client could read; name paths that leave it out, or ask `git diff`",
        ));
    }
    Ok(page)
}

/// The place of one large answer among the few that may be in memory at once. It goes with the
/// response, so that the place is given back only when the client has read it.
#[derive(Debug, Clone)]
pub(super) struct LargeReply {
    _places: Arc<[OwnedSemaphorePermit; 2]>,
}

impl LargeReply {
    /// Waits for a place: first among the few of its connection, so that one client that does not
    /// read leaves places for the others, then among all.
    pub(super) async fn place(
        among: &Arc<Semaphore>,
        of: Option<&ConnectionCalls>,
    ) -> Option<Self> {
        let own = of.map_or(among, |connection| connection.large());
        let own = Arc::clone(own).acquire_owned().await.ok()?;
        let shared = Arc::clone(among).acquire_owned().await.ok()?;
        Some(Self {
            _places: Arc::new([own, shared]),
        })
    }

    /// Sends a response on its way: one that turned out small needs no place.
    pub(super) fn send<M: Message>(self, message: M) -> tonic::Response<M> {
        let is_large = message.encoded_len() > LARGE;
        let mut response = tonic::Response::new(message);
        if is_large {
            response.extensions_mut().insert(self);
        }
        response
    }

    /// Gives the client its time to read; after that `stalled` is cancelled. Ends with the guard.
    pub(super) fn watch_over(&self, stalled: &CancellationToken) -> DropGuard {
        let read = CancellationToken::new();
        let (place, stalled, done) = (self.clone(), stalled.clone(), read.clone());
        tokio::spawn(async move {
            let place = place;
            if tokio::time::timeout(READING_TIME, done.cancelled())
                .await
                .is_err()
            {
                stalled.cancel();
            }
            drop(place);
        });
        read.drop_guard()
    }
}
