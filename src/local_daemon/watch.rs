//! Notices when somebody removes our folders (`git clean -fdx` takes `.heddle/`): a daemon that
//! cannot be reached is no daemon. Event-driven, so that idling costs nothing.

use std::path::PathBuf;

/// Folders that are watched for removals.
pub(super) struct FolderWatch {
    folders: Vec<PathBuf>,
    #[cfg(target_os = "linux")]
    events: Option<inotify::EventStream<[u8; 1024]>>,
    #[cfg(target_os = "linux")]
    due: Option<tokio::time::Instant>,
}

impl FolderWatch {
    /// Watches these folders, as far as they are there.
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        let mut watch = Self {
            folders,
            #[cfg(target_os = "linux")]
            events: None,
            #[cfg(target_os = "linux")]
            due: None,
        };
        watch.renew();
        watch
    }
}

#[cfg(target_os = "linux")]
impl FolderWatch {
    /// Quiet time after which a removal is taken for finished: not to get in the way of one that
    /// is under way.
    const SETTLED: std::time::Duration = std::time::Duration::from_millis(200);

    /// Watches anew, after folders were made again.
    pub(super) fn renew(&mut self) {
        self.events = self
            .start()
            .inspect_err(|error| tracing::warn!("cannot notice removed heddle folders: {error}"))
            .ok();
    }

    fn start(&self) -> std::io::Result<inotify::EventStream<[u8; 1024]>> {
        use inotify::{Inotify, WatchMask};

        let inotify = Inotify::init()?;
        let removals = WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVED_FROM
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        for folder in &self.folders {
            inotify.watches().add(folder, removals)?;
        }
        inotify.into_event_stream([0; 1024])
    }

    /// Resolves some time after something was removed. It may be dropped and called again: what it
    /// saw is kept.
    pub(super) async fn removed(&mut self) {
        use futures_util::StreamExt;
        use tokio::time::{Instant, timeout_at};

        let Some(events) = &mut self.events else {
            return std::future::pending().await;
        };
        loop {
            let event = match self.due {
                None => events.next().await,
                Some(due) => match timeout_at(due, events.next()).await {
                    Ok(event) => event,
                    Err(_) => {
                        self.due = None;
                        return;
                    }
                },
            };
            if event.is_none() {
                return std::future::pending().await;
            }
            self.due = Some(Instant::now() + Self::SETTLED);
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl FolderWatch {
    /// Nothing to renew: launchd holds the socket there.
    pub(super) fn renew(&mut self) {
        let _ = &self.folders;
    }

    /// Never resolves.
    pub(super) async fn removed(&mut self) {
        std::future::pending().await
    }
}
