//! The layer that watches every call: counts it, keeps the daemon from being idle while it lasts,
//! puts tonic's own refusals into our words, and ends response streams when the daemon drains.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{Code, Status as GrpcStatus, body::Body, service::Routes};
use tower::Service;

use super::{STREAM_LIMIT, status};
use crate::{
    failure::{Failure, Reason},
    status::{Busy, Kind, Method, Status},
};

/// Time in which a client must have read a large answer.
const READING_TIME: Duration = Duration::from_secs(30);

/// The calls of one connection, and whose it is. Every request carries it.
#[derive(Debug, Clone)]
pub struct ConnectionCalls {
    /// The peer's user, as the kernel says.
    pub uid: u32,
    /// The peer's process when it connected; advisory.
    pub pid: Option<i32>,
    calls: Arc<Calls>,
}

#[derive(Debug)]
struct Calls {
    in_flight: AtomicUsize,
    begun: AtomicU64,
    called: CancellationToken,
    ended: Notify,
    newcomer: Mutex<Option<Busy>>,
    stalled: CancellationToken,
}

impl ConnectionCalls {
    /// A connection without a call. `newcomer` keeps the daemon from being idle until its first.
    pub fn new(uid: u32, pid: Option<i32>, newcomer: Busy) -> Self {
        Self {
            uid,
            pid,
            calls: Arc::new(Calls {
                in_flight: AtomicUsize::new(0),
                begun: AtomicU64::new(0),
                called: CancellationToken::new(),
                ended: Notify::new(),
                newcomer: Mutex::new(Some(newcomer)),
                stalled: CancellationToken::new(),
            }),
        }
    }

    /// Whether a call is in flight.
    pub fn is_calling(&self) -> bool {
        self.calls.in_flight.load(Ordering::SeqCst) > 0
    }

    /// Resolves when the client has left a large answer unread for too long: the connection must go,
    /// and the memory with it (G8).
    pub async fn stalled(&self) {
        self.calls.stalled.cancelled().await;
    }

    /// Resolves when the first call has come.
    pub async fn called(&self) {
        self.calls.called.cancelled().await;
    }

    /// Resolves when there has been no call for `grace`.
    pub async fn quiet_for(&self, grace: Duration) {
        loop {
            let ended = self.calls.ended.notified();
            if self.is_calling() {
                ended.await;
                continue;
            }
            let begun = self.calls.begun.load(Ordering::SeqCst);
            tokio::time::sleep(grace).await;
            if !self.is_calling() && begun == self.calls.begun.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn begin(&self) -> InFlight {
        self.calls.in_flight.fetch_add(1, Ordering::SeqCst);
        if self.calls.begun.fetch_add(1, Ordering::SeqCst) == 0 {
            let mut newcomer = self
                .calls
                .newcomer
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            newcomer.take();
            self.calls.called.cancel();
        }
        InFlight {
            calls: Arc::clone(&self.calls),
        }
    }
}

/// A call of this connection, while it lasts.
struct InFlight {
    calls: Arc<Calls>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.calls.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.calls.ended.notify_waiters();
    }
}

/// The router of one connection, watched.
#[derive(Clone)]
pub struct CallLayer {
    /// All services.
    pub routes: Routes,
    /// Counters.
    pub status: Arc<Status>,
    /// Cancelled when the daemon begins to drain.
    pub draining: CancellationToken,
    /// Whose connection it is.
    pub connection: ConnectionCalls,
}

type Answer = Result<Response<WatchedBody>, Infallible>;

impl hyper::service::Service<Request<Incoming>> for CallLayer {
    type Response = Response<WatchedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let method = Arc::clone(self.status.method(request.uri().path()));
        let activity = &self.status.activity;
        // The call counts before the newcomer stops to count: it is never idle in between.
        let kind = if method.streaming {
            Kind::Stream
        } else {
            Kind::Call
        };
        let full = method.streaming && activity.count(Kind::Stream) >= STREAM_LIMIT;
        let watch = Watch {
            _busy: activity.begin(kind),
            in_flight: self.connection.begin(),
            began: Instant::now(),
            method,
            code: Code::Cancelled,
            peer_pid: self.connection.pid,
            large: None,
        };
        let draining = watch
            .method
            .streaming
            .then(|| Box::pin(self.draining.clone().cancelled_owned()));
        if full {
            return Box::pin(std::future::ready(Ok(refuse(watch))));
        }
        let path = request.uri().path().to_owned();
        request.extensions_mut().insert(self.connection.clone());
        let routes = self.routes.clone().call(request);
        Box::pin(async move {
            let Ok(response) = routes.await;
            Ok(finish(response, &path, watch, draining))
        })
    }
}

