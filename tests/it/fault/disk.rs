//! Filesystems of a test's own, as root: one in an image file on a loop device, whose backing file
//! shows what reached the disk; one in memory, small enough to be full. Unmounted when dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::harness::{is_root, run, skip};

/// A mounted folder.
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// A filesystem in memory at this folder; `None`, and said so, where that cannot be.
    pub fn in_memory(test: &str, at: PathBuf) -> Option<Self> {
        Self::new(test, at, &["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
    }

    /// One file's place taken by another's; `None`, and said so, where that cannot be.
    pub fn of_file(test: &str, from: &Path, at: PathBuf) -> Option<Self> {
        Self::mounted(test, at, &["--bind", from.to_str().unwrap()])
    }

    fn new(test: &str, at: PathBuf, args: &[&str]) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        Self::mounted(test, at, args)
    }

    fn mounted(test: &str, at: PathBuf, args: &[&str]) -> Option<Self> {
        if !is_root() {
            skip(test, "only root may mount");
            return None;
        }
        let mounted = run(Command::new("mount").args(args).arg(&at));
        if !mounted.status.success() {
            skip(test, &format!("cannot mount here: {}", mounted.stderr));
            return None;
        }
        Some(Self { at })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // The loop device goes with it (mount(8): autoclear). A daemon that is being killed may hold
        // it for another moment; lazily, it goes with that one.
        let done = |lazy: &[&str]| {
            let ran = Command::new("umount").args(lazy).arg(&self.at).output();
            ran.is_ok_and(|output| output.status.success())
        };
        if !done(&[]) {
            done(&["--lazy"]);
        }
    }
}

/// No write-back by itself within the test: what is not synced stays in the page cache.
const OPTIONS: &str = "loop,commit=3600,errors=remount-ro";

/// An ext4 filesystem in an image file.
pub struct ImageDisk {
    // In this order: unmounted before the folder is removed.
    mount: Mount,
    image: PathBuf,
    _folder: TempDir,
}

impl ImageDisk {
    /// Makes and mounts one; `None`, and said so, where that cannot be.
    pub fn new(test: &str) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("hdl").tempdir().unwrap();
        let image = folder.path().join("image");
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&image)
            .output();
        if !made.is_ok_and(|output| output.status.success()) {
            skip(test, "there is no mkfs.ext4");
            return None;
        }
        Self::mounted(test, folder, image, OPTIONS)
    }

    fn mounted(test: &str, folder: TempDir, image: PathBuf, options: &str) -> Option<Self> {
        let args = ["-t", "ext4", "-o", options, image.to_str().unwrap()];
        let mount = Mount::new(test, folder.path().join("m"), &args)?;
        Some(Self {
            mount,
            image,
            _folder: folder,
        })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount.at
    }

    /// The disk as a power cut at this moment would leave it: a copy of the backing file, mounted.
    pub fn after_power_loss(&self, test: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("hdl").tempdir().unwrap();
        let image = folder.path().join("image");
        run(Command::new("cp")
            .arg("--sparse=always")
            .args([&self.image, &image]))
        .ok();
        Self::mounted(test, folder, image, "loop").expect("a copy mounts as its original did")
    }

    /// A power cut at this moment: what only sat in the page cache is gone. Nobody may have anything
    /// open on it.
    pub fn lose_power(&mut self) {
        let lost = self.image.with_extension("lost");
        run(Command::new("cp")
            .arg("--sparse=always")
            .args([&self.image, &lost]))
        .ok();
        let at = &self.mount.at;
        // A process that was killed may hold it for another moment.
        crate::harness::eventually("nobody holds the disk", || {
            let ran = Command::new("umount").arg(at).output().unwrap();
            ran.status.success().then_some(())
        });
        fs::rename(&lost, &self.image).unwrap();
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", OPTIONS])
            .args([&self.image, at]))
        .ok();
    }

    /// Makes the kernel find an error in it, after which it is read-only; false where it cannot.
    pub fn break_down(&self) -> bool {
        let device = run(Command::new("findmnt")
            .args(["-no", "SOURCE"])
            .arg(self.path()))
        .ok();
        let name = device.trim().trim_start_matches("/dev/");
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "test").is_ok()
    }
}

/// Fills the filesystem at `path` to the last byte.
pub fn fill(path: &Path) {
    use std::io::Write;

    let mut file = fs::File::create(path.join("fill")).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    // Where room is given out late, what was written is known to have it only then.
    let _ = file.sync_all();
}

/// Gives the room back.
pub fn free(path: &Path) {
    fs::remove_file(path.join("fill")).unwrap();
}

/// A filesystem in memory.
pub struct MemoryDisk {
    mount: Mount,
    _folder: TempDir,
}

impl MemoryDisk {
    /// Mounts one of this size; `None`, and said so, where that cannot be.
    pub fn new(test: &str, size: &str) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("hdl").tempdir().unwrap();
        let options = format!("size={size},mode=0700");
        let args = ["-t", "tmpfs", "-o", &options, "tmpfs"];
        let mount = Mount::new(test, folder.path().join("m"), &args)?;
        Some(Self {
            mount,
            _folder: folder,
        })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount.at
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        fill(self.path());
    }

    /// Gives the room back.
    pub fn free(&self) {
        free(self.path());
    }

    /// Mounts it anew, with `ro` or `rw`.
    pub fn remount(&self, how: &str) {
        let how = format!("remount,{how}");
        run(Command::new("mount").args(["-o", &how]).arg(self.path())).ok();
    }
}
