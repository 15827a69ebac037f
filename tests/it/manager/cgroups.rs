//! The user manager's place in the control groups (cgroups(7)).

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The cgroup hierarchies that systemd looks at.
pub fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let named = ["systemd", "unified"].iter().map(|name| root.join(name));
    named.filter(|path| path.exists()).collect()
}

/// A folder of the user's in each of them; noted in `made` as soon as it is there.
pub(super) fn make(ids: (u32, u32), made: &mut Vec<PathBuf>) -> Result<(), String> {
    let hierarchies = hierarchies();
    if hierarchies.is_empty() {
        return Err("no cgroup hierarchy that systemd could use".to_owned());
    }
    for hierarchy in hierarchies {
        // By this name the journal knows a user manager's units (_SYSTEMD_USER_UNIT).
        let ours = hierarchy.join(format!("user@{}.service", ids.0));
        fs::create_dir(&ours).map_err(|e| format!("no cgroup can be made: {e}"))?;
        made.push(ours.clone());
        std::os::unix::fs::chown(&ours, Some(ids.0), Some(ids.1)).map_err(|e| e.to_string())?;
        for file in [
            "cgroup.procs",
            "cgroup.threads",
            "cgroup.subtree_control",
            "tasks",
        ] {
            let _ = std::os::unix::fs::chown(ours.join(file), Some(ids.0), Some(ids.1));
        }
    }
    Ok(())
}

/// Ends what is left in a cgroup of ours and removes it, the deepest first.
pub(super) fn remove(group: &Path) {
    let end = Instant::now() + Duration::from_secs(10);
    while group.exists() && Instant::now() < end {
        let mut folders = vec![group.to_owned()];
        let mut next = 0;
        while next < folders.len() {
            let children = fs::read_dir(&folders[next]).into_iter().flatten().flatten();
            let below: Vec<PathBuf> = children.map(|e| e.path()).filter(|p| p.is_dir()).collect();
            folders.extend(below);
            next += 1;
        }
        for folder in folders.iter().rev() {
            let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in members.lines().filter_map(|line| line.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = fs::remove_dir(folder);
        }
        thread::sleep(Duration::from_millis(10));
    }
}
