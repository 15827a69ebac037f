//! The pidfile: a record for people and `heddle agent stop`, never the judge of who serves (G1).

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::made::Made;

/// The second line, by which a pidfile is known to be ours.
pub const PIDFILE_MARKER: &str = "heddle-agent";

/// What a pidfile says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidFileContents {
    /// The daemon's process id.
    pub pid: i32,
    /// When it began to serve, in seconds since the Unix epoch.
    pub started_at_secs: i64,
}

impl PidFileContents {
    /// Three newline-terminated lines: pid, [`PIDFILE_MARKER`], start time.
    pub fn render(&self) -> String {
        let Self {
            pid,
            started_at_secs,
        } = self;
        format!("{pid}\n{PIDFILE_MARKER}\n{started_at_secs}\n")
    }

    /// Reads what [`PidFileContents::render`] wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (pid, marker, started) = (lines.next()?, lines.next()?, lines.next()?);
        let contents = Self {
            pid: pid.parse().ok()?,
            started_at_secs: started.parse().ok()?,
        };
        let complete = marker == PIDFILE_MARKER && lines.next().is_none() && contents.pid > 0;
        // Written back it must be the same: no signs, zeros or blanks that we would not write.
        (complete && contents.render() == text).then_some(contents)
    }

    /// The contents of the pidfile at `path`, if one of ours is there.
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }
}

/// Our pidfile, removed on drop only while it is the file that we wrote (G6).
#[derive(Debug)]
pub(super) struct PidFile {
    made: Made,
    contents: PidFileContents,
}

impl PidFile {
    /// Writes this process's pidfile: complete or not at all.
    pub(super) fn write(path: &Path) -> io::Result<Self> {
        let contents = PidFileContents {
            pid: std::process::id() as i32,
            started_at_secs: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs() as i64),
        };
        Ok(Self {
            made: put(path, &contents)?,
            contents,
        })
    }

    /// Writes it again where it was lost.
    pub(super) fn restore(&mut self) -> io::Result<()> {
        if self.made.path().symlink_metadata().is_err() {
            self.made = put(self.made.path(), &self.contents)?;
        }
        Ok(())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        self.made.remove();
    }
}

fn put(path: &Path, contents: &PidFileContents) -> io::Result<Made> {
    let aside = path.with_extension("pid.new");
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(contents.render().as_bytes())?;
    fs::rename(&aside, path)?;
    Made::note(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pidfile_is_three_lines_and_nothing_else_is_one() {
        let contents = PidFileContents {
            pid: 4_711,
            started_at_secs: 1_700_000_000,
        };
        let text = "4711\nheddle-agent\n1700000000\n";
        assert_eq!(contents.render(), text);
        assert_eq!(PidFileContents::parse(text), Some(contents));
        for other in [
            "",
            "4711",
            "4711\n",
            "4711\nheddle-agent\n1700000000",
            "4711\nheddle-agent\n1700000000\n\n",
            "4711\nsshd\n1700000000\n",
            "-4711\nheddle-agent\n1700000000\n",
            "0\nheddle-agent\n1700000000\n",
            "+4711\nheddle-agent\n1700000000\n",
            " 4711\nheddle-agent\n1700000000\n",
            "4711\r\nheddle-agent\r\n1700000000\r\n",
            "99999999999\nheddle-agent\n1700000000\n",
            "4711\nheddle-agent\nnow\n",
        ] {
            assert_eq!(PidFileContents::parse(other), None, "{other:?}");
        }
    }
}
