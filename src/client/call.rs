//! Calling the daemon. A call whose daemon went away meanwhile (a restart, a crash, an idle exit) is
//! sent again to the next one: reads change nothing, and writes carry a key (G3).

use tonic::{Code, Response, Status, transport::Channel};

use super::{Error, connect};
use crate::git::Repository;

/// Daemons that are tried: the one there, and two that come after it.
pub(super) const ATTEMPTS: usize = 3;

/// Sends a call to the daemon of a repository, which is started where none serves. A call that
/// changes something must have the same `client_operation_id` each time.
///
/// # Errors
/// When no daemon can be had, and what the call itself is answered.
pub async fn call<T>(
    repository: &Repository,
    warn: &dyn Fn(&str),
    send: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
) -> Result<T, Error> {
    let mut attempt = 1;
    loop {
        let daemon = connect(repository, warn).await?;
        match send(daemon.channel).await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => failed(repository, attempt, status)?,
        }
        attempt += 1;
    }
}

/// Whether a call that failed is sent again: its daemon is gone, and it was not the last attempt.
fn failed(repository: &Repository, attempt: usize, status: Status) -> Result<(), Error> {
    if !is_lost(&status) {
        return Err(status.into());
    }
    if attempt < ATTEMPTS {
        return Ok(());
    }
    Err(Error::Lost {
        repository: repository.root().display().to_string(),
        why: status.message().to_owned(),
    })
}

/// Whether a daemon went away before it answered, or within its answer. A connection that broke is
/// told by tonic with other codes as well, and by its source.
pub(super) fn is_lost(status: &Status) -> bool {
    use std::error::Error as _;

    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::transport::Error>() || error.is::<hyper::Error>() {
            return true;
        }
        cause = error.source();
    }
    status.code() == Code::Unavailable
}
