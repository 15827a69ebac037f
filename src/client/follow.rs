//! Following a stream across daemons: one that goes away (a restart, a crash) is followed by another,
//! which goes on after the last event that was seen. Nothing is missed and nothing comes twice.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use tonic::{Response, Status, Streaming, transport::Channel};

use super::{
    Error,
    call::{ATTEMPTS, call, is_lost},
};
use crate::git::Repository;

/// A stream that lasted this long was there: the next daemon is the first to be tried again.
const LASTED: Duration = Duration::from_secs(1);

/// Opens a stream after the position `after` and hands each event to `take`, which answers the
/// event's own position or that it was the last one wanted. Ends too when the daemon ends the stream
/// without an error.
///
/// # Errors
/// When no daemon can be had, when daemon after daemon goes away at once, what the stream itself
/// ends with, and what `take` answers.
pub async fn follow<T, P: Copy, E: From<Error>>(
    repository: &Repository,
    warn: &dyn Fn(&str),
    mut after: P,
    open: impl AsyncFn(Channel, P) -> Result<Response<Streaming<T>>, Status>,
    mut take: impl FnMut(T) -> Result<ControlFlow<(), P>, E>,
) -> Result<(), E> {
    let mut lost = 0;
    loop {
        let mut events = call(repository, warn, async |channel| open(channel, after).await).await?;
        let since = Instant::now();
        let status = loop {
            match events.message().await {
                Ok(Some(event)) => match take(event)? {
                    ControlFlow::Continue(seen) => (after, lost) = (seen, 0),
                    ControlFlow::Break(()) => return Ok(()),
                },
                Ok(None) => return Ok(()),
                Err(status) => break status,
            }
        };
        if !is_lost(&status) {
            return Err(Error::from(status).into());
        }
        if since.elapsed() >= LASTED {
            lost = 0;
        }
        lost += 1;
        if lost == ATTEMPTS {
            return Err(Error::Lost {
                repository: repository.root().display().to_string(),
                why: status.message().to_owned(),
            }
            .into());
        }
    }
}
