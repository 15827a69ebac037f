//! Whether the process at the other end of a connection is more confined than we are. Whoever is
//! must not have us run commands for it: that would be its way out (G5).

use std::os::fd::AsFd;

use crate::failure::{Failure, Reason};

/// The process that opened a connection, known for certain as long as it lives.
#[derive(Debug)]
pub struct PeerProcess {
    #[cfg(target_os = "linux")]
    known: Result<linux::Known, String>,
}

impl PeerProcess {
    /// The process at the other end of `stream`, which the kernel says has this pid.
    pub fn of(stream: &impl AsFd, pid: Option<i32>) -> Self {
        #[cfg(target_os = "linux")]
        return Self {
            known: linux::Known::of(stream, pid),
        };
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (stream, pid);
            Self {}
        }
    }

    /// Accepts a process that may do all that we may: in our namespaces, under our root, with no
    /// filter that we lack and every capability that we have. Blocks for some reads of /proc.
    ///
    /// What this cannot see is a helper outside that does what a confined process asks of it, and
    /// rules of security modules that come without `no_new_privs`.
    ///
    /// # Errors
    /// `HOOK_FROM_SANDBOX`, with what is different, or why it cannot be told.
    pub fn check_unconfined(&self) -> Result<(), Failure> {
        #[cfg(target_os = "linux")]
        let difference = match &self.known {
            Ok(known) => known.difference(),
            Err(why) => Some(format!("it cannot be told how it is confined: {why}")),
        };
        #[cfg(not(target_os = "linux"))]
        let difference = Some("this system does not tell how a process is confined".to_owned());
        difference.map_or(Ok(()), |difference| Err(refused(&difference)))
    }
}

