//! The channel that commands call through: where they run in a hook, it says so.

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::hook::HOOK_TOKEN;

/// A channel to the daemon.
pub(super) type Link = InterceptedService<Channel, HookToken>;

/// What the daemon gave to the hook that this process is part of, if it is.
#[derive(Debug, Clone)]
pub(super) struct HookToken(Option<MetadataValue<Ascii>>);

impl HookToken {
    pub(super) fn from_environment() -> Self {
        // What cannot be sent was not the daemon's.
        let token = std::env::var(HOOK_TOKEN).ok();
        Self(
            token
                .filter(|token| !token.is_empty())
                .and_then(|token| token.parse().ok()),
        )
    }

    pub(super) fn link(&self, channel: Channel) -> Link {
        InterceptedService::new(channel, self.clone())
    }
}

impl Interceptor for HookToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("heddle-hook-token", token.clone());
        }
        Ok(request)
    }
}
