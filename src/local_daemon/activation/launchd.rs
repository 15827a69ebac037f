//! Sockets from launchd, by launch_activate_socket(3). Compiled for macOS only, and nothing but the
//! call itself: what is done with the sockets is tested elsewhere.

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use super::handover::{Given, Handover, HandoverError};

/// The key of the socket in the property list.
const KEY: &str = "Listeners";

/// launchd, which this process may or may not be managed by.
pub(super) struct Launchd;

impl Handover for Launchd {
    fn manager(&self) -> &'static str {
        "launchd"
    }

    fn remedy(&self) -> &'static str {
        "give the property list one SockPathName under Sockets/Listeners"
    }

    // The one place where a number becomes a descriptor that we own.
    #[allow(unsafe_code)]
    fn take(&self) -> Result<Vec<Given>, HandoverError> {
        match raunch::activate_socket(KEY) {
            Ok(numbers) => Ok(numbers
                .into_iter()
                .map(|number| {
                    // SAFETY: launchd hands each descriptor to this process once, open and unowned.
                    let socket = unsafe { OwnedFd::from_raw_fd(number) };
                    Given::Listener(UnixListener::from(socket))
                })
                .collect()),
            Err(raunch::Error::NotManaged | raunch::Error::NotInPlist) => Ok(Vec::new()),
            Err(error) => Err(HandoverError::Refused(error.to_string())),
        }
    }
}
