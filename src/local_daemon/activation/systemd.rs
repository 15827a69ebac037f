//! Sockets from systemd, by the protocol of sd_listen_fds(3).

use std::os::fd::AsFd;

use listenfd::ListenFd;
use nix::sys::socket::{UnixAddr, getpeername, getsockopt, sockopt};
use std::os::fd::AsRawFd;

use super::handover::{Given, Handover, HandoverError};

/// systemd, as this process's environment shows it.
pub(super) struct Systemd;

impl Handover for Systemd {
    fn manager(&self) -> &'static str {
        "systemd"
    }

    fn remedy(&self) -> &'static str {
        "give heddle-agent@.socket one ListenStream= with an absolute path, and Accept=no"
    }

    fn take(&self) -> Result<Vec<Given>, HandoverError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let ours = std::process::id().to_string();
        if variable("LISTEN_FDS").is_some()
            && let Some(pid) = variable("LISTEN_PID").filter(|pid| *pid != ours)
        {
            return Err(HandoverError::OtherProcess { pid });
        }
        let mut sockets = ListenFd::from_env();
        (0..sockets.len())
            .map(|index| classify(&mut sockets, index))
            .collect()
    }
}

/// What is behind a descriptor; each question leaves it in place unless the answer is yes.
fn classify(sockets: &mut ListenFd, index: usize) -> Result<Given, HandoverError> {
    if let Ok(Some(listener)) = sockets.take_unix_listener(index) {
        let listens = getsockopt(&listener.as_fd(), sockopt::AcceptConn);
        if listens.unwrap_or(false) {
            return Ok(Given::Listener(listener));
        }
        let connected = getpeername::<UnixAddr>(listener.as_raw_fd()).is_ok();
        return Ok(Given::Other(if connected {
            "one accepted connection (the unit has Accept=yes)"
        } else {
            "a stream socket that does not listen"
        }));
    }
    let kind = if let Ok(Some(_)) = sockets.take_unix_datagram(index) {
        "a datagram socket"
    } else if let Ok(Some(_)) = sockets.take_tcp_listener(index) {
        "a TCP socket"
    } else if let Ok(Some(_)) = sockets.take_udp_socket(index) {
        "a UDP socket"
    } else {
        "a descriptor that is no stream or datagram socket"
    };
    Ok(Given::Other(kind))
}
