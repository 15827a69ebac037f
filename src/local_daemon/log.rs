//! `agent.log`: where a daemon that nobody watches writes its lines. Bounded: a full file becomes
//! `agent.log.1`, and the one before that goes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of one file.
pub const LOG_LIMIT: u64 = 1024 * 1024;

/// The bounded log; clones write to the same file.
#[derive(Debug, Clone)]
pub struct BoundedLog {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    file: File,
    written: u64,
}

impl BoundedLog {
    /// Opens the log at `path`, which goes on where it ended.
    ///
    /// # Errors
    /// When the file cannot be opened or made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let written = file.metadata()?.len();
        Ok(Self {
            state: Arc::new(Mutex::new(State {
                path: path.to_owned(),
                file,
                written,
            })),
        })
    }
}

impl State {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.written + line.len() as u64 > LOG_LIMIT {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = open(&self.path)?;
            self.written = 0;
        } else if self.path.symlink_metadata().is_err() {
            // `.heddle/` may be lost at any moment; what comes now should not be.
            self.file = open(&self.path)?;
            self.written = 0;
        }
        self.written += line.len() as u64;
        self.file.write_all(line)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        // A checkout may have put a link in its place: it must not lead us anywhere.
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(path)
}

/// One line on its way to the log.
pub struct Line<'a> {
    state: MutexGuard<'a, State>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A log that cannot be written must not stop what it tells of.
        let _ = self.state.write_line(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for BoundedLog {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            state: self
                .state
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        }
    }
}
