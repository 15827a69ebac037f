//! Our own socket. It is born private: made under another name, closed to others, listening, and
//! only then renamed to where clients look. It is removed only while it is the one we made (G6).

use std::{
    env,
    ffi::OsString,
    fs::{self, DirBuilder, Permissions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use sha2::{Digest, Sha256};

use crate::local_daemon::made::Made;

/// Bytes that a socket's path may have (`sun_path` in unix(7), less its NUL).
pub const SUN_PATH_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// Connections that may wait to be accepted: as many as the system allows (listen(2)).
#[cfg(target_os = "linux")]
const BACKLOG: Backlog = Backlog::MAXALLOWABLE;
#[cfg(not(target_os = "linux"))]
const BACKLOG: Backlog = Backlog::MAXCONN;

/// A socket that we bound, and the path and link that lead to it.
#[derive(Debug)]
pub struct OwnSocket {
    socket: UnixListener,
    bound: Made,
    link: Option<Made>,
}

impl OwnSocket {
    /// Binds at `asked` and makes it reachable at `usual`, where clients look. Where a path is too
    /// deep for a socket, or its filesystem has none, the socket lies under the runtime folder with
    /// a link at `usual`. Call it only under the repository's lock: it replaces what is stale.
    ///
    /// # Errors
    /// When no folder can hold the socket.
    pub fn bind(asked: &Path, usual: &Path) -> io::Result<Self> {
        refuse_occupied(asked, usual)?;
        if asked != usual && asked.as_os_str().len() > SUN_PATH_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a socket's path may have {SUN_PATH_MAX} bytes; name a shorter --socket"),
            ));
        }
        let direct = if asked.as_os_str().len() <= SUN_PATH_MAX {
            match listen_at(asked) {
                // A filesystem without sockets: unix(7) has EPERM, others say it differently.
                Err(e) if lacks_sockets(&e) => None,
                other => Some(other?),
            }
        } else {
            None
        };
        let (socket, path) = match direct {
            Some(socket) => (socket, asked.to_owned()),
            None => {
                let path = runtime_path(usual, ".sock")?;
                (listen_at(&path)?, path)
            }
        };
        let bound = Made::note(&path)?;
        let link = if path == usual {
            None
        } else {
            Some(link_to(&path, usual)?)
        };
        Ok(Self {
            socket,
            bound,
            link,
        })
    }

    /// The listening socket, not blocking.
    pub fn socket(&self) -> &UnixListener {
        &self.socket
    }

    /// Where it is bound.
    pub fn path(&self) -> &Path {
        self.bound.path()
    }

    /// The socket's path, and the link's where there is one.
    pub fn files(&self) -> Vec<PathBuf> {
        let made = [Some(&self.bound), self.link.as_ref()];
        made.into_iter()
            .flatten()
            .map(|made| made.path().to_owned())
            .collect()
    }

    /// Whether clients still find it: the socket, and the link where there is one.
    pub fn is_reachable(&self) -> bool {
        self.bound.is_there() && self.link.as_ref().is_none_or(Made::is_there)
    }

    /// Whether something else has taken its place.
    pub fn is_displaced(&self) -> bool {
        let taken = |made: &Made| !made.is_there() && made.path().symlink_metadata().is_ok();
        taken(&self.bound) || self.link.as_ref().is_some_and(taken)
    }

    /// Makes the link at `usual` again where only that was lost; false where the socket itself has
    /// to be bound anew.
    ///
    /// # Errors
    /// When the link cannot be made.
    pub fn link_again(&mut self, usual: &Path) -> io::Result<bool> {
        if self.link.is_none() || !self.bound.is_there() {
            return Ok(false);
        }
        self.link = Some(link_to(self.bound.path(), usual)?);
        Ok(true)
    }

    /// Whether clients are led to another socket from where ours was. systemd does that for a
    /// socket unit with `Symlinks=` and `RemoveOnStop=yes`.
    pub fn is_led_past(&self) -> bool {
        let made = self.link.as_ref().unwrap_or(&self.bound);
        !made.is_there() && fs::read_link(made.path()).is_ok()
    }

    /// Removes path and link, as far as they are ours, and refuses whoever comes from now on. What
    /// is queued stays queued.
    pub fn unlink(&mut self) {
        if let Some(link) = &self.link {
            link.remove();
        }
        self.bound.remove();
        // A client may have looked the path up before it went and connect only now: it would be
        // queued behind our back, and cut off. Where the system cannot do this (macOS), it still is.
        let _ = socket::shutdown(self.socket.as_raw_fd(), socket::Shutdown::Read);
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        self.unlink();
    }
}

