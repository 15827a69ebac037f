//! A worktree of many files, the same on every run: sizes, folders and words as in a project's
//! sources, committed and packed as in a clone.

use std::{
    cell::Cell,
    fs::{self, File, FileTimes},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::repo::Repo;
use crate::Result;

/// Files in a folder, about.
const FILES_EACH: usize = 12;

/// What the files of a worktree are.
#[derive(Clone, Copy)]
pub struct Files {
    /// The path of one.
    pub path: fn(usize) -> String,
    /// The text of one after so many changes.
    pub text: fn(usize, usize) -> String,
}

/// Texts of words, with names as in a project's sources.
const WORDS: Files = Files {
    path,
    text: |n, change| match change {
        0 => text(n),
        _ => format!("{}changed for the {change}th time\n", text(n)),
    },
};

/// A repository with a worktree of so many files.
pub struct Worktree {
    pub repo: Repo,
    pub files: usize,
    kind: Files,
    /// How often files were changed: each change is another.
    changes: Cell<usize>,
}

impl Worktree {
    /// Makes it below `folder`, with one commit.
    pub fn create(folder: &Path, name: &str, files: usize) -> Result<Self> {
        Self::of(WORDS, folder, name, files)
    }

    /// The same with files of this kind.
    pub fn of(kind: Files, folder: &Path, name: &str, files: usize) -> Result<Self> {
        let repo = Repo::init(folder, name)?;
        let mut history = Vec::new();
        history.extend_from_slice(
            b"commit refs/heads/main\ncommitter Ada <ada@example.com> 1700000000 +0000\ndata 2\nc\n",
        );
        let mut add = |path: &str, text: &str| {
            let head = format!("M 100644 inline {path}\ndata {}\n", text.len());
            history.extend_from_slice(head.as_bytes());
            history.extend_from_slice(text.as_bytes());
            history.push(b'\n');
        };
        add(".gitignore", "/target/\n*.o\n*.log\n!keep.log\n/home/\n");
        add(".gitattributes", "* text=auto\n*.png binary\n");
        for n in 0..files {
            add(&(kind.path)(n), &(kind.text)(n, 0));
        }
        repo.git(&["fast-import", "--quiet"], &history)?;
        repo.git(&["reset", "-q", "--hard"], "")?;
        let worktree = Self {
            repo,
            files,
            kind,
            changes: Cell::new(0),
        };
        worktree.ignored()?;
        worktree.settle()?;
        Ok(worktree)
    }

    /// What a build leaves behind: neither side is to look into it.
    fn ignored(&self) -> Result {
        let target = self.repo.root().join("target");
        fs::create_dir_all(&target)?;
        for n in 0..self.files / 10 {
            fs::write(target.join(format!("{n}.o")), "built")?;
        }
        Ok(())
    }

    /// Files that were written an hour ago, in an index that knows it.
    fn settle(&self) -> Result {
        let then = SystemTime::now() - Duration::from_secs(3_600);
        for n in 0..self.files {
            let file = File::options().write(true).open(self.file(n))?;
            file.set_times(FileTimes::new().set_modified(then))?;
        }
        self.refresh()
    }

    /// Has the user's index know the files as they are.
    pub fn refresh(&self) -> Result {
        // It says so by its status when some differ from it.
        let mut refresh = self.repo.command("git");
        refresh.args(["update-index", "-q", "--refresh"]).status()?;
        Ok(())
    }

    /// How many files, as the table says it.
    pub fn shown(&self) -> String {
        format!("{},{:03}", self.files / 1_000, self.files % 1_000)
    }

    /// The paths of all files, from the root.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        (0..self.files).map(self.kind.path)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> Result<u64> {
        let size = |n| Ok(fs::metadata(self.file(n))?.len());
        (0..self.files).map(size).sum()
    }

    /// Writes a file as it is after so many changes.
    pub fn rewrite(&self, n: usize, change: usize) -> Result {
        Ok(fs::write(self.file(n), (self.kind.text)(n, change))?)
    }

    fn file(&self, n: usize) -> PathBuf {
        self.repo.root().join((self.kind.path)(n))
    }

    /// Changes so many files, all over the worktree and always the same, to what was never there.
    pub fn change(&self, count: usize) -> Result {
        let change = self.changes.get() + 1;
        self.changes.set(change);
        for n in 0..count {
            self.rewrite(n * self.files / count, change)?;
        }
        Ok(())
    }
}

fn path(n: usize) -> String {
    const TOP: &[&str] = &["src", "lib", "tests", "docs", "tools", "packages"];
    const BELOW: &[&str] = &[
        "core", "parser", "net", "ui", "storage", "common", "internal", "api", "models", "render",
    ];
    const ENDS: &[&str] = &["rs", "ts", "py", "md", "json", "go", "h", "css"];
    let mut folder = n / FILES_EACH;
    let mut path = TOP[folder % TOP.len()].to_owned();
    folder /= TOP.len();
    while folder > 0 {
        path.push('/');
        path.push_str(BELOW[folder % BELOW.len()]);
        let level = folder / BELOW.len();
        if level > 0 && !level.is_multiple_of(3) {
            path.push_str(&format!("_{}", level % 3));
        }
        folder = level;
    }
    // The first of the words are letters only.
    format!("{path}/{}_{n}.{}", word(n * 7 % 40), ENDS[n % ENDS.len()])
}

/// From 200 bytes to 64 KiB: half of them below 2 KiB, 4 KiB on the average.
fn text(n: usize) -> String {
    let mut random = Random(n as u64);
    let bits = 8.0 + 6.0 * random.unit() + 2.0 * random.unit().powi(6);
    let size = bits.exp2() as usize;
    let mut text = String::with_capacity(size + 80);
    while text.len() < size {
        for _ in 0..4 + random.below(8) {
            text.push_str(word(random.below(4_096)));
            text.push(if random.below(5) == 0 { '.' } else { ' ' });
        }
        text.push('\n');
    }
    text
}

fn word(n: usize) -> &'static str {
    const WORDS: &[&str] = &[
        "let", "fn", "return", "value", "index", "self", "error", "result", "path", "state", "if",
        "else", "match", "config", "buffer", "length", "string", "bytes", "open", "read", "write",
        "close", "thread", "lock", "queue", "node", "tree", "parent", "child", "list", "map",
        "iterate", "collect", "the", "of", "and", "request", "response", "server", "client", "0",
        "1", "42", "true", "false", "none", "some", "(", ")", "{", "}", "=>", "==", "+=", "//",
    ];
    WORDS[n % WORDS.len()]
}

/// Numbers that are the same on every run (splitmix64).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
