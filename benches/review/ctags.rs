//! Universal Ctags over the same files. It tells the definitions, and neither what calls them nor
//! whether their text is another.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use crate::{
    Result,
    shared::{samples::micros, worktree::Worktree},
};

/// Runs over all files of a worktree, with one thread, as it has no more.
pub struct Ctags<'a> {
    worktree: &'a Worktree,
    list: PathBuf,
}

impl<'a> Ctags<'a> {
    /// Writes down which files; `None`, and says so, where it is not installed.
    pub fn find(worktree: &'a Worktree) -> Result<Option<Self>> {
        let version = Command::new("ctags").arg("--version").output();
        if !version.is_ok_and(|said| said.stdout.starts_with(b"Universal Ctags")) {
            eprintln!("  skipped: ctags: install universal-ctags to compare with it");
            return Ok(None);
        }
        let list = worktree.repo.root().join("home/files");
        fs::write(&list, worktree.paths().collect::<Vec<_>>().join("\n"))?;
        Ok(Some(Self { worktree, list }))
    }

    /// Microseconds for a file of tags.
    pub fn run(&self) -> Result<f64> {
        let mut ctags = self.worktree.repo.command("ctags");
        ctags
            .args(["--map-TypeScript=+.tsx", "-f", "home/tags", "-L"])
            .arg(&self.list)
            .stdout(Stdio::null());
        let began = Instant::now();
        if !ctags.status()?.success() {
            return Err("ctags failed".into());
        }
        Ok(micros(began.elapsed()))
    }
}
