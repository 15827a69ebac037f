//! Services of the contract that a later version fills in. Each method says so; none pretends.

use std::{convert::Infallible, marker::PhantomData, pin::Pin, sync::Arc, task};

use futures_util::Stream;
use tonic::{Request, Response, Status};

use super::{Services, proto::v1};
use crate::failure::{Failure, Reason};

/// The answer of a method that is in the contract and not in this version.
pub(super) fn not_yet(method: &str) -> Status {
    Failure::new(
        Reason::NotImplemented,
        format!(
            "{method} is not in this version of the daemon (heddle {}); upgrade heddle when one has it",
            env!("CARGO_PKG_VERSION")
        ),
    )
    .into()
}

/// The stream of a method that is not there yet: it has no values, so none can be opened.
pub struct Pending<T> {
    never: Infallible,
    item: PhantomData<fn() -> T>,
}

impl<T> Stream for Pending<T> {
    type Item = Result<T, Status>;

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> task::Poll<Option<Self::Item>> {
        let _ = self.item;
        match self.never {}
    }
}

/// Implements a service whose methods all answer `UNIMPLEMENTED`.
macro_rules! not_yet_service {
    ($package:ident::$module:ident::$service:ident {
        $($method:ident($request:ident) -> $response:ident as $name:literal;)*
    } streams {
        $($stream:ident: $smethod:ident($srequest:ident) -> $sresponse:ident as $sname:literal;)*
    }) => {
        #[tonic::async_trait]
        impl $package::$module::$service for Arc<Services> {
            $(async fn $method(
                &self,
                _: Request<$package::$request>,
            ) -> Result<Response<$package::$response>, Status> {
                Err(not_yet($name))
            })*
            $(type $stream = Pending<$package::$sresponse>;

            async fn $smethod(
                &self,
                _: Request<$package::$srequest>,
            ) -> Result<Response<Self::$stream>, Status> {
                Err(not_yet($sname))
            })*
        }
    };
}

not_yet_service!(v1::signal_service_server::SignalService {
    compute_state_signals(ComputeStateSignalsRequest) -> ComputeStateSignalsResponse as "SignalService.ComputeStateSignals";
    get_repo_signal_health(GetRepoSignalHealthRequest) -> RepoSignalHealthReport as "SignalService.GetRepoSignalHealth";
} streams {
    SubscribeSignalUpdatesStream: subscribe_signal_updates(SubscribeSignalUpdatesRequest) -> SignalUpdate as "SignalService.SubscribeSignalUpdates";
});
