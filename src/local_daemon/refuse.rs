//! A daemon that was activated and must not serve tells those who wait why, before it goes: left in
//! the queue they would wait for ever, or start it again and again.

use std::{convert::Infallible, time::Duration};

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{task::JoinSet, time::timeout};

use super::{
    accept::{Accepted, queued},
    activation::{Listener, ListenerSource},
};
use crate::{failure::Failure, grpc_local_impl::to_status};

/// How long all of them together are given to ask and to be told.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells those who wait for a daemon that does not come to be why. Without a service manager's
/// socket nobody waits.
pub async fn refuse(source: ListenerSource, failure: &Failure) {
    if let ListenerSource::Inherited(socket) = source
        && socket.set_nonblocking(true).is_ok()
    {
        refuse_queued(&Listener::Inherited(socket), failure).await;
    }
}

/// Answers every call of every connection that is queued with `failure`.
pub(super) async fn refuse_queued(listener: &Listener, failure: &Failure) {
    let mut tellings = JoinSet::new();
    let all = async {
        while let Some(accepted) = queued(listener) {
            tellings.spawn(tell_one(accepted, failure.clone()));
        }
        while tellings.join_next().await.is_some() {}
    };
    if timeout(PATIENCE, all).await.is_err() {
        tracing::debug!("somebody who waited did not ask in time");
    }
}

async fn tell_one((stream, _): Accepted, failure: Failure) {
    let service = hyper::service::service_fn(move |_: Request<Incoming>| {
        let refusal = to_status(failure.clone()).into_http::<tonic::body::Body>();
        std::future::ready(Ok::<_, Infallible>(refusal))
    });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("a connection that was refused ended: {error}");
    }
}
