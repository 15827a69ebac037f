//! A difference as a patch, line by line as Git writes it: byte for byte and however large, which no
//! answer of the daemon can be.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{ChildStdout, Command, Stdio},
};

use super::{Error, Repository, worktrees::git_command};

/// Which patch is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Patch<'a> {
    /// The older tree, in hex.
    pub from: &'a str,
    /// The newer tree, in hex.
    pub to: &'a str,
    /// Files and folders to look at, from the root; none means everything.
    pub paths: &'a [String],
    /// Whether binary files are to be in it as well, as `git apply` needs it.
    pub binary: bool,
}

impl Repository {
    /// Hands each line of a patch to `take`, with its end. Blocks.
    ///
    /// # Errors
    /// What Git says, and what `take` answers.
    pub fn patch<E: From<Error>>(
        &self,
        wanted: Patch<'_>,
        take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut git = diff_tree(self.git_dir(), self.worktree());
        git.args(["-M", "-p"]);
        git.args(wanted.binary.then_some("--binary"));
        git.args([wanted.from, wanted.to, "--"]).args(wanted.paths);
        let mut git = git.spawn().map_err(cannot_run)?;
        if let Some(stdout) = git.stdout.take() {
            // Closing the pipe ends Git, should it have more to say than anybody wants to hear.
            each_line(stdout, take)?;
        }
        let mut said = String::new();
        if let Some(mut stderr) = git.stderr.take() {
            stderr.read_to_string(&mut said).map_err(cannot_run)?;
        }
        let status = git.wait().map_err(cannot_run)?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Git(format!("git diff-tree failed: {}", said.trim())).into())
    }
}

/// Git, about to tell trees apart by the attributes of a worktree. It runs no program that these name
/// (gitattributes(5), textconv and command): a patch is to say what the files have, and a repository's
/// configuration is for its user's own runs of Git.
pub(super) fn diff_tree(git_dir: &Path, worktree: Option<&Path>) -> Command {
    let options = ["-r", "--no-ext-diff", "--no-textconv", "--full-index"];
    let mut git = git_command(git_dir, ["diff-tree"]);
    git.args(options);
    // Where attributes are read, and paths begin.
    git.current_dir(worktree.unwrap_or(git_dir));
    if let Some(worktree) = worktree {
        git.env("GIT_WORK_TREE", worktree);
    }
    // A path is meant as it is, whatever stars and brackets it has.
    git.env("GIT_LITERAL_PATHSPECS", "1");
    git.stdout(Stdio::piped()).stderr(Stdio::piped());
    git
}

fn each_line<E: From<Error>>(
    stdout: ChildStdout,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut stdout = BufReader::with_capacity(64 * 1024, stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        if stdout.read_until(b'\n', &mut line).map_err(cannot_run)? == 0 {
            return Ok(());
        }
        take(&line)?;
    }
}

fn cannot_run(source: std::io::Error) -> Error {
    Error::io("run", Path::new("git diff-tree"), source)
}
