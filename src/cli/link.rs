//! The channel that commands call through: where they run in a hook, or in a transaction, it says so.

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::hook::HOOK_TOKEN;

/// A channel to the daemon.
pub(super) type Link = InterceptedService<Channel, Surroundings>;

/// What this process was given by whoever runs it.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// Of the hook that it is part of.
    hook_token: Option<MetadataValue<Ascii>>,
    /// The transaction that its changes join.
    transaction: Option<MetadataValue<Ascii>>,
}

/// Names the transaction that changes join: `heddle txn run` gives it to its command.
pub(super) const TRANSACTION_ID: &str = "HEDDLE_TRANSACTION_ID";

impl Surroundings {
    pub(super) fn from_environment() -> Self {
        // What cannot be sent was not the daemon's.
        let given = |name| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty());
            text.and_then(|text| text.parse().ok())
        };
        Self {
            hook_token: given(HOOK_TOKEN),
            transaction: given(TRANSACTION_ID),
        }
    }

    pub(super) fn link(&self, channel: Channel) -> Link {
        InterceptedService::new(channel, self.clone())
    }
}

/// The metadata that names the transaction of a call; empty for none.
const JOINED: &str = "heddle-transaction-id";

/// A call that is part of this transaction, whatever is around this process; empty for none.
pub(super) fn within<T>(transaction: &MetadataValue<Ascii>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(JOINED, transaction.clone());
    request
}

impl Interceptor for Surroundings {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.hook_token {
            let metadata = request.metadata_mut();
            metadata.insert("heddle-hook-token", token.clone());
        }
        let metadata = request.metadata_mut();
        if let Some(transaction) = &self.transaction
            && !metadata.contains_key(JOINED)
        {
            metadata.insert(JOINED, transaction.clone());
        }
        Ok(request)
    }
}
