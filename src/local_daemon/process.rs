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

/// Whether the process has ended, reaped by its parent or not.
pub fn has_ended(pid: i32) -> bool {
    // proc_pid_stat(5): the state stands behind the name, which may itself have parentheses.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    state.unwrap_or(false) || !pid_alive(pid)
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
#[cfg(target_os = "linux")]
pub fn lock_holder(path: &Path) -> Option<i32> {
    use std::os::unix::fs::MetadataExt;

    let found = path.metadata().ok()?;
    let (device, inode) = (found.dev(), found.ino());
    let device = format!(
        "{:02x}:{:02x}",
        nix::sys::stat::major(device),
        nix::sys::stat::minor(device)
    );
    let look = || {
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let holders = holders_of(&locks, &inode.to_string());
        // Btrfs gives stat(2) another device than the kernel's list of locks, and an inode alone may
        // be another filesystem's: then it must be the process that has this very file open.
        let exact = holders.iter().find(|(found, _)| *found == device);
        let opened = || holders.iter().find(|(_, pid)| has_open(*pid, path));
        exact.or_else(opened).map(|(_, pid)| *pid)
    };
    // The list is read in pieces: while others take and leave locks, a line of it can be missed.
    (0..3).find_map(|_| look())
}

/// Whether a process of ours has a file open (proc_pid_fd(5)).
#[cfg(target_os = "linux")]
fn has_open(pid: i32, path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
    open.into_iter()
        .flatten()
        .flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
}

/// Nothing tells of locks here.
#[cfg(not(target_os = "linux"))]
pub fn lock_holder(_: &Path) -> Option<i32> {
    None
}

/// Device and process of each `flock(2)` on an inode, in the text of proc_locks(5).
#[cfg(target_os = "linux")]
fn holders_of<'a>(locks: &'a str, inode: &str) -> Vec<(&'a str, i32)> {
    let holder = |line: &'a str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // A waiter's line has an arrow in the second place and is not a holder's.
        let [_, "FLOCK", _, _, pid, place, ..] = fields.as_slice() else {
            return None;
        };
        let (device, found) = place.rsplit_once(':')?;
        (found == inode).then_some((device, pid.parse().ok()?))
    };
    locks.lines().filter_map(holder).collect()
}

#[cfg(all(test, target_os = "linux"))]
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
        assert_eq!(holders_of(locks, "42"), [("fe:00", 14)]);
        assert_eq!(holders_of(locks, "43"), [("fe:00", 12)]);
        assert_eq!(holders_of(locks, "44"), []);
    }

    #[test]
    fn a_process_is_known_by_the_very_file_that_it_has_open() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let pid = std::process::id() as i32;
        assert!(has_open(pid, file.path()));
        assert!(!has_open(pid, &other));
    }

    #[test]
    fn no_process_group_is_taken_for_a_process() {
        assert!(pid_alive(std::process::id() as i32));
        assert!(!pid_alive(0));
        assert!(!pid_alive(-1));
    }
}
