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
}

impl Surroundings {
    pub(super) fn from_environment() -> Self {
        // What cannot be sent was not the daemon's.
        let given = |name| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty());
            text.and_then(|text| text.parse().ok())
        };
        Self {
            hook_token: given(HOOK_TOKEN),
        }
    }

    pub(super) fn link(&self, channel: Channel) -> Link {
        InterceptedService::new(channel, self.clone())
    }
}

impl Interceptor for Surroundings {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.hook_token {
            let metadata = request.metadata_mut();
            metadata.insert("heddle-hook-token", token.clone());
        }
        Ok(request)
    }
}
