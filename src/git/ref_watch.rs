//! Notices that HEADs or branches may have moved. Event-driven, so that idling costs nothing (G8);
//! where there are no events, who asks is told to look at everything.

use std::collections::BTreeSet;

use super::LogName;

/// What may have moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// Only these, if any.
    Some(BTreeSet<LogName>),
    /// Anything.
    All,
}

impl Default for Moved {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Moved {
    /// Whether nothing has.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Some(names) if names.is_empty())
    }

    /// Also what the other says.
    pub fn add(&mut self, other: Self) {
        match (self, other) {
            (Self::Some(names), Self::Some(more)) => names.extend(more),
            (this, Self::All) => *this = Self::All,
            (Self::All, Self::Some(_)) => {}
        }
    }
}

#[cfg(target_os = "linux")]
mod events {
    use std::{
        collections::HashMap,
        ffi::OsStr,
        io,
        os::unix::ffi::OsStrExt,
        path::{Path, PathBuf},
    };

    use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask};
    use tokio::io::unix::AsyncFd;

    use super::{LogName, Moved};
    use crate::git::ref_logs::names_in;

    pub(super) struct Events {
        inotify: AsyncFd<Inotify>,
        folders: HashMap<WatchDescriptor, PathBuf>,
        common_dir: PathBuf,
        moved: Moved,
    }

    impl Events {
        pub(super) fn start(common_dir: &Path) -> io::Result<Self> {
            // What is deprecated about it is that the descriptor could change, or be closed by
            // another; an `Inotify` owns its own. What replaces it can only be called unsafely.
            #[expect(deprecated)]
            let inotify = AsyncFd::new(Inotify::init()?)?;
            let mut events = Self {
                inotify,
                folders: HashMap::new(),
                common_dir: common_dir.to_owned(),
                moved: Moved::default(),
            };
            events.watch(PathBuf::new())?;
            Ok(events)
        }

        /// Watches a folder and those below it in which something could move, and takes everything
        /// in them for moved: it may have come before it was watched.
        fn watch(&mut self, folder: PathBuf) -> io::Result<()> {
            let mut folders = vec![folder];
            while let Some(folder) = folders.pop() {
                let path = self.common_dir.join(&folder);
                match self.inotify.get_ref().watches().add(&path, mask(&folder)) {
                    Ok(descriptor) => drop(self.folders.insert(descriptor, folder.clone())),
                    Err(e) if crate::git::reflog::is_absent(&e) => continue,
                    Err(e) => return Err(e),
                }
                for (name, is_folder) in names_in(&path)? {
                    let path = folder.join(OsStr::from_bytes(&name));
                    if is_folder && is_watched(&path) {
                        folders.push(path);
                    } else if !is_folder {
                        self.moved.add(of_file(&path));
                    }
                }
            }
            Ok(())
        }

        /// Resolves when something more may have moved. It may be dropped and called again.
        pub(super) async fn changed(&mut self) -> io::Result<()> {
            loop {
                let read = {
                    let mut ready = self.inotify.readable_mut().await?;
                    let read = read(ready.get_inner_mut())?;
                    ready.clear_ready();
                    read
                };
                let before = std::mem::take(&mut self.moved);
                self.understand(read)?;
                let is_new = !self.moved.is_empty();
                self.moved.add(before);
                if is_new {
                    return Ok(());
                }
            }
        }

        /// What may have moved until now and was not answered before.
        pub(super) fn take(&mut self) -> io::Result<Moved> {
            let read = read(self.inotify.get_mut())?;
            self.understand(read)?;
            Ok(std::mem::take(&mut self.moved))
        }

        fn understand(&mut self, events: Vec<Seen>) -> io::Result<()> {
            for (descriptor, mask, name) in events {
                if mask.contains(EventMask::Q_OVERFLOW) {
                    // Folders may have come unseen.
                    self.watch(PathBuf::new())?;
                    self.moved = Moved::All;
                    continue;
                }
                if mask.contains(EventMask::IGNORED) {
                    self.folders.remove(&descriptor);
                    continue;
                }
                let Some(path) = self
                    .folders
                    .get(&descriptor)
                    .zip(name)
                    .map(|(folder, name)| folder.join(OsStr::from_bytes(&name)))
                else {
                    continue;
                };
                if !mask.contains(EventMask::ISDIR) {
                    self.moved.add(of_file(&path));
                } else if is_watched(&path) {
                    if mask.contains(EventMask::MOVED_FROM) {
                        self.moved = Moved::All;
                    } else if !mask.contains(EventMask::DELETE) {
                        self.watch(path)?;
                    }
                }
            }
            Ok(())
        }
    }

    type Seen = (WatchDescriptor, EventMask, Option<Vec<u8>>);

    /// All events that there are by now, without waiting for any.
    fn read(inotify: &mut Inotify) -> io::Result<Vec<Seen>> {
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match inotify.read_events(&mut buffer) {
                Ok(events) => {
                    let owned = |event: Event<&OsStr>| {
                        let name = event.name.map(|name| name.as_bytes().to_vec());
                        (event.wd, event.mask, name)
                    };
                    seen.extend(events.map(owned));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(seen),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn of_file(path: &Path) -> Moved {
        if path == Path::new("packed-refs") {
            return Moved::All;
        }
        Moved::Some(LogName::of_file(path).into_iter().collect())
    }

    /// Whether something below this folder of the shared Git folder tells of moves.
    fn is_watched(folder: &Path) -> bool {
        let mut parts = folder.iter().map(OsStr::as_bytes);
        match (parts.next(), parts.next(), parts.next()) {
            (None, ..) | (Some(b"logs" | b"refs" | b"worktrees"), None, _) => true,
            (Some(b"refs"), Some(below), _) => below == b"heads",
            (Some(b"logs"), Some(b"refs"), below) => below.is_none_or(|below| below == b"heads"),
            (Some(b"worktrees"), Some(_), None) => true,
            (Some(b"worktrees"), Some(_), Some(below)) => {
                below == b"logs" && parts.next().is_none()
            }
            _ => false,
        }
    }

    fn mask(folder: &Path) -> WatchMask {
        let names = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::ONLYDIR;
        // Logs are appended to; all else is renamed into its place.
        if folder.iter().any(|part| part == "logs") {
            names | WatchMask::MODIFY
        } else {
            names
        }
    }
}

/// Watches the HEADs and branches of a repository.
pub struct RefWatch {
    #[cfg(target_os = "linux")]
    events: Option<events::Events>,
}

#[cfg(target_os = "linux")]
impl RefWatch {
    /// Watches those of this repository, from now on. It blocks.
    pub fn start(repository: &super::Repository) -> Self {
        let events = events::Events::start(repository.common_dir());
        let events = events.inspect_err(unwatched).ok();
        Self { events }
    }

    /// Watches nothing.
    pub fn blind() -> Self {
        Self { events: None }
    }

    /// Whether nothing can be noticed, and who wants to know has to look.
    pub fn is_blind(&self) -> bool {
        self.events.is_none()
    }

    /// Resolves when something may have moved. It may be dropped and called again.
    pub async fn changed(&mut self) {
        let Some(events) = &mut self.events else {
            return std::future::pending().await;
        };
        if let Err(error) = events.changed().await {
            unwatched(&error);
            self.events = None;
        }
    }

    /// What may have moved since this was last asked. It waits for nothing.
    pub fn take(&mut self) -> Moved {
        let taken = self.events.as_mut().map(events::Events::take);
        match taken {
            Some(Ok(moved)) => moved,
            Some(Err(error)) => {
                unwatched(&error);
                self.events = None;
                Moved::All
            }
            None => Moved::All,
        }
    }
}

#[cfg(target_os = "linux")]
fn unwatched(error: &std::io::Error) {
    tracing::warn!(
        "commits and branch moves are noticed only when somebody asks for them: {error}; raising fs.inotify.max_user_instances or max_user_watches (sysctl(8)) may help"
    );
}

#[cfg(not(target_os = "linux"))]
impl RefWatch {
    /// Nothing is watched.
    pub fn start(_: &super::Repository) -> Self {
        Self {}
    }

    /// The same.
    pub fn blind() -> Self {
        Self {}
    }

    /// Whether nothing can be noticed, and who wants to know has to look.
    pub fn is_blind(&self) -> bool {
        true
    }

    /// Never resolves.
    pub async fn changed(&mut self) {
        std::future::pending().await
    }

    /// Anything may have moved.
    pub fn take(&mut self) -> Moved {
        Moved::All
    }
}
