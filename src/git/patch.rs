//! How two trees differ, for people: with renames, counts of lines and patches. Git makes them
//! (git-diff-tree(1)); they are read page by page, so that no difference is too large.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path, process::Command};

use gix::bstr::{BStr, BString, ByteSlice};

use super::{
    Change, Error, GitDir, ObjectId, RepoPath, patch_page::add_patches, patches::diff_tree,
};
use crate::{child::output_by, deadline::Deadline};

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChangeKind {
    /// It is new.
    Added,
    /// Its content or its mode changed.
    Modified,
    /// It is gone.
    Deleted,
    /// It has another path.
    Renamed,
    /// It is of another type, such as a link.
    TypeChanged,
}

/// A change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Path from the root.
    pub path: BString,
    /// What happened.
    pub kind: FileChangeKind,
    /// Where it was before, if elsewhere.
    pub old_path: Option<BString>,
    /// Mode before; 0 when it is new.
    pub old_mode: u32,
    /// Mode now; 0 when it is gone.
    pub new_mode: u32,
    /// Lines added and removed; `None` where they were not counted, or it is binary.
    pub lines: Option<(u32, u32)>,
    /// Whether Git takes it for binary.
    pub binary: bool,
    /// The change in Git's patch format, if it was asked for and is not too large.
    pub patch: Option<Vec<u8>>,
    /// Whether it was asked for and is too large.
    pub patch_left_out: bool,
}

impl From<&Change> for FileChange {
    fn from(change: &Change) -> Self {
        let mode = |entry: Option<super::Entry>| entry.map_or(0, |entry| entry.mode.bits());
        let (old_mode, new_mode) = (mode(change.before), mode(change.after));
        const TYPE: u32 = 0o170_000;
        let kind = match (old_mode, new_mode) {
            (0, _) => FileChangeKind::Added,
            (_, 0) => FileChangeKind::Deleted,
            (old, new) if old & TYPE != new & TYPE => FileChangeKind::TypeChanged,
            _ => FileChangeKind::Modified,
        };
        Self {
            path: change.path.clone(),
            kind,
            old_path: None,
            old_mode,
            new_mode,
            lines: None,
            binary: false,
            patch: None,
            patch_left_out: false,
        }
    }
}

/// What to compare, and how much of it to tell.
#[derive(Debug, Clone, Copy)]
pub struct Compare<'a> {
    /// The older tree.
    pub from: ObjectId,
    /// The newer tree.
    pub to: ObjectId,
    /// The worktree whose attributes count (gitattributes(5)); none in a bare repository.
    pub worktree: Option<&'a Path>,
    /// Files and folders to look at; none means everything.
    pub paths: &'a [RepoPath],
    /// Whether patches are wanted.
    pub patch: bool,
    /// Go on after this path, as [`super::shown_path`] has it.
    pub after: &'a str,
    /// Changes to tell at most.
    pub limit: usize,
    /// Bytes of patches to tell at most; one that is larger is left out.
    pub patch_bytes: usize,
}

/// A page of changes.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The changes, in order.
    pub changes: Vec<FileChange>,
    /// Whether more come after.
    pub truncated: bool,
    /// Changes in all.
    pub total: usize,
}

/// Compares two trees. What differs is to be known by the deadline; patches then take their time. Blocks.
///
/// # Errors
/// What Git says; [`Error::Late`] where it was ended at the deadline.
pub fn compare_trees(
    git: &GitDir,
    asked: &Compare<'_>,
    deadline: &Deadline,
) -> Result<Comparison, Error> {
    if asked.from == asked.to {
        return Ok(Comparison::default());
    }
    let local = git.local();
    let git_dir = local.git_dir().to_owned();
    let is_sparse = local.config_snapshot().boolean("core.sparseCheckout") == Some(true);
    let listed = listed(&git_dir, asked, is_sparse, deadline)?;
    let total = listed.len();
    let begin = begin_after(&listed, |change| change.path.as_bstr(), asked.after);
    let mut changes: Vec<FileChange> = listed.into_iter().skip(begin).take(asked.limit).collect();
    if asked.patch {
        add_patches(&git_dir, asked, &mut changes)?;
    }
    Ok(Comparison {
        truncated: begin + changes.len() < total,
        changes,
        total,
    })
}

