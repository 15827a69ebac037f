//! Reflogs (git-reflog(1)): what was added to one since it was last read. Git appends to them, and
//! now and then rewrites one (`git reflog expire`), moves it (`git branch -m`) or removes it.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
};

use gix::{bstr::ByteSlice, refs::file::log::LineRef};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Identity, LogName, StateId};

/// So much of a reflog is read at most; what is older is passed over.
const READ_LIMIT: u64 = 8 * 1024 * 1024;
/// Bytes in which a log's last line is looked for first.
const PIECE: u64 = 4_096;
/// Characters of a message, and of a name, that are kept.
const TEXT_LIMIT: usize = 1_000;

/// What tells a line from others: all of it but the id before the move, which expiry rewrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LineId([u8; 16]);

impl LineId {
    /// A line that was kept in bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn of(line: &[u8]) -> Self {
        let rest = line
            .split_once_str(" ")
            .map_or(line, |(_before, rest)| rest);
        let hash = Sha256::digest(rest);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self(id)
    }
}

/// How far a reflog was read, with what it takes to notice that it is another one by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReflogMark {
    inode: u64,
    bytes: u64,
    /// Of the last line that was read, with its end.
    line_bytes: u64,
    /// The last line that was read.
    pub line: LineId,
    /// The line that the log began with.
    pub first: LineId,
    /// The time of the last line.
    pub secs: i64,
}

/// One move of a ref, as its reflog has it.
#[derive(Debug, Clone)]
pub struct ReflogLine {
    /// What tells it from others.
    pub id: LineId,
    /// Where the ref was; `None` where there was none.
    pub old: Option<StateId>,
    /// Where it is since then; `None` where there is none.
    pub new: Option<StateId>,
    /// Who moved it.
    pub who: Identity,
    /// When, in seconds since the Unix epoch.
    pub secs: i64,
    /// What Git says of it, such as `commit: Add the parser`.
    pub message: String,
    /// How far a log is read with this line.
    pub mark: ReflogMark,
}

impl ReflogLine {
    /// What was done, such as `commit (amend)`, and to what.
    pub fn action(&self) -> (&str, &str) {
        self.message
            .split_once(": ")
            .unwrap_or((self.message.trim_end_matches(':'), ""))
    }

    /// The branch that the log up to here was moved or copied from, and the one that it is of since
    /// then: `git branch -m` and `-c` say so.
    pub fn taken(&self) -> Option<(LogName, LogName)> {
        let (_, rest) = self.message.split_once("Branch: ")?;
        let moved = rest
            .strip_prefix("renamed ")
            .or(rest.strip_prefix("copied "))?;
        let (from, to) = moved.split_once(" to ")?;
        let name = |name: &str| LogName::from_bytes(name.as_bytes());
        Some((name(from), name(to)))
    }

    /// Whether the branch before it is gone by this line.
    pub fn is_rename(&self) -> bool {
        self.message.starts_with("Branch: renamed ")
    }
}

/// What was read of a reflog.
#[derive(Debug)]
pub struct Reflog {
    /// Whether the lines go on from the mark that was given; otherwise they are all that there are.
    pub continues: bool,
    /// The lines, oldest first.
    pub lines: Vec<ReflogLine>,
    /// How far it is read now; `None` while nothing is in it.
    pub mark: Option<ReflogMark>,
}

/// Reads what a reflog has beyond `mark`, or all of it where it is not the one that `mark` was made
/// of. A line that is not finished yet is left for later, one that is none is passed over. `None`
/// where there is no log.
pub(super) fn read(path: &Path, mark: Option<ReflogMark>) -> io::Result<Option<Reflog>> {
    let Some((mut file, found)) = open(path)? else {
        return Ok(None);
    };
    if let Some(mark) = mark
        && found.len() >= mark.bytes
    {
        if found.len() == mark.bytes && found.ino() == mark.inode {
            return Ok(Some(Reflog {
                continues: true,
                lines: Vec::new(),
                mark: Some(mark),
            }));
        }
        let from = mark.bytes - mark.line_bytes;
        let (start, text) = read_from(&mut file, from, path)?;
        let known = usize::try_from(mark.line_bytes).unwrap_or(usize::MAX);
        if start == from
            && let Some((line, rest)) = text.split_at_checked(known)
            && LineId::of(line.trim_end_with(|c| c == '\n')) == mark.line
        {
            let mark = ReflogMark {
                inode: found.ino(),
                ..mark
            };
            return Ok(Some(parse(rest, mark.bytes, Some(mark), mark.inode, path)));
        }
    }
    let (start, text) = read_from(&mut file, 0, path)?;
    Ok(Some(parse(&text, start, None, found.ino(), path)))
}

