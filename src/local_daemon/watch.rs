//! Notices when somebody removes our folders (`git clean -fdx` takes `.heddle/`): a daemon that
//! cannot be reached is no daemon. Event-driven, so that idling costs nothing.

use std::path::PathBuf;

/// Folders that are watched for removals, and files that are to stay where they are.
pub(super) struct FolderWatch {
    folders: Vec<PathBuf>,
    #[cfg(target_os = "linux")]
    events: Option<inotify::EventStream<[u8; 1024]>>,
    #[cfg(target_os = "linux")]
    due: Option<tokio::time::Instant>,
}

impl FolderWatch {
    /// Watches these folders.
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        Self {
            folders,
            #[cfg(target_os = "linux")]
            events: None,
            #[cfg(target_os = "linux")]
            due: None,
        }
    }
}

#[cfg(target_os = "linux")]
impl FolderWatch {
    /// Quiet time after which a removal is taken for finished: not to get in the way of one that
    /// is under way.
    const SETTLED: std::time::Duration = std::time::Duration::from_millis(200);

    /// Watches anew, after folders were made again: also these files, which may lie elsewhere.
    /// Whoever calls it looks at them once more: what goes before they are watched is not noticed.
    pub(super) fn renew(&mut self, files: &[PathBuf]) {
        self.events = self
            .start(files)
            .inspect_err(|error| tracing::warn!("removed heddle folders go unnoticed: {error}"))
            .ok();
    }

    fn start(&self, files: &[PathBuf]) -> std::io::Result<inotify::EventStream<[u8; 1024]>> {
        use inotify::{Inotify, WatchMask};

        let inotify = Inotify::init()?;
        let removals = WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVED_FROM
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        // An unlinked socket that is still open only loses a link, which is an attribute.
        let going = WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::DONT_FOLLOW;
        let folders = self.folders.iter().map(|path| (path, removals));
        let files = files.iter().map(|path| (path, going));
        for (path, mask) in folders.chain(files) {
            match inotify.watches().add(path, mask) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
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
    /// Nothing to renew: a daemon that nobody can reach any more leaves when it is idle.
    pub(super) fn renew(&mut self, files: &[PathBuf]) {
        let _ = (&self.folders, files);
    }

    /// Never resolves.
    pub(super) async fn removed(&mut self) {
        std::future::pending().await
    }
}
