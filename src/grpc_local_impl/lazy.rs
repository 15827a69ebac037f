//! A service that is made when it is first called: few ever ask reflection, and a start does not wait
//! for what they need.

use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
};

/// It, and how it is made. Clones share it.
pub(super) struct Lazy<S> {
    made: Arc<OnceLock<Option<S>>>,
    make: fn() -> Option<S>,
}

impl<S> Lazy<S> {
    /// Made by `make`, which answers `None` where it cannot be.
    pub(super) fn new(make: fn() -> Option<S>) -> Self {
        Self {
            made: Arc::default(),
            make,
        }
    }
}

impl<S> Clone for Lazy<S> {
    fn clone(&self) -> Self {
        Self {
            made: Arc::clone(&self.made),
            make: self.make,
        }
    }
}

impl<S: NamedService> NamedService for Lazy<S> {
    const NAME: &'static str = S::NAME;
}

type Answer = BoxFuture<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for Lazy<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>
        + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As every generated service: it is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        match self.made.get_or_init(self.make) {
            Some(service) => service.clone().call(request),
            None => {
                let answer = Status::unimplemented("reflection is off").into_http();
                Box::pin(ready(Ok(answer)))
            }
        }
    }
}
