//! Work that waits for disks or other programs, off the threads that serve calls.

use std::any::Any;

use crate::failure::{Failure, Reason};

/// Work of any kind, so that the runtime's code for a task is compiled once and not for each of them.
type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// Runs `work` on a thread where waiting disturbs nobody.
///
/// # Errors
/// Its own.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let work: Work = Box::new(|| Box::new(work()));
    let done = run(work).await?.downcast::<Result<T, Failure>>();
    done.map_or_else(|_| Err(failed()), |done| *done)
}

async fn run(work: Work) -> Result<Box<dyn Any + Send>, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!("a change failed while it was prepared: {error}");
        failed()
    })
}

fn failed() -> Failure {
    Failure::new(
        Reason::Internal,
        "the daemon failed while it carried out the call; its log says more",
    )
}
