//! A worktree of sources and the daemon that is asked about its changes.

use std::{
    cell::{Cell, RefCell},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use heddle_agent::grpc_local_impl::proto::{
    local::{GetStatusRequest, daemon_service_client::DaemonServiceClient},
    v1::{
        ComputeStateSignalsRequest, GetReviewPayloadRequest,
        signal_service_client::SignalServiceClient,
        state_review_service_client::StateReviewServiceClient,
    },
};
use tonic::transport::Channel;

use crate::{
    Result,
    shared::{ours::Ours, samples::micros, worktree::Worktree},
    sources::{SOURCES, is_ordinary},
};

/// How long a daemon is given to index everything.
const INDEXED: Duration = Duration::from_secs(180);
/// How often it is asked whether it has.
const POLL: Duration = Duration::from_millis(5);

/// What is asked of the current state.
#[derive(Clone, Copy)]
pub enum Asked {
    Signals,
    Payload,
}

impl Asked {
    pub const ALL: [Self; 2] = [Self::Signals, Self::Payload];

    pub fn name(self) -> &'static str {
        match self {
            Self::Signals => "signals",
            Self::Payload => "payload",
        }
    }

    async fn ask(self, channel: Channel) -> Result {
        match self {
            Self::Signals => {
                let request = ComputeStateSignalsRequest::default();
                let mut client = SignalServiceClient::new(channel);
                client.compute_state_signals(request).await?;
            }
            Self::Payload => {
                let request = GetReviewPayloadRequest::default();
                let mut client = StateReviewServiceClient::new(channel);
                client.get_review_payload(request).await?;
            }
        }
        Ok(())
    }
}

/// A worktree of sources, and its daemon.
pub struct Reviewed {
    pub worktree: Worktree,
    pub bytes: f64,
    ours: RefCell<Option<Ours>>,
    /// How often a file was changed: each time another one.
    changes: Cell<usize>,
}

impl Reviewed {
    /// Makes the worktree; no daemon is started.
    pub fn create(folder: &Path, name: &str, files: usize) -> Result<Self> {
        let worktree = Worktree::of(SOURCES, folder, name, files)?;
        Ok(Self {
            bytes: worktree.bytes()? as f64,
            worktree,
            ours: RefCell::new(None),
            changes: Cell::new(0),
        })
    }

    /// Ends the daemon, and removes what it indexed.
    pub fn forget(&self) -> Result {
        if let Some(ours) = self.ours.take() {
            ours.daemon.stop()?;
        }
        for ends in ["", "-wal", "-shm"] {
            match fs::remove_file(self.index(ends)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Starts a daemon.
    pub fn start(&self) -> Result {
        self.ours.replace(Some(Ours::start(&self.worktree.repo)?));
        Ok(())
    }

    /// Waits until everything is indexed.
    pub fn wait_for_index(&self) -> Result {
        let end = Instant::now() + INDEXED;
        self.with(|ours| {
            ours.caller.runtime.block_on(async {
                while !is_indexed(ours.caller.channel.clone()).await? {
                    if Instant::now() > end {
                        return Err("the daemon does not say that all is indexed".into());
                    }
                    tokio::time::sleep(POLL).await;
                }
                Ok(())
            })
        })
    }

    /// Megabytes of the index on disk, with its log.
    pub fn index_size(&self) -> f64 {
        let sizes = ["", "-wal"].map(|ends| fs::metadata(self.index(ends)));
        let [database, log] = sizes.map(|found| found.map_or(0, |it| it.len()));
        (database + log) as f64 / 1e6
    }

    /// The most memory that the daemon had since it was started, in MiB.
    pub fn peak(&self) -> Result<Option<f64>> {
        self.with(|ours| Ok(ours.daemon.peak()))
    }

    /// Changes a file and captures that.
    pub fn capture(&self) -> Result {
        let change = self.changes.get() + 1;
        self.changes.set(change);
        let files = self.worktree.files;
        let all_over = (change * 7_919..).map(|n| n % files);
        let n = all_over.take(files).find(|&n| is_ordinary(n));
        self.worktree.rewrite(n.ok_or("too few files")?, change)?;
        self.with(|ours| ours.capture().map(drop))
    }

    /// Microseconds for an answer.
    pub fn ask(&self, asked: Asked) -> Result<f64> {
        self.with(|ours| {
            let began = Instant::now();
            let answered = asked.ask(ours.caller.channel.clone());
            ours.caller.runtime.block_on(answered)?;
            Ok(micros(began.elapsed()))
        })
    }

    fn with<T>(&self, ask: impl FnOnce(&Ours) -> Result<T>) -> Result<T> {
        let ours = self.ours.borrow();
        ask(ours.as_ref().ok_or("no daemon was started")?)
    }

    fn index(&self, ends: &str) -> PathBuf {
        let store = self.worktree.repo.root().join(".git/heddle");
        store.join(format!("symbols.db{ends}"))
    }
}

/// Whether the daemon has indexed everything.
async fn is_indexed(channel: Channel) -> Result<bool> {
    let mut client = DaemonServiceClient::new(channel);
    let status = client.get_status(GetStatusRequest::default()).await?;
    let index = status.into_inner().index;
    Ok(index.is_some_and(|index| index.whole))
}
