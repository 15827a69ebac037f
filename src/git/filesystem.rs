//! Which filesystem a folder lies on. A network filesystem is refused: `flock(2)` is local or
//! emulated there, and SQLite's WAL needs shared memory (sqlite.org/wal.html).

use std::path::Path;

use super::Error;

/// The kernel's name of the network filesystem that `path` lies on; `None` for a local one.
#[cfg(target_os = "linux")]
pub(super) fn network_kind(path: &Path) -> Result<Option<String>, Error> {
    use std::os::unix::fs::MetadataExt;

    let device = path
        .metadata()
        .map_err(|e| Error::io("look at", path, e))?
        .dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    // A disk's own number; without a disk, the kernel gives one of these out (makedev(3)).
    if major != 0 {
        return Ok(None);
    }
    let device = format!("{major}:{minor}");
    let table = Path::new("/proc/self/mountinfo");
    // Without /proc there is nothing to ask; the lock and SQLite are then on their own.
    let Ok(mounts) = std::fs::read_to_string(table) else {
        return Ok(None);
    };
    Ok(kind_of(&mounts, &device)
        .filter(|kind| is_network(kind))
        .map(str::to_owned))
}

/// The kernel's name of the network filesystem that `path` lies on; `None` for a local one.
#[cfg(not(target_os = "linux"))]
pub(super) fn network_kind(path: &Path) -> Result<Option<String>, Error> {
    let stat = nix::sys::statfs::statfs(path).map_err(|e| Error::io("look at", path, e.into()))?;
    let kind = stat.filesystem_type_name();
    Ok(is_network(kind).then(|| kind.to_owned()))
}

/// The filesystem type of a device in the text of proc_pid_mountinfo(5).
#[cfg(target_os = "linux")]
fn kind_of<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let found = mount.split(' ').nth(2)? == device;
        found.then(|| source.split(' ').next())?
    })
}

fn is_network(kind: &str) -> bool {
    const NETWORK: &[&str] = &[
        "9p",
        "afpfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse.ceph",
        "fuse.cephfs",
        "fuse.davfs",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "prl_fs",
        "smb3",
        "smbfs",
        "vboxsf",
        "webdav",
    ];
    NETWORK.contains(&kind)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:45 / /home/ada/remote rw,nosuid - fuse.sshfs ada@host:/srv rw,user_id=0
31 22 0:46 / /srv rw - nfs4 server:/srv rw
";

    #[test]
    fn network_mounts_are_told_from_local_ones_by_device() {
        for (device, kind, network) in [
            ("254:0", "ext4", false),
            ("0:45", "fuse.sshfs", true),
            ("0:46", "nfs4", true),
        ] {
            assert_eq!(kind_of(MOUNTS, device), Some(kind));
            assert_eq!(is_network(kind), network);
        }
        assert_eq!(kind_of(MOUNTS, "0:47"), None);
    }
}
