//! What can go wrong in the store, told by its effect on the caller and not in SQLite's words.

use std::{io, path::PathBuf};

use rusqlite::{ErrorCode, ffi};

use crate::failure::{Failure, Reason};

/// A failed read, write or opening of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite's answer; [`Error::reason`] sorts it.
    #[error("{}", describe(.0))]
    Sqlite(rusqlite::Error),
    /// The database file cannot be opened or made.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// Why not.
        source: Box<Error>,
    },
    /// The system refused a thread or a folder.
    #[error("cannot start the store: {0}")]
    Io(#[from] io::Error),
    /// A later version of heddle has been here.
    #[error(
        "{} was made by heddle {written_by} (schema {found}), and this is heddle {} (schema {known}); upgrade heddle",
        path.display(), env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The version that migrated it last.
        written_by: String,
        /// Its schema.
        found: usize,
        /// The newest schema that we know.
        known: usize,
    },
    /// The file is a database, but not ours.
    #[error(
        "{} is a database of another program; move it away and try again", path.display()
    )]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// A symbolic link is where a file of the database should be: what is written stays in our folder.
    #[error(
        "{} is a symbolic link, and heddle follows none there; put the file that it leads to in its place, or remove it, and try again", path.display()
    )]
    Linked {
        /// The link.
        path: PathBuf,
    },
    /// The heddle folder is no longer the one that we locked (G1).
    #[error(
        "the heddle folder was removed or replaced while the daemon ran, so nothing was written; the daemon is leaving, call again to start a new one"
    )]
    Lost,
    /// The write itself failed, or what it was committed with.
    #[error(transparent)]
    Refused(Failure),
    /// Too many writes are waiting.
    #[error("1,024 writes are waiting already; try again in a moment")]
    QueueFull,
    /// A read ended without a result: it panicked, or the runtime is going.
    #[error("the daemon failed while it read its database; its log says more")]
    ReadFailed,
    /// The writer has stopped, for good.
    #[error(
        "the daemon no longer writes: it is stopping, or a sync to disk failed; call again once it has been restarted"
    )]
    Stopped,
}

impl Error {
    /// The stable reason that callers are given.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Sqlite(error) => sqlite_reason(error),
            Self::Open { source, .. } => source.reason(),
            Self::Io(_) => Reason::StoreIo,
            Self::Stopped => Reason::StoreStopped,
            Self::Newer { .. } | Self::Foreign { .. } => Reason::StoreNewer,
            Self::Linked { .. } => Reason::StoreIo,
            Self::Lost => Reason::StoreLost,
            Self::ReadFailed => Reason::Internal,
            Self::QueueFull => Reason::WriteQueueFull,
            Self::Refused(failure) => failure.reason,
        }
    }

    /// True when data may not have reached the disk although it was written: after that nothing
    /// can be promised any more, and the process must go (G4).
    pub(super) fn is_failed_sync(&self) -> bool {
        let Self::Sqlite(error) = self else {
            return false;
        };
        error.sqlite_error().is_some_and(|e| {
            [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC].contains(&e.extended_code)
        })
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        // A fault of ours; its words are for us, and no caller is shown a statement.
        if sqlite_reason(&error) == Reason::Internal {
            tracing::error!("the database refused a statement: {error}");
        }
        Self::Sqlite(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(failure) => failure,
            error => Failure::new(error.reason(), error.to_string()),
        }
    }
}

fn sqlite_reason(error: &rusqlite::Error) -> Reason {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Reason::StoreFull,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Reason::StoreReadOnly,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Reason::StoreCorrupt,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Reason::StoreBusy,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory) => {
            Reason::StoreIo
        }
        _ => Reason::Internal,
    }
}

fn describe(error: &rusqlite::Error) -> String {
    match sqlite_reason(error) {
        Reason::StoreFull => {
            "the disk that holds heddle's database is full; free some space and try again".into()
        }
        Reason::StoreReadOnly => {
            "heddle's database cannot be written: the disk is mounted read-only, or the file's permissions forbid it; make it writable and try again".into()
        }
        Reason::StoreCorrupt => {
            "heddle's database (heddle.db in the Git folder's heddle/) is damaged; run `heddle doctor --repair`: it keeps the file under another name, makes a new one, and rebuilds threads and captures from Git's refs/heddle/".into()
        }
        Reason::StoreBusy => {
            "another program has heddle's database (heddle.db) open and keeps it locked; end what it is doing there and try again".into()
        }
        Reason::StoreIo => format!(
            "the disk that holds heddle's database did not do what was asked ({}); look at the system log, then try again",
            code_name(error)
        ),
        _ => "the daemon failed to use its database as it should; its log says more".into(),
    }
}

fn code_name(error: &rusqlite::Error) -> String {
    match error.sqlite_error() {
        Some(e) => format!("SQLite error {}", e.extended_code),
        None => "no SQLite error".into(),
    }
}
