//! A repository with history and a log of operations, and the daemon that serves it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use heddle_agent::{Repository, client::address, store::Store};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::{
    Result,
    client::{Call, Caller},
};

/// The daemon under test.
pub const HEDDLE: &str = env!("CARGO_BIN_EXE_heddle");

/// How long a daemon is given to leave.
const GONE: Duration = Duration::from_secs(20);

/// A repository in a folder of its own.
pub struct Repo {
    folder: PathBuf,
    root: PathBuf,
}

impl Repo {
    /// A repository with so many commits, each with a ref of its own, below `folder`.
    pub fn create(folder: &Path, name: &str, commits: usize) -> Result<Self> {
        let root = folder.join(name);
        fs::create_dir_all(root.join("home"))?;
        let repo = Self {
            folder: folder.to_owned(),
            root,
        };
        repo.git(&["init", "-q", "-b", "main"], "")?;
        repo.git(&["config", "user.name", "Ada"], "")?;
        repo.git(&["config", "user.email", "ada@example.com"], "")?;
        let history: String = (0..commits)
            .map(|n| {
                let text = format!("line {n}\n");
                format!(
                    "commit refs/heads/main\nmark :{}\ncommitter Ada <ada@example.com> {} +0000\n\
                     data 2\nc\nM 100644 inline file-{}\ndata {}\n{text}\n\
                     reset refs/heads/topic-{n}\nfrom :{}\n\n",
                    n + 1,
                    1_700_000_000 + n,
                    n % 100,
                    text.len(),
                    n + 1,
                )
            })
            .collect();
        repo.git(&["fast-import", "--quiet"], &history)?;
        repo.git(&["reset", "-q", "--hard"], "")?;
        Ok(repo)
    }

    fn git(&self, arguments: &[&str], input: &str) -> Result {
        use std::io::Write;

        let mut child = self
            .command("git")
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        if child.wait()?.success() {
            Ok(())
        } else {
            Err(format!("git {} failed", arguments.join(" ")).into())
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.root.join("home"))
            .env("XDG_RUNTIME_DIR", &self.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null());
        command
    }

    /// Gives the store so many ended chains, of a commit of the history each, and Git their refs.
    pub fn keep_chains(&self, count: usize) -> Result {
        let mut database = Connection::open(self.root.join(".git/heddle/heddle.db"))?;
        let heads = [
            "for-each-ref",
            "--format=%(objectname)",
            "refs/heads/topic-*",
        ];
        let listed = self.command("git").args(heads).output()?;
        let mut refs = String::new();
        let tx = database.transaction()?;
        for (n, commit) in String::from_utf8(listed.stdout)?
            .lines()
            .take(count)
            .enumerate()
        {
            let name = format!("refs/heddle/kept/main/{}", n + 1);
            refs += &format!("create {name} {commit}\n");
            tx.execute(
                "INSERT INTO chain (id, thread, number, ref, tip, ended_secs)
                 VALUES (?1, 'main', ?1, ?2, unhex(?3), unixepoch())",
                params![n as i64 + 1, name, commit],
            )?;
            tx.execute(
                "INSERT INTO state (state_id, chain, tree, thread, change_id, captured_secs)
                 VALUES (unhex(?2), ?1, unhex(?2), 'main', '', unixepoch())",
                params![n as i64 + 1, commit],
            )?;
        }
        tx.commit()?;
        self.git(&["update-ref", "--stdin"], &refs)
    }

    /// Packs all refs, as `git gc` does.
    pub fn pack_refs(&self) -> Result {
        self.git(&["pack-refs", "--all"], "")
    }

    /// Fills the log with so many operations and answers, as calls would have, of a month.
    pub fn fill(&self, rows: usize) -> Result {
        let repository = Repository::open(&self.root)?;
        repository.folders().create()?;
        let folder = repository.store_dir();
        // The schema is the store's own.
        Store::open(&folder, Box::new(|| true))?.close();
        let mut database = Connection::open(folder.join("heddle.db"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
        let verbs = ["snapshot", "hook_register", "thread_update"];
        let tx = database.transaction()?;
        {
            let mut operation = tx.prepare(
                "INSERT INTO operation (operation_id, timestamp_secs, latest_secs, verb, thread, state_id,
                     actor_name, actor_email, agent, peer_uid, peer_pid, summary)
                 VALUES (?1, ?2, ?2, ?3, ?4, ?5, 'Ada', ?6, 'provider/model', 1000, 4711, ?7)",
            )?;
            let mut answer = tx.prepare(
                "INSERT INTO operation_dedup
                     (client_operation_id, fingerprint, response, recorded_at_secs)
                 VALUES (?1, ?2, ?3, ?4)",
            )?;
            for n in 0..rows {
                let id = Uuid::new_v4();
                let ago = (rows - n) as i64 * 500_000 / rows as i64;
                operation.execute(params![
                    id.as_bytes(),
                    now - ago,
                    verbs[n % verbs.len()],
                    format!("agent/{}", n % 20),
                    [&id.as_bytes()[..], &[0; 4]].concat(),
                    format!("ada{}@example.com", n % 5),
                    format!("captured the change number {n} of an agent's work"),
                ])?;
                let key = Uuid::new_v4();
                answer.execute(params![key.as_bytes(), [7_u8; 32], [9_u8; 64], now - ago])?;
            }
        }
        tx.commit()?;
        Ok(())
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> Result<PathBuf> {
        let address = address(&Repository::open(&self.root)?)?;
        Ok(address.trim_start_matches("unix:").into())
    }

    /// Starts the daemon; it is not ready yet.
    pub fn spawn(&self, preload: Option<&Path>) -> Result<Daemon> {
        let mut command = self.command(HEDDLE);
        command
            .args(["agent", "serve"])
            .env("HEDDLE_LOG", "warn")
            .stdout(Stdio::null());
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        Ok(Daemon(command.spawn()?))
    }

    /// Starts the daemon and registers three hooks.
    pub fn serve(&self, preload: Option<&Path>) -> Result<Served> {
        let daemon = self.spawn(preload)?;
        let socket = self.socket()?;
        let caller = Caller::as_soon_as_ready(&socket)?;
        caller.latencies(Call::Register, 20)?;
        Ok(Served {
            daemon,
            socket,
            caller,
        })
    }
}

/// A daemon with one caller.
pub struct Served {
    pub daemon: Daemon,
    pub socket: PathBuf,
    pub caller: Caller,
}

/// The daemon's process; killed when dropped.
pub struct Daemon(Child);

impl Daemon {
    /// Ends it as a service manager would.
    pub fn stop(mut self) -> Result {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM)?;
        let end = Instant::now() + GONE;
        while self.0.try_wait()?.is_none() {
            if Instant::now() > end {
                return Err("the daemon does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Its proportional share of memory, in MiB; `None` where the kernel does not tell.
    pub fn pss(&self) -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0.id())).ok()?;
        let line = text.lines().find(|line| line.starts_with("Pss:"))?;
        let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kibibytes / 1024.0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
