//! Other processes: whether one lives, whether it is a daemon of ours, and which one holds a lock.
//! None of this decides who serves; the lock does (G1).

use std::path::Path;

use nix::{errno::Errno, sys::signal, unistd::Pid};

/// Whether a process of this id exists, ours or not (kill(2) with signal 0).
pub fn pid_alive(pid: i32) -> bool {
    // 0 and negative numbers name process groups, not processes.
    pid > 0
        && matches!(
            signal::kill(Pid::from_raw(pid), None),
            Ok(()) | Err(Errno::EPERM)
        )
}

/// Whether the process is a heddle daemon of this user: by its executable's name, also when that
/// was renamed or replaced on disk since (an upgrade), or by being the executable that we are.
#[cfg(target_os = "linux")]
pub fn is_heddle_process(pid: i32) -> bool {
    use std::os::unix::fs::MetadataExt;

    let proc = Path::new("/proc").join(pid.to_string());
    let ours = proc
        .metadata()
        .is_ok_and(|found| found.uid() == nix::unistd::Uid::effective().as_raw());
    if pid <= 0 || !ours {
        return false;
    }
    let exe = proc.join("exe");
    let named = |path: &Path| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.trim_end_matches(" (deleted)").starts_with("heddle"))
    };
    // proc_pid_exe(5): the link of a replaced executable ends in " (deleted)".
    let by_name = std::fs::read_link(&exe).is_ok_and(|path| named(&path));
    let identity = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    by_name || identity(&exe).is_some_and(|id| identity(Path::new("/proc/self/exe")) == Some(id))
}

/// Whether the process is a heddle daemon. Without /proc, only that it lives can be told.
#[cfg(not(target_os = "linux"))]
pub fn is_heddle_process(pid: i32) -> bool {
    pid_alive(pid)
}

/// The process that holds the `flock(2)` on a file, as the kernel says (proc_locks(5)); `None`
/// where nobody does or the kernel does not say.
pub fn lock_holder(path: &Path) -> Option<i32> {
    use std::os::unix::fs::MetadataExt;

    let found = path.metadata().ok()?;
    let device = found.dev();
    let file = format!(
        "{:02x}:{:02x}:{}",
        nix::sys::stat::major(device),
        nix::sys::stat::minor(device),
        found.ino()
    );
    holder_in(&std::fs::read_to_string("/proc/locks").ok()?, &file)
}

/// Finds the holder of `file` (`major:minor:inode`) in the text of proc_locks(5).
fn holder_in(locks: &str, file: &str) -> Option<i32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // A waiter's line has an arrow in the second place and is not a holder's.
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, place, ..] if *place == file => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_of_the_very_file_is_found() {
        let locks = "\
1: POSIX  ADVISORY  WRITE 11 fe:00:42 0 EOF
2: FLOCK  ADVISORY  WRITE 12 fe:00:43 0 EOF
2: -> FLOCK  ADVISORY  WRITE 13 fe:00:43 0 EOF
3: FLOCK  ADVISORY  WRITE 14 fe:00:42 0 EOF
";
        assert_eq!(holder_in(locks, "fe:00:42"), Some(14));
        assert_eq!(holder_in(locks, "fe:00:43"), Some(12));
        assert_eq!(holder_in(locks, "fe:00:44"), None);
    }

    #[test]
    fn no_process_group_is_taken_for_a_process() {
        assert!(pid_alive(std::process::id() as i32));
        assert!(!pid_alive(0));
        assert!(!pid_alive(-1));
    }
}
