//! Connections: at most 256, each driven by a task of its own, closed gracefully where somebody may
//! be about to call and at once where nobody has said a word.

use std::{
    collections::BTreeMap,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::peer::PeerCredentials;
use crate::{
    grpc_local_impl::{CallLayer, ConnectionCalls},
    hook::PeerProcess,
    status::{Kind, Status},
};

/// Connections that are open at once.
pub const CONNECTION_LIMIT: usize = 256;
/// Time in which a client must have sent the HTTP/2 preface (RFC 9113, section 3.4).
pub const PREFACE_DEADLINE: Duration = Duration::from_secs(5);
/// Time that a connection without a call is given after it was told to go.
const GRACE: Duration = Duration::from_millis(250);
/// Calls of one connection at once; more wait at the client.
const STREAMS_PER_CONNECTION: u32 = 64;
/// Bytes that a client may send ahead of our reading them, per connection and per call.
const RECEIVE_WINDOW: u32 = 256 * 1024;
/// Bytes of the HTTP/2 preface.
const PREFACE: usize = 24;

/// All open connections, and what each new one is given.
pub(super) struct Connections {
    routes: Routes,
    status: Arc<Status>,
    draining: CancellationToken,
    room: Arc<Semaphore>,
    open: Arc<Mutex<BTreeMap<u64, Arc<Entry>>>>,
    next_id: u64,
    tasks: JoinSet<()>,
}

/// What others may see of a connection.
struct Entry {
    calls: ConnectionCalls,
    greeted: Arc<AtomicUsize>,
    evicted: CancellationToken,
    since: Instant,
}

impl Connections {
    pub(super) fn new(routes: Routes, status: Arc<Status>, draining: CancellationToken) -> Self {
        Self {
            routes,
            status,
            draining,
            room: Arc::new(Semaphore::new(CONNECTION_LIMIT)),
            open: Arc::default(),
            next_id: 0,
            tasks: JoinSet::new(),
        }
    }

    /// Room for one more connection. At the limit the oldest without a call is asked to go; where
    /// all are calling, this waits.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        loop {
            let ended = self.status.activity.ended();
            if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
                return permit;
            }
            self.evict_one();
            tokio::select! {
                Ok(permit) = Arc::clone(&self.room).acquire_owned() => return permit,
                () = ended => {}
                // By then those that came last have had their time to call.
                () = tokio::time::sleep(GRACE) => {}
            }
        }
    }

    fn evict_one(&self) {
        let open = lock(&self.open);
        let going = |entry: &Arc<Entry>| entry.evicted.is_cancelled() && !entry.calls.is_calling();
        if open.values().any(going) {
            // One is on its way out already.
            return;
        }
        let quiet = open
            .values()
            .find(|entry| !entry.calls.is_calling() && !entry.evicted.is_cancelled())
            // Newcomers that have had no time to call are not pushed out by other newcomers.
            .filter(|entry| entry.since.elapsed() >= GRACE);
        if let Some(entry) = quiet {
            tracing::debug!(pid = entry.calls.pid, "closing a connection to make room");
            entry.evicted.cancel();
        }
    }

    /// Serves an accepted connection in a task of its own.
    pub(super) fn serve(
        &mut self,
        stream: UnixStream,
        peer: PeerCredentials,
        room: OwnedSemaphorePermit,
    ) {
        // What has ended is let go of as others come.
        while self.tasks.try_join_next().is_some() {}

        let newcomer = self.status.activity.begin(Kind::Newcomer);
        let entry = Arc::new(Entry {
            calls: ConnectionCalls::new(
                peer.uid,
                peer.pid,
                PeerProcess::of(&stream, peer.pid),
                newcomer,
            ),
            greeted: Arc::default(),
            evicted: CancellationToken::new(),
            since: Instant::now(),
        });
        let layer = CallLayer {
            routes: self.routes.clone(),
            status: Arc::clone(&self.status),
            draining: self.draining.clone(),
            connection: entry.calls.clone(),
        };
        let id = self.next_id;
        self.next_id += 1;
        lock(&self.open).insert(id, Arc::clone(&entry));
        self.count_open();

        let open = Open {
            id,
            open: Arc::clone(&self.open),
            status: Arc::clone(&self.status),
            _room: room,
        };
        let draining = self.draining.clone();
        self.tasks.spawn(async move {
            drive(stream, layer, &entry, draining).await;
            drop(open);
        });
    }

    fn count_open(&self) {
        let count = lock(&self.open).len();
        self.status
            .activity
            .connections()
            .store(count, Ordering::Relaxed);
    }

    /// Calls and streams of all connections that are not answered to the end.
    fn in_flight(&self) -> usize {
        let open = lock(&self.open);
        open.values().map(|entry| entry.calls.in_flight()).sum()
    }

    /// Waits until every connection has ended, at most for `deadline`; answers how many calls and
    /// streams were cut off.
    pub(super) async fn drain(mut self, deadline: Duration) -> usize {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(deadline, all).await.is_ok() {
            return 0;
        }
        let cut = self.in_flight();
        self.tasks.shutdown().await;
        cut
    }
}

