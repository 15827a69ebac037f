//! What a hook started and is no child of it any more: a process whose parent ends becomes a child
//! of the guard, whatever group or session it went to (PR_SET_CHILD_SUBREAPER(2const)). Elsewhere than
//! on Linux only the group is known.

#[cfg(target_os = "linux")]
pub(super) use linux::{adopt, end_all, end_marked, reap_until};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{adopt, end_all, end_marked, reap_until};

#[cfg(target_os = "linux")]
mod linux {
    use std::{fs, process::Child};

    use nix::{
        errno::Errno,
        sys::{
            prctl,
            signal::{Signal, kill},
            wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
        },
        unistd::{Pid, getpid},
    };

    /// From now on, what descends from this process is a child of it once its parent has ended.
    pub(in super::super) fn adopt() {
        // Every Linux since 3.4 does.
        let _ = prctl::set_child_subreaper(true);
    }

    /// Waits until the hook has ended, and leaves its status to be had; reaps others that end before.
    pub(in super::super) fn reap_until(hook: &Child) {
        let hook = Pid::from_raw(hook.id() as i32);
        while let Some(ended) = next() {
            if ended == hook {
                return;
            }
            let _ = waitpid(ended, None);
        }
    }

    /// Kills and reaps all that descends from this process. What may not be killed, as it is another
    /// user's by now, is left.
    pub(in super::super) fn end_all() {
        loop {
            loop {
                match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) => break,
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
            // Theirs are ours as soon as they have ended, and come in the next round.
            let own = getpid().to_string();
            if !kill_those(|pid| parent_of(pid).as_ref() == Some(&own)) {
                return;
            }
            next();
        }
    }

    /// Kills all that has this in its environment, as `NAME=value`: what is left of a hook whose guard
    /// was killed.
    pub(in super::super) fn end_marked(mark: &str) {
        let is_marked = |pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|one| one == mark.as_bytes())
        };
        // One that was killed is there, without its environment, until it is reaped.
        while kill_those(is_marked) {}
    }

    /// Kills these processes; answers whether there was any that could be killed.
    fn kill_those(is_one: impl Fn(i32) -> bool) -> bool {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let those = pids.filter(|pid| is_one(*pid) && !is_daemon(*pid));
        let killed = those.filter(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok());
        killed.count() > 0
    }

    /// The parent, as proc_pid_stat(5) says it.
    fn parent_of(pid: i32) -> Option<String> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may have anything in it.
        let stat = String::from_utf8_lossy(&stat);
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(1).map(str::to_owned)
    }

    /// Whether it is a daemon of ours: a hook that called for another repository may have started it,
    /// and others call it meanwhile. It ends by its own rules.
    fn is_daemon(pid: i32) -> bool {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip(1);
        let serves = words.next() == Some(b"agent") && words.next() == Some(b"serve");
        let executable = |of: &str| fs::read_link(format!("/proc/{of}/exe")).ok();
        serves && executable(&pid.to_string()) == executable("self")
    }

    /// Waits for the next child that ends, and leaves it to be reaped; `None` when there is no child.
    fn next() -> Option<Pid> {
        loop {
            match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Ok(status) => return status.pid(),
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::process::Child;

    pub(in super::super) fn adopt() {}
    pub(in super::super) fn reap_until(_: &Child) {}
    pub(in super::super) fn end_all() {}
    pub(in super::super) fn end_marked(_: &str) {}
}
