//! Git's filters (gitattributes(5)) where gix does otherwise than Git: a filter that is not required
//! may fail, and a `working-tree-encoding` is one of iconv's, which Git itself is asked for.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Stdio},
};

use gix::{
    ObjectId,
    attrs::{StateRef, search::Outcome},
    bstr::{BStr, BString, ByteSlice},
    filter::plumbing::{Driver, Pipeline},
    index::entry::Mode,
    worktree::Stack,
};

use super::worktrees::git_command;

/// What the attributes of a path name.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Its filter.
    driver: Option<BString>,
    /// Whether it is in an encoding that is to be changed.
    pub(super) is_encoded: bool,
}

impl Named {
    /// Of a file at `path`.
    pub(super) fn of(
        attributes: &mut Stack,
        path: &BStr,
        git: &gix::Repository,
    ) -> io::Result<Self> {
        let mut found: Outcome =
            attributes.selected_attribute_matches(["filter", "working-tree-encoding"]);
        let at = attributes
            .at_entry(path, Some(Mode::FILE), &git.objects)
            .map_err(|e| io::Error::other(e.to_string()))?;
        at.matching_attributes(&mut found);
        let mut named = Self::default();
        for (one, found) in found.iter_selected().enumerate() {
            match (one, found.assignment.state) {
                (0, StateRef::Value(name)) => named.driver = Some(name.as_bstr().to_owned()),
                (1, StateRef::Value(name)) => {
                    let name = name.as_bstr();
                    let utf8 = |utf8: &str| name.eq_ignore_ascii_case(utf8.as_bytes());
                    named.is_encoded = !(utf8("UTF-8") || utf8("UTF8"));
                }
                // None that Git knows: it says so itself.
                (1, StateRef::Set | StateRef::Unset) => named.is_encoded = true,
                _ => {}
            }
        }
        Ok(named)
    }

    /// Converts a file's content; where its filter fails and need not succeed, without the filter.
    pub(super) fn convert<T>(
        &self,
        pipeline: &mut Pipeline,
        mut convert: impl FnMut(&mut Pipeline) -> Result<T, String>,
    ) -> Result<T, String> {
        let failed = match convert(pipeline) {
            Ok(converted) => return Ok(converted),
            Err(failed) => failed,
        };
        let drivers = &mut pipeline.options_mut().drivers;
        let optional =
            |driver: &Driver| !driver.required && Some(&driver.name) == self.driver.as_ref();
        let Some(at) = drivers.iter().position(optional) else {
            return Err(failed);
        };
        tracing::debug!("a filter that is not required failed: {failed}");
        let driver = drivers.swap_remove(at);
        let converted = convert(pipeline);
        pipeline.options_mut().drivers.push(driver);
        converted
    }
}

/// Has Git make an object of a file's content as it lies in the worktree at `root`; answers its id.
pub(super) fn encode_to_git(
    git: &gix::Repository,
    root: &Path,
    path: &BStr,
    raw: &[u8],
) -> io::Result<ObjectId> {
    let mut as_path = b"--path=".to_vec();
    as_path.extend_from_slice(path);
    let mut command = git_command(git.git_dir(), []);
    command.arg("--work-tree").arg(root).current_dir(root);
    command.args(["hash-object", "-w", "--stdin"]);
    command.arg(OsStr::from_bytes(&as_path));
    let said = run(&mut command, raw)?;
    ObjectId::from_hex(said.trim_end()).map_err(io::Error::other)
}

/// Has Git make a file's content as it would lie in a worktree of `tree`; `folder` is an empty one for
/// that.
pub(super) fn encode_to_worktree(
    git: &gix::Repository,
    folder: &Path,
    tree: ObjectId,
    path: &BStr,
) -> io::Result<Vec<u8>> {
    let index = folder.join("index");
    // Git reads the attributes of an index where the worktree has none.
    let worktree = folder.join("none");
    let made = folder.join("made/");
    fs::create_dir_all(&worktree)?;
    let in_folder = || {
        let mut command = git_command(git.git_dir(), []);
        command.env("GIT_INDEX_FILE", &index);
        command.env("GIT_NO_REPLACE_OBJECTS", "1");
        command
            .arg("--work-tree")
            .arg(&worktree)
            .current_dir(&worktree);
        command
    };
    run(in_folder().arg("read-tree").arg(tree.to_string()), b"")?;
    let mut prefix = b"--prefix=".to_vec();
    prefix.extend_from_slice(made.as_os_str().as_bytes());
    let mut checkout = in_folder();
    checkout.args(["checkout-index", "--force"]);
    checkout.arg(OsStr::from_bytes(&prefix)).arg("--");
    run(checkout.arg(OsStr::from_bytes(path)), b"")?;
    let content = fs::read(made.join(OsStr::from_bytes(path)))?;
    fs::remove_dir_all(folder)?;
    Ok(content)
}

fn run(command: &mut Command, input: &[u8]) -> io::Result<Vec<u8>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut git = command.stderr(Stdio::piped()).spawn()?;
    let mut stdin = git.stdin.take();
    let ended = std::thread::scope(|scope| {
        // It may answer, or give up, before it has read all.
        scope.spawn(move || stdin.as_mut().map(|stdin| stdin.write_all(input)));
        git.wait_with_output()
    })?;
    if ended.status.success() {
        return Ok(ended.stdout);
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(io::Error::other(said.trim().to_owned()))
}
