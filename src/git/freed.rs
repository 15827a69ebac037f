//! What Git would free once some of our refs are gone. Git itself is asked: whatever it would keep
//! (any ref, HEAD, reflog or index of any worktree) is not freed.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Seek, Write},
    process::{Command, Stdio},
};

use gix::ObjectId;

use super::{Error, NAMESPACE, Repository, StateId};

/// Objects that nothing needs any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// How many.
    pub objects: u64,
    /// What they take on disk, in bytes.
    pub bytes: u64,
}

/// Ended chains: by their last states.
#[derive(Debug, Clone, Default)]
pub struct KeptTips {
    /// Those whose refs go.
    pub going: Vec<StateId>,
    /// Those whose refs stay.
    pub staying: Vec<StateId>,
}

impl Repository {
    /// What is freed when refs of ended chains go. It walks all that stays: as long as `git gc`
    /// takes to count. Blocks.
    ///
    /// # Errors
    /// What Git says, when it cannot read its objects.
    pub fn freed_without(&self, tips: &KeptTips) -> Result<Freed, Error> {
        if tips.going.is_empty() {
            return Ok(Freed::default());
        }
        let mut only_there = HashSet::new();
        self.walk(WalkFrom::Going, tips, |id| {
            only_there.insert(id);
            true
        })?;
        // That left out what the neighbours have. An older commit, an index or a reflog may have
        // more of it, and only a walk over everything tells.
        if !only_there.is_empty() {
            self.walk(WalkFrom::Staying, tips, |id| {
                only_there.remove(&id);
                !only_there.is_empty()
            })?;
        }
        self.sizes(&only_there)
    }

    /// Hands over every object that is found, until `go_on` answers false.
    fn walk(
        &self,
        from: WalkFrom,
        tips: &KeptTips,
        mut go_on: impl FnMut(ObjectId) -> bool,
    ) -> Result<(), Error> {
        let mut list = self.git_command([
            "rev-list",
            "--objects",
            "--no-object-names",
            "--ignore-missing",
            // Nothing is fetched for a partial clone.
            "--missing=allow-any",
            "--stdin",
        ]);
        let going = tips.going.iter().map(ToString::to_string);
        let names: Vec<String> = match from {
            WalkFrom::Going => {
                list.arg("--not");
                let but = tips.staying.iter().map(|tip| format!("^{tip}"));
                going.chain(but).collect()
            }
            WalkFrom::Staying => {
                list.args(["--reflog", "--indexed-objects"]);
                tips.staying.iter().map(ToString::to_string).collect()
            }
        };
        list.arg(format!("--exclude={NAMESPACE}kept/*"))
            .arg("--all");
        stream(list, &names, |line| {
            match ObjectId::from_hex(line.as_bytes()) {
                Ok(id) => go_on(id),
                Err(_) => true,
            }
        })
    }

    fn sizes(&self, objects: &HashSet<ObjectId>) -> Result<Freed, Error> {
        let mut freed = Freed::default();
        if objects.is_empty() {
            return Ok(freed);
        }
        let sizes = self.git_command(["cat-file", "--batch-check=%(objectsize:disk)", "--buffer"]);
        let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
        stream(sizes, &names, |line| {
            if let Ok(bytes) = line.parse::<u64>() {
                freed.objects += 1;
                freed.bytes += bytes;
            }
            true
        })?;
        Ok(freed)
    }
}

#[derive(Clone, Copy)]
enum WalkFrom {
    Going,
    Staying,
}

/// Runs Git with these lines as its input, and hands over the lines of its output until `go_on`
/// answers false.
fn stream(
    mut git: Command,
    input: &[String],
    mut go_on: impl FnMut(&str) -> bool,
) -> Result<(), Error> {
    let fail = |source| Error::io("run", "git".as_ref(), source);
    // A file and no pipe: neither side can wait for the other.
    let lines = lines_in_a_file(input).map_err(fail)?;
    let complaints = tempfile::tempfile().map_err(fail)?;
    let mut child = git
        .stdin(lines)
        .stdout(Stdio::piped())
        .stderr(complaints.try_clone().map_err(fail)?)
        .spawn()
        .map_err(fail)?;
    let read = match child.stdout.take() {
        Some(output) => read_lines(BufReader::new(output), &mut go_on),
        None => Ok(Read::All),
    };
    if !matches!(read, Ok(Read::All)) {
        // It may have ended by itself meanwhile.
        let _ = child.kill();
    }
    let ended = child.wait().map_err(fail)?;
    match read.map_err(fail)? {
        Read::All if !ended.success() => Err(Error::Git(said(complaints).map_err(fail)?)),
        Read::All | Read::Enough => Ok(()),
    }
}

enum Read {
    All,
    Enough,
}

fn read_lines(output: impl BufRead, go_on: &mut impl FnMut(&str) -> bool) -> io::Result<Read> {
    for line in output.lines() {
        if !go_on(&line?) {
            return Ok(Read::Enough);
        }
    }
    Ok(Read::All)
}

fn lines_in_a_file(lines: &[String]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    let mut text = lines.join("\n");
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

fn said(mut complaints: File) -> io::Result<String> {
    complaints.rewind()?;
    let text = io::read_to_string(complaints)?;
    Ok(text.trim().to_owned())
}