fn refused(difference: &str) -> Failure {
    Failure::new(
        Reason::HookFromSandbox,
        format!(
            "the caller may not register a command: it is more confined than the daemon that would run it ({difference}); register it from outside the sandbox, or listen with SubscribeHookEvents (`heddle hook listen`) from inside"
        ),
    )
    .with("confinement", difference)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs,
        os::{
            fd::{AsFd, OwnedFd},
            unix::fs::MetadataExt,
        },
        path::{Path, PathBuf},
    };

    use nix::{
        poll::{PollFd, PollFlags, PollTimeout, poll},
        sys::socket::{getsockopt, sockopt::PeerPidfd},
    };

    /// Namespaces that keep a process from something (namespaces(7)); those of host names and clocks
    /// do not.
    const NAMESPACES: [(&str, &str); 6] = [
        ("user", "user"),
        ("mnt", "mount"),
        ("pid", "pid"),
        ("net", "network"),
        ("ipc", "ipc"),
        ("cgroup", "cgroup"),
    ];

    /// Capabilities that may be used, and that may come with an executable (capabilities(7)).
    const CAPABILITIES: [&str; 3] = ["CapEff", "CapPrm", "CapBnd"];

    /// A process by its number, and what tells whether the number is still its own.
    #[derive(Debug)]
    pub(super) struct Known {
        pid: i32,
        pidfd: OwnedFd,
    }

    impl Known {
        pub(super) fn of(stream: &impl AsFd, pid: Option<i32>) -> Result<Self, String> {
            let pid = pid.filter(|pid| *pid > 0).ok_or(
                "it is in a pid namespace that the daemon does not see, or the kernel does not name it",
            )?;
            // Of the very process that connected; kernels before 6.5 tell only its number.
            let pidfd = match getsockopt(stream, PeerPidfd) {
                Ok(pidfd) => pidfd,
                Err(_) => open(pid).map_err(|error| format!("it is gone ({error})"))?,
            };
            Ok(Self { pid, pidfd })
        }

        /// How it is more confined than we are; `None` when it is not.
        pub(super) fn difference(&self) -> Option<String> {
            let found = compare(Path::new("/proc/self"), &self.folder());
            // As long as it lives, its number is nobody else's, and was not while we looked.
            match found {
                _ if !self.lives() => Some("it has ended".to_owned()),
                Ok(difference) => difference,
                Err(error) => Some(format!("it cannot be told how it is confined: {error}")),
            }
        }

        fn folder(&self) -> PathBuf {
            Path::new("/proc").join(self.pid.to_string())
        }

        /// A pidfd becomes readable when its process ends (pidfd_open(2)).
        fn lives(&self) -> bool {
            let mut waiting = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            poll(&mut waiting, PollTimeout::ZERO) == Ok(0)
        }
    }

    fn open(pid: i32) -> Result<OwnedFd, rustix::io::Errno> {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};

        let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
        pidfd_open(pid, PidfdFlags::empty())
    }

    fn compare(ours: &Path, theirs: &Path) -> Result<Option<String>, String> {
        for (name, called) in NAMESPACES {
            let namespace = |of: &Path| {
                let link = of.join("ns").join(name);
                // A kernel built without a namespace has no link for it, for anybody.
                match fs::read_link(&link) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound && of == ours => Ok(None),
                    other => other
                        .map(Some)
                        .map_err(|e| format!("{}: {e}", link.display())),
                }
            };
            let Some(our_own) = namespace(ours)? else {
                continue;
            };
            if namespace(theirs)? != Some(our_own) {
                return Ok(Some(format!("it is in another {called} namespace")));
            }
        }
        let root = |of: &Path| {
            let root = of.join("root");
            let found = fs::metadata(&root).map_err(|e| format!("{}: {e}", root.display()))?;
            Ok::<_, String>((found.dev(), found.ino()))
        };
        if root(ours)? != root(theirs)? {
            return Ok(Some("it has another root folder".to_owned()));
        }
        let read = |of: &Path| {
            let status = of.join("status");
            fs::read_to_string(&status).map_err(|e| format!("{}: {e}", status.display()))
        };
        Ok(compare_status(&read(ours)?, &read(theirs)?))
    }

    /// Compares what proc_pid_status(5) says of two processes.
    fn compare_status(ours: &str, theirs: &str) -> Option<String> {
        let number = |status: &str, name: &str, radix| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line?.strip_prefix(':')?.trim();
            u64::from_str_radix(value, radix).ok()
        };
        let more = |name| {
            let of = |status| number(status, name, 10);
            // What a kernel does not tell of anybody confines nobody.
            of(theirs).unwrap_or(u64::MAX) > of(ours).unwrap_or(u64::MAX)
        };
        if more("NoNewPrivs") {
            return Some("it has no_new_privs set".to_owned());
        }
        if more("Seccomp") || more("Seccomp_filters") {
            return Some("it has a seccomp filter".to_owned());
        }
        let lacks = |name: &&&str| {
            let of = |status| number(status, name, 16).unwrap_or(0);
            of(ours) & !of(theirs) != 0
        };
        let lacking = CAPABILITIES.iter().find(lacks);
        lacking.map(|set| format!("it lacks capabilities that the daemon has, in {set}"))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const OURS: &str = "\
NoNewPrivs:\t0
Seccomp:\t2
Seccomp_filters:\t1
CapEff:\t0000000000000003
CapPrm:\t0000000000000003
CapBnd:\t000000000000000f
";

        #[test]
        fn a_peer_may_be_as_confined_as_we_are_and_not_more() {
            assert_eq!(compare_status(OURS, OURS), None);
            let freer = OURS
                .replace("f\n", "ff\n")
                .replace("Seccomp:\t2", "Seccomp:\t0");
            assert_eq!(compare_status(OURS, &freer), None);
            for (from, to, told) in [
                ("NoNewPrivs:\t0", "NoNewPrivs:\t1", "no_new_privs"),
                ("filters:\t1", "filters:\t2", "seccomp"),
                (
                    "CapEff:\t0000000000000003",
                    "CapEff:\t0000000000000001",
                    "CapEff",
                ),
                (
                    "CapBnd:\t000000000000000f",
                    "CapBnd:\t0000000000000007",
                    "CapBnd",
                ),
                ("Seccomp_filters:\t1\n", "", "seccomp"),
            ] {
                let confined = OURS.replace(from, to);
                let difference = compare_status(OURS, &confined).unwrap();
                assert!(difference.contains(told), "{difference}");
            }
        }
    }
}
