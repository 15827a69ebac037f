//! Where the listener comes from. A service manager's is inherited and never unlinked (G6); without
//! one the daemon binds for itself.

mod handover;
#[cfg(target_os = "macos")]
mod launchd;
mod own;
mod systemd;

use std::{
    io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

pub use handover::ActivationError;
pub(crate) use own::link_to;
pub use own::{OwnSocket, SUN_PATH_MAX, private_folder, reachable, short_link};

/// Where `serve` takes its listener from.
#[derive(Debug)]
pub enum ListenerSource {
    /// It binds for itself, at the configured path.
    OwnBind,
    /// A service manager holds it; what was connected to it is served too.
    Inherited(UnixListener),
}

impl ListenerSource {
    /// What the service manager that started this process handed over, else own bind. Call it in
    /// `main`, before other threads exist: it takes the manager's variables out of the environment.
    ///
    /// # Errors
    /// When something was handed over that is not one listening Unix stream socket.
    pub fn from_environment() -> Result<Self, ActivationError> {
        let inherited = handover::inherit(&systemd::Systemd)?;
        #[cfg(target_os = "macos")]
        let inherited = match inherited {
            None => handover::inherit(&launchd::Launchd)?,
            some => some,
        };
        Ok(inherited.map_or(Self::OwnBind, Self::Inherited))
    }
}

/// The listening socket of a running daemon.
#[derive(Debug)]
pub enum Listener {
    /// Ours, with the path that we made.
    Own(OwnSocket),
    /// Somebody else's, only lent.
    Inherited(UnixListener),
}

impl Listener {
    /// The socket itself.
    pub fn socket(&self) -> &UnixListener {
        match self {
            Self::Own(own) => own.socket(),
            Self::Inherited(socket) => socket,
        }
    }

    /// Where it is bound, for people.
    pub fn path(&self) -> String {
        match self {
            Self::Own(own) => own.path().display().to_string(),
            Self::Inherited(socket) => socket
                .local_addr()
                .ok()
                .and_then(|address| address.as_pathname().map(Path::to_owned))
                .map_or_else(String::new, |path| path.display().to_string()),
        }
    }

    /// The files through which clients reach it, as far as they are ours.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Own(own) => own.files(),
            Self::Inherited(_) => Vec::new(),
        }
    }

    /// Makes it unreachable for new clients, as far as it is ours. What is queued stays queued.
    pub fn unlink(&mut self) {
        if let Self::Own(own) = self {
            own.unlink();
        }
    }

    /// The next connection that waits, without waiting for one.
    ///
    /// # Errors
    /// `WouldBlock` when none waits, and those of accept(2).
    pub fn accept_queued(&self) -> io::Result<std::os::unix::net::UnixStream> {
        self.socket().accept().map(|(stream, _)| stream)
    }
}