/// A log and what the filesystem says of it; `None` where there is no log.
fn open(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    let found = file.metadata()?;
    Ok(found.is_file().then_some((file, found)))
}

/// Where a log ends, and where the ref went with its last line, without reading all of it. `None`
/// where there is no log, or nothing in it.
pub(super) fn end(path: &Path) -> io::Result<Option<(ReflogMark, Option<StateId>)>> {
    let Some((mut file, found)) = open(path)? else {
        return Ok(None);
    };
    for length in [PIECE, READ_LIMIT] {
        let start = found.len().saturating_sub(length);
        let mut text = vec![0; usize::try_from(found.len() - start).unwrap_or_default()];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut text)?;
        let cut = match start {
            0 => 0,
            _ => text.find_byte(b'\n').map_or(text.len(), |end| end + 1),
        };
        let read = parse(&text[cut..], start + cut as u64, None, found.ino(), path);
        let tip = read.lines.last().and_then(|line| line.new);
        match read.mark {
            Some(mark) if start == 0 => return Ok(Some((mark, tip))),
            Some(mark) if tip.is_some() || length == READ_LIMIT => {
                let mut head = vec![0; PIECE as usize];
                file.rewind()?;
                let length = file.read(&mut head)?;
                let line = head[..length].lines().next().unwrap_or_default();
                let first = LineId::of(line);
                return Ok(Some((ReflogMark { first, ..mark }, tip)));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Whether nothing is where a file was looked for.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Reads from a place on, or from a later one where too much follows; answers which.
fn read_from(file: &mut File, from: u64, path: &Path) -> io::Result<(u64, Vec<u8>)> {
    let end = file.metadata()?.len();
    let start = from.max(end.saturating_sub(READ_LIMIT));
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.take(READ_LIMIT).read_to_end(&mut text)?;
    if start == from {
        return Ok((start, text));
    }
    tracing::warn!(
        "{} has grown too much to be read; its lines before the last {READ_LIMIT} bytes are passed over",
        path.display()
    );
    // It begins in the middle of a line.
    let cut = text.find_byte(b'\n').map_or(text.len(), |end| end + 1);
    Ok((start + cut as u64, text.split_off(cut)))
}

fn parse(text: &[u8], start: u64, before: Option<ReflogMark>, inode: u64, path: &Path) -> Reflog {
    let (mut lines, mut mark, mut bytes, mut garbage) = (Vec::new(), before, start, 0);
    for raw in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = raw.strip_suffix(b"\n") else {
            break;
        };
        bytes += raw.len() as u64;
        let id = LineId::of(line);
        let parsed = LineRef::from_bytes(line).ok();
        let here = ReflogMark {
            inode,
            bytes,
            line_bytes: raw.len() as u64,
            line: id,
            first: mark.map_or(id, |mark| mark.first),
            secs: parsed
                .map(|line| line.signature.seconds())
                .or(mark.map(|mark| mark.secs))
                .unwrap_or_default(),
        };
        mark = Some(here);
        match parsed {
            Some(parsed) => lines.push(reflog_line(&parsed, here)),
            None => garbage += 1,
        }
    }
    if garbage > 0 {
        tracing::warn!(
            "{} has lines that are none of Git's, which are passed over: {garbage}",
            path.display()
        );
    }
    Reflog {
        continues: before.is_some(),
        lines,
        mark,
    }
}

fn reflog_line(line: &LineRef<'_>, mark: ReflogMark) -> ReflogLine {
    let state = |id: gix::ObjectId| (!id.is_null()).then(|| StateId::from(id));
    let who = line.signature.actor().trim();
    ReflogLine {
        id: mark.line,
        old: state(line.previous_oid()),
        new: state(line.new_oid()),
        who: Identity {
            name: clipped(who.name),
            email: clipped(who.email),
        },
        secs: mark.secs,
        message: clipped(line.message),
        mark,
    }
}

pub(super) fn clipped(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.trim_end().chars().take(TEXT_LIMIT).collect()
}
