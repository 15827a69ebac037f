//! The patches of one page of a comparison. Git is asked about the page's paths alone, among which it
//! would pair other files than among all: so nothing is paired that was not renamed, and what was
//! must come out as the same pair.

use std::{
    collections::HashMap,
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use gix::bstr::{BString, ByteSlice};

use super::{
    Error,
    patch::{
        Compare, FileChange, FileChangeKind, cannot_run, not_understood, parse_raw, telling_apart,
        to_os,
    },
};

/// Bytes of paths that one command line is given at most: the system has room for twice as many.
const PATH_BYTES: usize = 512 * 1024;
/// Bytes of a path that a command line has room for.
const LONGEST_PATH: usize = 64 * 1024;

/// Adds the patches; the page ends where they would be too much.
pub(super) fn add_patches(
    git_dir: &Path,
    asked: &Compare<'_>,
    changes: &mut Vec<FileChange>,
) -> Result<(), Error> {
    changes.truncate(that_fit(changes));
    let can_be_asked = |change: &&FileChange| bytes_of_paths(change) < LONGEST_PATH;
    let (renamed, others): (Vec<_>, Vec<_>) = changes
        .iter()
        .filter(can_be_asked)
        .partition(|change| change.old_path.is_some());
    let page = Page { git_dir, asked };
    let mut patches = page.of(&others)?;
    patches.extend(page.of_renamed(&renamed)?);
    let mut left = asked.patch_bytes;
    for (at, change) in changes.iter_mut().enumerate() {
        let patch = patches.remove(&key(change));
        match patch.filter(|patch| patch.len() <= left) {
            Some(patch) => {
                left -= patch.len();
                change.patch = Some(patch);
            }
            None => {
                // The first is told without its patch: it alone is too much.
                change.patch_left_out = at == 0;
                changes.truncate(at.max(1));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// How many of the changes, one at least, have paths that one command line can name.
fn that_fit(changes: &[FileChange]) -> usize {
    let mut bytes = 0;
    let fits = |change: &&FileChange| {
        bytes += bytes_of_paths(change);
        bytes < PATH_BYTES
    };
    changes.iter().take_while(fits).count().max(1)
}

fn bytes_of_paths(change: &FileChange) -> usize {
    change.path.len() + change.old_path.as_ref().map_or(0, |path| path.len())
}

/// By what a change is known: where it was before, if elsewhere, and where it is.
type Key = (Option<BString>, BString);

fn key(change: &FileChange) -> Key {
    (change.old_path.clone(), change.path.clone())
}

/// Patches of single files.
type Patches = HashMap<Key, Vec<u8>>;

struct Page<'a> {
    git_dir: &'a Path,
    asked: &'a Compare<'a>,
}

impl Page<'_> {
    fn of(&self, changes: &[&FileChange]) -> Result<Patches, Error> {
        Ok(self.read("--no-renames", changes)?.0)
    }

    /// Should Git pair some of them otherwise than among all, it is asked about each pair.
    fn of_renamed(&self, changes: &[&FileChange]) -> Result<Patches, Error> {
        let (mut patches, whole) = self.read("-M", changes)?;
        if whole && changes.len() > 1 {
            for change in changes {
                if !patches.contains_key(&key(change)) {
                    patches.extend(self.read("-M", &[change])?.0);
                }
            }
        }
        Ok(patches)
    }

    /// Patches up to the limit, and whether those are all.
    fn read(&self, renames: &str, changes: &[&FileChange]) -> Result<(Patches, bool), Error> {
        if changes.is_empty() {
            return Ok((Patches::new(), true));
        }
        let mut git = telling_apart(self.git_dir, self.asked);
        git.args([renames, "--raw", "-p", "-z", "--"]);
        for change in changes {
            git.args(change.old_path.iter().map(|path| to_os(path.as_bstr())));
            git.arg(to_os(change.path.as_bstr()));
        }
        let raw: usize = changes
            .iter()
            .map(|change| bytes_of_paths(change) + 256)
            .sum();
        let limit = self.asked.patch_bytes + raw;
        let said = read_at_most(git, limit + 1)?;
        let whole = said.len() <= limit;
        let (told, text) = match parse_raw(&said) {
            Some(parsed) => parsed,
            None if whole => return Err(not_understood()),
            None => return Ok((Patches::new(), false)),
        };
        let mut sections = sections(text.strip_prefix(b"\0").unwrap_or(text), whole);
        let mut patches = Patches::new();
        for change in told {
            // A change of type is one that goes and one that comes.
            let is_two = change.kind == FileChangeKind::TypeChanged;
            let parts = if is_two { 2 } else { 1 };
            let patch: Vec<&[u8]> = sections.by_ref().take(parts).collect();
            if patch.len() < parts {
                break;
            }
            patches.insert(key(&change), patch.concat());
        }
        Ok((patches, whole))
    }
}

/// The patches of single files; the last one only if the text is `whole`. In a patch, each line of
/// content begins with another character.
fn sections(text: &[u8], whole: bool) -> impl Iterator<Item = &[u8]> {
    const HEADER: &[u8] = b"diff --git ";
    let mut starts: Vec<usize> = text.starts_with(HEADER).then_some(0).into_iter().collect();
    let after_line = text.find_iter(b"\ndiff --git ").map(|at| at + 1);
    starts.extend(after_line);
    let ends = starts.iter().skip(1).copied();
    let ends: Vec<usize> = ends.chain(whole.then_some(text.len())).collect();
    starts
        .into_iter()
        .zip(ends)
        .map(|(start, end)| &text[start..end])
}

/// What a command prints, up to so many bytes.
fn read_at_most(mut command: Command, bytes: usize) -> Result<Vec<u8>, Error> {
    let mut child = command.stderr(Stdio::null()).spawn().map_err(cannot_run)?;
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(bytes as u64).read_to_end(&mut text);
        read.map_err(cannot_run)?;
    }
    // The pipe is closed: if it has more to say, it ends now.
    let status = child.wait().map_err(cannot_run)?;
    if !status.success() && text.len() < bytes {
        return Err(Error::Git(format!("git diff-tree failed: {status}")));
    }
    Ok(text)
}