/// Where to go on in a list that is ordered by path: behind the path that was told last, as
/// [`super::shown_path`] has it.
pub fn begin_after<T>(list: &[T], path: impl Fn(&T) -> &BStr, after: &str) -> usize {
    if after.is_empty() {
        return 0;
    }
    match list
        .iter()
        .position(|one| super::shown_path(path(one)) == after)
    {
        Some(last) => last + 1,
        // It is not there any more: the order of paths says where it was.
        None => list.partition_point(|one| path(one) <= after.as_bytes().as_bstr()),
    }
}

/// Git, about to tell the two trees apart; options come next.
pub(super) fn telling_apart(git_dir: &Path, asked: &Compare<'_>) -> Command {
    let mut git = diff_tree(git_dir, asked.worktree);
    git.args([asked.from.to_string(), asked.to.to_string()]);
    git
}

/// Everything that differs, with counts of lines.
fn listed(
    git_dir: &Path,
    asked: &Compare<'_>,
    is_sparse: bool,
    deadline: &Deadline,
) -> Result<Vec<FileChange>, Error> {
    let mut git = telling_apart(git_dir, asked);
    // Git reads all of the index for the sake of attributes whose files are not checked out
    // (gitattributes(5)). It takes an index that is not there for an empty one.
    if asked.worktree.is_some() && !is_sparse {
        git.env("GIT_INDEX_FILE", git_dir.join("no-index"));
    }
    git.args(["-M", "--raw", "--numstat", "-z", "--"]);
    git.args(asked.paths.iter().map(|path| to_os(path.as_bstr())));
    let output = output_by(git, deadline).map_err(cannot_run)?;
    let output = output.ok_or(Error::Late)?;
    if !output.status.success() {
        return Err(Error::Git(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    parse(&output.stdout).ok_or_else(not_understood)
}

/// What differs, and then `added TAB removed TAB path NUL` for each, or with both paths behind a NUL
/// where it was renamed (git-diff-tree(1), RAW OUTPUT FORMAT, -z).
fn parse(output: &[u8]) -> Option<Vec<FileChange>> {
    let (mut changes, rest) = parse_raw(output)?;
    let mut fields = rest.split(|byte| *byte == 0);
    for change in &mut changes {
        let mut counts = fields.next()?.splitn_str(3, "\t");
        let mut count = || counts.next()?.to_str().ok()?.parse().ok();
        change.lines = count().zip(count());
        change.binary = change.lines.is_none();
        if change.old_path.is_some() {
            fields.next()?;
            fields.next()?;
        }
    }
    Some(changes)
}

/// `:old new id id S NUL path NUL [path NUL]`, for all; and what comes then.
pub(super) fn parse_raw(output: &[u8]) -> Option<(Vec<FileChange>, &[u8])> {
    let mut rest = output;
    let mut changes = Vec::new();
    while rest.first() == Some(&b':') {
        let mut field = || {
            let (field, behind) = rest.split_at(rest.find_byte(0)?);
            rest = &behind[1..];
            Some(field)
        };
        let mut parts = field()?[1..].split_str(" ");
        let mut mode = || u32::from_str_radix(parts.next()?.to_str().ok()?, 8).ok();
        let (old_mode, new_mode) = (mode()?, mode()?);
        let status = *parts.nth(2)?.first()?;
        let first = BString::from(field()?);
        let (kind, old_path, path) = match status {
            b'A' => (FileChangeKind::Added, None, first),
            b'D' => (FileChangeKind::Deleted, None, first),
            b'T' => (FileChangeKind::TypeChanged, None, first),
            b'R' => (
                FileChangeKind::Renamed,
                Some(first),
                BString::from(field()?),
            ),
            _ => (FileChangeKind::Modified, None, first),
        };
        changes.push(FileChange {
            path,
            kind,
            old_path,
            old_mode,
            new_mode,
            lines: None,
            binary: false,
            patch: None,
            patch_left_out: false,
        });
    }
    Some((changes, rest))
}

pub(super) fn cannot_run(source: io::Error) -> Error {
    Error::io("run", Path::new("git diff-tree"), source)
}

pub(super) fn not_understood() -> Error {
    Error::Git("git diff-tree said something that is not understood".to_owned())
}

pub(super) fn to_os(path: &BStr) -> &OsStr {
    OsStr::from_bytes(path)
}