/// What a client must connect to in order to reach the socket at `usual`: a link's target, since
/// the link's own path may be too long for connect(2).
pub fn reachable(usual: &Path) -> PathBuf {
    let mut path = usual.to_owned();
    // As many as Linux itself follows (path_resolution(7)); a loop leads nowhere either way.
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => break,
        }
    }
    path
}

/// Makes a link to the socket at `usual` whose path is short and plain, and ends in `suffix`: for
/// clients that cannot take the path itself.
///
/// # Errors
/// When no private folder can hold it.
pub fn short_link(usual: &Path, suffix: &str) -> io::Result<PathBuf> {
    let link = runtime_path(usual, suffix)?;
    match symlink(usual, &link) {
        Err(_) if fs::read_link(&link).is_ok_and(|target| target == usual) => Ok(link),
        made => made.map(|()| link),
    }
}

/// Our lock says that nobody serves at `usual`; elsewhere there may be anything.
fn refuse_occupied(asked: &Path, usual: &Path) -> io::Result<()> {
    use std::os::unix::{fs::FileTypeExt, net::UnixStream};

    let kind = match asked.symlink_metadata() {
        Ok(found) => found.file_type(),
        Err(_) => return Ok(()),
    };
    let refuse = |why: &str| {
        let text = format!("{} {why}; name another --socket", asked.display());
        Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
    };
    let replaceable = kind.is_socket() || (kind.is_symlink() && asked == usual);
    if !replaceable {
        refuse("is there already and is not a socket")
    } else if asked != usual && UnixStream::connect(asked).is_ok() {
        refuse("is the socket of a running process")
    } else {
        Ok(())
    }
}

fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let aside = aside(path);
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let socket = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::empty(),
        None,
    )?;
    close_on_exec(&socket)?;
    let address = UnixAddr::new(aside.as_path())?;
    socket::bind(socket.as_raw_fd(), &address)?;
    fs::set_permissions(&aside, Permissions::from_mode(0o600))?;
    socket::listen(&socket, BACKLOG)?;
    fs::rename(&aside, path)?;
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Where `path` is made before it is renamed: next to it, no longer than `NAME.sock` so that it fits
/// where that fits, and its own, since the runtime folder is shared by the daemons of many
/// repositories.
fn aside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_stem().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn close_on_exec(socket: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

fn lacks_sockets(error: &io::Error) -> bool {
    use nix::errno::Errno;
    error.raw_os_error().map(Errno::from_raw).is_some_and(|e| {
        [Errno::EPERM, Errno::EOPNOTSUPP, Errno::ENOSYS, Errno::ENXIO].contains(&e)
    })
}

/// A short path for the repository whose socket's usual path is `usual`.
fn runtime_path(usual: &Path, suffix: &str) -> io::Result<PathBuf> {
    let folder = runtime_folder()?;
    let hash = Sha256::digest(usual.as_os_str().as_bytes());
    let name: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(folder.join(name + suffix))
}

/// `$XDG_RUNTIME_DIR/heddle`, or a private folder among the temporary files.
fn runtime_folder() -> io::Result<PathBuf> {
    let uid = nix::unistd::Uid::effective();
    let given = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let folder = match given.as_deref().map(Path::new) {
        Some(runtime) if is_private(runtime) => runtime.join("heddle"),
        _ => env::temp_dir().join(format!("heddle-{uid}")),
    };
    private_folder(&folder)?;
    Ok(folder)
}

/// Makes a folder for sockets, where there is none.
///
/// # Errors
/// When it cannot be made, and when what is there is open to others.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    if is_private(folder) {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{} is not a folder of ours with mode 0700, so no socket can lie in it; remove it, or set XDG_RUNTIME_DIR",
            folder.display()
        )))
    }
}

fn is_private(folder: &Path) -> bool {
    folder.symlink_metadata().is_ok_and(|found| {
        found.is_dir()
            && found.uid() == nix::unistd::Uid::effective().as_raw()
            && found.mode() & 0o077 == 0
    })
}

/// Puts a link at `usual`, complete or not at all.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn link_to(target: &Path, usual: &Path) -> io::Result<Made> {
    let aside = aside(usual);
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => symlink(target, &aside)?,
    }
    fs::rename(&aside, usual)?;
    Made::note(usual)
}
