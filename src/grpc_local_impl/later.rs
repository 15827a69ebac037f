//! Methods of the contract that a later version fills in. Each says so; none pretends.

use std::{convert::Infallible, marker::PhantomData, pin::Pin, task};

use futures_util::Stream;
use tonic::Status;

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
