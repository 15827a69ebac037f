//! What a service manager hands over, and what of it a daemon can serve: one listening Unix stream
//! socket, and nothing else.

use std::os::unix::net::UnixListener;

/// A service manager that may have a socket for us.
pub(super) trait Handover {
    /// Its name.
    fn manager(&self) -> &'static str;

    /// How its unit must be, for who has to mend it.
    fn remedy(&self) -> &'static str;

    /// Takes what it has for us; nothing where it does not manage us.
    fn take(&self) -> Result<Vec<Given>, HandoverError>;
}

/// One thing that was handed over.
pub(super) enum Given {
    /// A listening Unix stream socket.
    Listener(UnixListener),
    /// Anything else, in words.
    Other(&'static str),
}

/// Why nothing could be taken.
pub(super) enum HandoverError {
    /// `LISTEN_PID` names another process.
    OtherProcess { pid: String },
    /// The manager refused.
    #[cfg_attr(not(target_os = "macos"), allow(dead_code))]
    Refused(String),
}

/// What was handed over cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("{manager} {what}; {remedy}")]
pub struct ActivationError {
    manager: &'static str,
    what: String,
    remedy: String,
}

/// The one socket that `from` hands over; `None` when it has none for us.
pub(super) fn inherit(from: &dyn Handover) -> Result<Option<UnixListener>, ActivationError> {
    let fail = |what: String| ActivationError {
        manager: from.manager(),
        what,
        remedy: from.remedy().to_owned(),
    };
    let mut given = from.take().map_err(|error| match error {
        HandoverError::OtherProcess { pid } => ActivationError {
            remedy: "start heddle by ExecStart= itself and not through another program, or unset LISTEN_FDS and LISTEN_PID".to_owned(),
            ..fail(format!("meant its sockets for process {pid}, and this is process {}", std::process::id()))
        },
        HandoverError::Refused(why) => fail(format!("gave no socket: {why}")),
    })?;
    match (given.pop(), given.len()) {
        (None, _) => Ok(None),
        (Some(Given::Listener(listener)), 0) => Ok(Some(listener)),
        (Some(Given::Other(kind)), 0) => Err(fail(format!(
            "handed over {kind}, and heddle serves one listening Unix stream socket"
        ))),
        (Some(_), others) => Err(fail(format!(
            "handed over {} sockets, and heddle serves one listening Unix stream socket",
            others + 1
        ))),
    }
}
