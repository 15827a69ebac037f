//! What a test adds to a user's units, and takes away again; among it, faults of their daemons.

use std::{fs, os::unix::fs::chown, path::PathBuf, process::Command};

use crate::{
    fault::Fault,
    harness::run,
    manager::{UserManager, UserRepo},
};

/// A drop-in of the test's, removed when dropped.
pub struct DropIn {
    folder: PathBuf,
}

impl DropIn {
    /// Adds lines to a unit, beside what `install` wrote. systemd reads them when it is told to
    /// reload.
    pub fn new(manager: &UserManager, unit: &str, lines: &str) -> Self {
        let folder = manager
            .runtime()
            .join("systemd/user.control")
            .join(format!("{unit}.d"));
        run(manager.command("mkdir").arg("-p").arg(&folder)).ok();
        fs::write(folder.join("60-test.conf"), lines).unwrap();
        Self { folder }
    }
}

impl Drop for DropIn {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Control over the calls of a user's daemon, and the line of its unit that brings it there.
pub fn fault(manager: &UserManager, test: &str, repo: &UserRepo) -> Option<(Fault, String)> {
    let folder = repo.root().with_extension("fault");
    repo.run("mkdir", &["-p", folder.to_str().unwrap()]).ok();
    let fault = Fault::beside(test, &folder, repo.root())?;
    let [library, control, under] = fault.parts();
    // Where the test user may read it.
    let copy = folder.join("fault.so");
    run(Command::new("cp").arg(library).arg(&copy)).ok();
    let (uid, gid) = manager.ids();
    chown(control, Some(uid), Some(gid)).unwrap();
    let line = format!(
        "Environment=LD_PRELOAD={} HEDDLE_FAULT={} HEDDLE_FAULT_UNDER={}",
        copy.display(),
        control.display(),
        under.display()
    );
    Some((fault, line))
}
