//! A repository with history and a log of operations, and the daemon that serves it.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use heddle_agent::{Repository, store::Store};
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::{
    Result,
    client::{Call, Caller},
    shared::repo::{self, Daemon},
};

/// A repository with history.
pub struct Repo(repo::Repo);

impl Deref for Repo {
    type Target = repo::Repo;

    fn deref(&self) -> &repo::Repo {
        &self.0
    }
}

impl Repo {
    /// A repository with so many commits, each with a ref of its own, below `folder`.
    pub fn create(folder: &Path, name: &str, commits: usize) -> Result<Self> {
        let repo = repo::Repo::init(folder, name)?;
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
        Ok(Self(repo))
    }

    /// Gives the store so many ended chains, of a commit of the history each, and Git their refs.
    pub fn keep_chains(&self, count: usize) -> Result {
        let mut database = Connection::open(self.root().join(".git/heddle/heddle.db"))?;
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
        let repository = Repository::open(self.root())?;
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
