//! Work that waits for disks or other programs, off the threads that serve calls.

use crate::failure::{Failure, Reason};

/// Runs `work` on a thread where waiting disturbs nobody.
///
/// # Errors
/// Its own.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|failed| {
            tracing::error!("a change failed while it was prepared: {failed}");
            Err(Failure::new(
                Reason::Internal,
                "the daemon failed while it carried out the call; its log says more",
            ))
        })
}