/// Takes a connection off the list when its task ends, however it ends.
struct Open {
    id: u64,
    open: Arc<Mutex<BTreeMap<u64, Arc<Entry>>>>,
    status: Arc<Status>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        open.remove(&self.id);
        self.status
            .activity
            .connections()
            .store(open.len(), Ordering::Relaxed);
    }
}

async fn drive(stream: UnixStream, layer: CallLayer, entry: &Entry, draining: CancellationToken) {
    let greeted = Arc::clone(&entry.greeted);
    let io = TokioIo::new(Greeting { stream, greeted });
    let has_greeted = || entry.greeted.load(Ordering::Relaxed) >= PREFACE;
    let mut connection = pin!(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .initial_connection_window_size(RECEIVE_WINDOW)
            .initial_stream_window_size(RECEIVE_WINDOW)
            .max_send_buf_size(64 * 1024)
            .max_header_list_size(16 * 1024)
            .serve_connection(io, layer)
    );

    // Whoever has connected and is about to call would find nobody, were it sent away first.
    let mut drain = pin!(async {
        draining.cancelled().await;
        let _ = timeout(GRACE, entry.calls.first()).await;
    });
    let mut preface = pin!(tokio::time::sleep(PREFACE_DEADLINE));
    let mut going = false;
    let mut awaits_preface = true;
    loop {
        tokio::select! {
            // What has come is looked at before a deadline is held to be missed.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(pid = entry.calls.pid, "connection ended: {error}");
                }
                return;
            }
            () = preface.as_mut(), if awaits_preface => {
                awaits_preface = false;
                if !has_greeted() {
                    tracing::debug!(pid = entry.calls.pid, "closed a connection that said nothing");
                    return;
                }
            }
            () = entry.calls.stalled() => {
                tracing::warn!(pid = entry.calls.pid, "closed a connection whose client does not read");
                return;
            }
            () = entry.evicted.cancelled(), if !going => {
                if !has_greeted() {
                    return;
                }
                going = true;
                connection.as_mut().graceful_shutdown();
            }
            () = drain.as_mut(), if !going => {
                if !has_greeted() {
                    return;
                }
                going = true;
                connection.as_mut().graceful_shutdown();
            }
            // GOAWAY is out. A call that crossed it has come by now, or the client has it back.
            () = entry.calls.quiet_for(GRACE), if going => return,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A connection that counts the bytes of its greeting.
struct Greeting {
    stream: UnixStream,
    greeted: Arc<AtomicUsize>,
}

impl AsyncRead for Greeting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.greeted.load(Ordering::Relaxed) < PREFACE {
            let read = buffer.filled().len() - before;
            self.greeted.fetch_add(read, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
