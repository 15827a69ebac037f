//! Faults on demand: a library that is preloaded into the daemon, or into Git, counts its calls on files and acts
//! at the one that a test names; filesystems of our own on a loop device or in memory; and looking
//! at what a database on disk holds.

mod call;
mod disk;
mod stored;

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

pub use call::{hooks, operations, reason, register, status};
pub use disk::{ImageDisk, MemoryDisk, Mount, fill, free};
pub use stored::{database, stored};

use crate::harness::{HEDDLE, TestRepo, skip};

/// What to do at the call; mirrored in fault.c.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    KillBefore,
    KillAfter,
    /// Fail this once.
    Fail(i32),
    /// Fail this and every later one.
    FailOn(i32),
    /// Hold every call from this one on until disarmed.
    Hold,
    /// Kill the daemon; a program of its that makes the call goes on.
    Orphan,
}

/// Which calls count; mirrored in fault.c.
pub mod kinds {
    pub const WRITE: u32 = 1;
    pub const SYNC: u32 = 2;
    pub const NAME: u32 = 4;
    pub const CREATE: u32 = 8;
    pub const TRUNCATE: u32 = 16;
    /// Not one of those that change something, and not in `ALL`.
    pub const READ: u32 = 256;
    pub const ALL: u32 = 63;
    /// All but what is written into the database; its syncs count.
    pub const LEAN: u32 = ALL | 1 << 30;
    /// The same without what is written among Git's objects.
    pub const NO_OBJECTS: u32 = LEAN | 1 << 29;
}

/// The first call that was acted on.
#[derive(Debug, Clone)]
pub struct Hit {
    pub kind: u32,
    /// Relative to the watched folder.
    pub path: String,
}

/// Control over the calls of a daemon.
pub struct Fault {
    control: File,
    path: PathBuf,
    library: PathBuf,
    under: PathBuf,
}

impl Fault {
    /// Control over a daemon of `repo`; `None`, and said so, where there can be none.
    pub fn new(test: &str, repo: &TestRepo) -> Option<Self> {
        Self::beside(test, &repo.around(), repo.root())
    }

    /// Control, by a file in `folder`, over daemons that write below `under`.
    pub fn beside(test: &str, folder: &Path, under: &Path) -> Option<Self> {
        let library = match library() {
            Ok(library) => library.clone(),
            Err(why) => {
                skip(test, why);
                return None;
            }
        };
        let path = folder.join("fault");
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        control.set_len(4096).unwrap();
        Some(Self {
            control,
            path,
            library,
            under: under.to_owned(),
        })
    }

    /// `heddle agent serve` under this control.
    pub fn serve(&self, repo: &TestRepo) -> Command {
        let mut command = repo.command(HEDDLE);
        command.args(["agent", "serve"]);
        self.over(command)
    }

    /// Any program under this control.
    pub fn over(&self, mut command: Command) -> Command {
        command
            .env("LD_PRELOAD", &self.library)
            .env("HEDDLE_FAULT", &self.path)
            .env("HEDDLE_FAULT_UNDER", &self.under);
        command
    }

    /// From the next arming on, only files whose path ends so count.
    pub fn only(&self, end: &str) {
        let mut only = [0; 64];
        only[..end.len()].copy_from_slice(end.as_bytes());
        self.control.write_all_at(&only, 256).unwrap();
    }

    /// The library, the control file and the watched folder.
    pub fn parts(&self) -> [&Path; 3] {
        [&self.library, &self.path, &self.under]
    }

    /// Acts at call number `at` from now, of those of `kinds`.
    pub fn arm(&self, act: Act, at: u32, kinds: u32) {
        self.disarm();
        let (act, error, lasting) = match act {
            Act::KillBefore => (1, 0, 0),
            Act::KillAfter => (2, 0, 0),
            Act::Fail(error) => (3, error as u32, 0),
            Act::FailOn(error) => (3, error as u32, 1),
            Act::Hold => (5, 0, 0),
            Act::Orphan => (6, 0, 0),
        };
        for (index, value) in [at, error, kinds, lasting, 0, 0, 0, 0]
            .into_iter()
            .enumerate()
        {
            self.set(index as u64 + 1, value);
        }
        // Last: from here on it acts.
        self.set(0, act);
    }

    /// Lets go of the call that is held; the next one is held again.
    pub fn let_go(&self) {
        self.set(7, 0);
    }

    /// Acts no more.
    pub fn disarm(&self) {
        self.set(0, 0);
    }

    /// Whether it has acted, and on what.
    pub fn hit(&self) -> Option<Hit> {
        if self.get(7) == 0 {
            return None;
        }
        let mut path = [0; 220];
        self.control.read_exact_at(&mut path, 36).unwrap();
        let end = path.iter().position(|byte| *byte == 0).unwrap();
        Some(Hit {
            kind: self.get(8),
            path: String::from_utf8_lossy(&path[..end]).into_owned(),
        })
    }

    fn set(&self, index: u64, value: u32) {
        let bytes = value.to_ne_bytes();
        self.control.write_all_at(&bytes, index * 4).unwrap();
    }

    fn get(&self, index: u64) -> u32 {
        let mut bytes = [0; 4];
        self.control.read_exact_at(&mut bytes, index * 4).unwrap();
        u32::from_ne_bytes(bytes)
    }
}

fn library() -> &'static Result<PathBuf, String> {
    static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        if cfg!(all(target_os = "linux", target_env = "gnu")) {
            compile(include_str!("fault.c"), "fault.so", &["-shared", "-fPIC"])
        } else {
            Err("a library is preloaded on Linux with glibc only".to_owned())
        }
    })
}

/// The program of peer.c.
pub fn peer_program() -> &'static Result<PathBuf, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(|| compile(include_str!("peer.c"), "peer", &[]))
}

/// Compiles into Cargo's folder for tests, which it clears itself.
fn compile(source: &str, name: &str, flags: &[&str]) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let done = folder.join(name);
    let aside = folder.join(format!("{name}.{}", std::process::id()));
    let text = folder.join(format!("{name}.{}.c", std::process::id()));
    std::fs::write(&text, source).map_err(|e| e.to_string())?;
    let output = Command::new("cc")
        .args(["-O1", "-Wall", "-Werror", "-o"])
        .args([&aside, &text])
        .args(flags)
        .arg("-ldl")
        .output();
    std::fs::remove_file(&text).map_err(|e| e.to_string())?;
    let output = output.map_err(|e| format!("cannot run cc: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cc {name}: {said}");
    std::fs::rename(&aside, &done).map_err(|e| e.to_string())?;
    Ok(done)
}