fn refuse(watch: Watch) -> Response<WatchedBody> {
    let failure = Failure::new(
        Reason::TooManyStreams,
        format!(
            "{STREAM_LIMIT} event streams are open already, which is the limit; close one first"
        ),
    );
    let response: Response<Body> = GrpcStatus::from(failure).into_http();
    response.map(|inner| WatchedBody::new(inner, watch, None))
}

fn finish(
    response: Response<Body>,
    path: &str,
    mut watch: Watch,
    draining: Option<Draining>,
) -> Response<WatchedBody> {
    // Only a call that was refused at once has its status in the headers.
    let refused = GrpcStatus::from_header_map(response.headers());
    let response = match refused.as_ref().and_then(|s| status::of_tonic(s, path)) {
        Some(ours) => ours.into_http(),
        None => response,
    };
    watch.code = refused.map_or(Code::Cancelled, |status| status.code());
    if let Some(large) = response.extensions().get::<LargeReply>() {
        watch.large = Some(large.watch_over(&watch.in_flight.calls.stalled));
    }
    response.map(|inner| WatchedBody::new(inner, watch, draining))
}

type Draining = Pin<Box<WaitForCancellationFutureOwned>>;

/// The place of one large answer among the few that may be in memory at once. It goes with the
/// response, so that the place is given back only when the client has read it.
#[derive(Debug, Clone)]
pub(super) struct LargeReply {
    _place: Arc<OwnedSemaphorePermit>,
}

impl LargeReply {
    /// Waits for a place.
    pub(super) async fn place(among: &Arc<Semaphore>) -> Option<Self> {
        let permit = Arc::clone(among).acquire_owned().await.ok()?;
        Some(Self {
            _place: Arc::new(permit),
        })
    }

    /// Gives the client its time to read; after that `stalled` is cancelled. Ends with the guard.
    fn watch_over(&self, stalled: &CancellationToken) -> DropGuard {
        let read = CancellationToken::new();
        let (place, stalled, done) = (self.clone(), stalled.clone(), read.clone());
        tokio::spawn(async move {
            let place = place;
            if tokio::time::timeout(READING_TIME, done.cancelled())
                .await
                .is_err()
            {
                stalled.cancel();
            }
            drop(place);
        });
        read.drop_guard()
    }
}

/// What is counted when a call ends, however it ends.
struct Watch {
    _busy: Busy,
    in_flight: InFlight,
    method: Arc<Method>,
    began: Instant,
    code: Code,
    peer_pid: Option<i32>,
    large: Option<DropGuard>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.method.record(took, self.code != Code::Ok);
        self.log(took);
    }
}

impl Watch {
    /// One line a call: what went wrong on our side is seen first, a caller's mistake is told, and
    /// what went well is for who asks for it.
    fn log(&self, took: Duration) {
        macro_rules! ended {
            ($level:ident) => {
                tracing::$level!(
                    heddle_method = self.method.path,
                    heddle_code = status::code_name(self.code),
                    heddle_peer_pid = self.peer_pid,
                    took_micros = took.as_micros() as u64,
                    "call ended"
                )
            };
        }
        match self.code {
            Code::Ok | Code::Cancelled => ended!(debug),
            Code::Internal | Code::DataLoss | Code::Unknown => ended!(error),
            Code::Unavailable | Code::ResourceExhausted => ended!(warn),
            _ => ended!(info),
        }
    }
}

/// A response body that ends its call when it ends.
pub struct WatchedBody {
    inner: Body,
    watch: Option<Watch>,
    draining: Option<Draining>,
}

impl WatchedBody {
    fn new(inner: Body, watch: Watch, draining: Option<Draining>) -> Self {
        Self {
            inner,
            watch: Some(watch),
            draining,
        }
    }

    fn look_at(&mut self, trailers: &HeaderMap) {
        if let Some(watch) = &mut self.watch {
            let code = trailers.get(GrpcStatus::GRPC_STATUS);
            watch.code = code.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
        }
    }
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = GrpcStatus;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GrpcStatus>>> {
        let this = &mut *self;
        if this.watch.is_none() {
            return Poll::Ready(None);
        }
        if let Some(draining) = &mut this.draining
            && draining.as_mut().poll(cx).is_ready()
        {
            let mut trailers = HeaderMap::new();
            status::draining().add_header(&mut trailers).ok();
            this.look_at(&trailers);
            this.watch = None;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.look_at(trailers);
                    this.watch = None;
                }
            }
            Poll::Ready(Some(Err(_)) | None) => this.watch = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.watch.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
