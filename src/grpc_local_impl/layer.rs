//! The layer that watches every call: counts it, keeps the daemon from being idle while it lasts,
//! puts tonic's own refusals into our words, and ends response streams when the daemon drains.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status as GrpcStatus, body::Body, service::Routes};
use tower::Service;

use super::{ConnectionCalls, STREAM_LIMIT, connection::InFlight, large::LargeReply, status};
use crate::{
    failure::{Failure, Reason},
    status::{Busy, Kind, Method, Status},
};

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
        let watch = Watch {
            _busy: activity.begin(kind),
            in_flight: self.connection.begin(),
            began: Instant::now(),
            method,
            code: Code::Cancelled,
            peer_pid: self.connection.pid,
        };
        let draining = watch
            .method
            .streaming
            .then(|| Box::pin(self.draining.clone().cancelled_owned()));
        if watch.method.streaming && activity.count(Kind::Stream) > STREAM_LIMIT {
            return Box::pin(std::future::ready(Ok(refuse(watch))));
        }
        let uri = request.uri().clone();
        request.extensions_mut().insert(self.connection.clone());
        let routes = self.routes.clone().call(request);
        Box::pin(async move {
            let Ok(response) = routes.await;
            Ok(finish(response, uri.path(), watch, draining))
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
        let in_flight = &watch.in_flight;
        let guard = large.watch_over(&in_flight.calls.stalled);
        // A call has one answer, so the slot is empty.
        let _ = in_flight.large.set(guard);
    }
    response.map(|inner| WatchedBody::new(inner, watch, draining))
}

type Draining = Pin<Box<WaitForCancellationFutureOwned>>;

/// What is counted when a call ends, however it ends.
struct Watch {
    // Dropped first: whoever is woken by the end of what is below must find this connection quiet.
    in_flight: Arc<InFlight>,
    _busy: Busy,
    method: Arc<Method>,
    began: Instant,
    code: Code,
    peer_pid: Option<i32>,
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

/// Bytes of an answer that HTTP/2 has taken and may not have written yet: a client that reads slowly
/// is still being answered, and a stop must wait for it (G7).
struct Unsent {
    bytes: Bytes,
    _in_flight: Arc<InFlight>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
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

    fn track(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let Some(watch) = &self.watch else {
            return frame;
        };
        frame.map_data(|bytes| {
            Bytes::from_owner(Unsent {
                bytes,
                _in_flight: Arc::clone(&watch.in_flight),
            })
        })
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
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.look_at(trailers);
                    this.watch = None;
                }
                Poll::Ready(Some(Ok(this.track(frame))))
            }
            Poll::Ready(end) => {
                this.watch = None;
                Poll::Ready(end)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.watch.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
