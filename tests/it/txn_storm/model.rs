//! What was acknowledged, and whether it is what is there.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::sync::watch;
use uuid::Uuid;

use super::{
    asks::{Ask, Given},
    client::Place,
};
use crate::{
    fault::{database, stored},
    harness::TestRepo,
    scenes::{query, refs_by_git, refs_by_store},
};

/// A call that was answered.
pub struct Call {
    pub key: Uuid,
    /// Who made it: the calls of one client are in their order.
    pub client: usize,
    pub ask: Ask,
    pub given: Given,
}

/// How a transaction was ended.
pub struct End {
    pub key: Uuid,
    pub ask: Ask,
    pub given: Given,
}

pub struct Txn {
    pub id: String,
    thread: String,
    calls: Mutex<Vec<Call>>,
    ends: Mutex<Vec<End>>,
}

impl Txn {
    pub fn buffered(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    pub fn ended(&self, end: End) {
        self.ends.lock().unwrap().push(end);
    }
}

pub struct Model {
    txns: Mutex<Vec<Arc<Txn>>>,
    alone: Mutex<Vec<Call>>,
    /// Rewinds that were refused: what they were about to replace may be captured all the same.
    rescues: Mutex<HashSet<Uuid>>,
    counts: Mutex<BTreeMap<String, u32>>,
    pub answers: watch::Sender<u64>,
    began: Instant,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            txns: Mutex::default(),
            alone: Mutex::default(),
            rescues: Mutex::default(),
            counts: Mutex::default(),
            answers: watch::Sender::new(0),
            began: Instant::now(),
        }
    }
}

/// A row of the operation log.
struct Row {
    verb: String,
    key: Option<Uuid>,
    thread: Option<String>,
    state: Option<String>,
}

/// Figures.
#[derive(Default)]
pub struct Checked {
    answers: u64,
    committed: u32,
    aborted: u32,
    expired: u32,
    rewound: u32,
    counts: BTreeMap<String, u32>,
    seconds: f64,
}

impl Model {
    pub fn began(&self, id: String, thread: String) -> Arc<Txn> {
        let (calls, ends) = (Mutex::default(), Mutex::default());
        let txn = Arc::new(Txn {
            id,
            thread,
            calls,
            ends,
        });
        self.txns.lock().unwrap().push(Arc::clone(&txn));
        txn
    }

    pub fn alone(&self, call: Call) {
        self.alone.lock().unwrap().push(call);
    }

    pub fn not_rewound(&self, key: Uuid) {
        self.rescues.lock().unwrap().insert(key);
    }

    pub fn count(&self, what: &str) {
        *self
            .counts
            .lock()
            .unwrap()
            .entry(what.to_owned())
            .or_default() += 1;
    }

    /// Checks what a stopped daemon left against what was acknowledged.
    pub fn check(&self, repo: &TestRepo, places: &[Arc<Place>]) -> Checked {
        let mut checked = Checked {
            answers: *self.answers.borrow(),
            counts: self.counts.lock().unwrap().clone(),
            seconds: self.began.elapsed().as_secs_f64(),
            ..Checked::default()
        };
        let log = log(&repo.store_dir());
        let place: HashMap<Uuid, usize> = log
            .iter()
            .enumerate()
            .filter_map(|(at, row)| Some((row.key?, at)))
            .collect();
        let (_copy, database) = database(&repo.store_dir()).unwrap();
        let stands: HashMap<String, (String, usize)> =
            query(&database, "SELECT id, state, calls FROM txn", |row| {
                let id = Uuid::from_bytes(row.get(0)?).to_string();
                Ok((id, (row.get(1)?, row.get(2)?)))
            })
            .into_iter()
            .collect();
        let txns = self.txns.lock().unwrap();
        // A begin that was acknowledged is one, and no other began.
        assert_eq!(stands.len(), txns.len());
        let mut applied = HashMap::new();
        let mut ends = HashSet::new();
        for txn in txns.iter() {
            let (state, calls) = &stands[&txn.id];
            txn.check(state, *calls, &log, &place, &mut checked);
            ends.extend(txn.ends.lock().unwrap().iter().map(|end| end.key));
            for call in txn.calls.lock().unwrap().iter() {
                if state == "committed" {
                    applied.insert(call.key, call.ask.clone());
                }
            }
        }
        for call in self.alone.lock().unwrap().iter() {
            assert_eq!(place.contains_key(&call.key), !call.given.unchanged);
            applied.insert(call.key, call.ask.clone());
        }
        check_all_known(&log, &applied, &ends, &self.rescues.lock().unwrap());
        check_content(repo, &log, &applied, places);
        checked
    }
}

impl Txn {
    fn check(
        &self,
        state: &str,
        buffered: usize,
        log: &[Row],
        place: &HashMap<Uuid, usize>,
        checked: &mut Checked,
    ) {
        let (calls, ends) = (self.calls.lock().unwrap(), self.ends.lock().unwrap());
        let id = &self.id;
        let commit = ends.iter().find(|end| end.ask == Ask::Commit);
        let aborted = ends.iter().any(|end| end.ask != Ask::Commit);
        assert!(
            commit.is_none() || !aborted,
            "{id} was committed and aborted"
        );
        // Whoever was told that it was aborted may have been told so of a call that was kept before.
        let true_count = buffered == calls.len() || state == "aborted" && buffered > calls.len();
        assert!(true_count, "{id}, {state}: {buffered} of {}", calls.len());
        let Some(commit) = commit else {
            assert!(
                state == "aborted" || state == "active" && !aborted,
                "{id} is {state}"
            );
            match (state, aborted) {
                ("aborted", true) => checked.aborted += 1,
                ("aborted", false) => checked.expired += 1,
                _ => {}
            }
            let rewound =
                |end: &&End| place.contains_key(&end.key) && end.ask == Ask::Abort { rewind: true };
            checked.rewound += ends.iter().filter(rewound).count() as u32;
            let there: Vec<_> = calls
                .iter()
                .filter(|call| place.contains_key(&call.key))
                .collect();
            assert!(
                there.is_empty(),
                "{id} is {state}, and calls of it were applied"
            );
            return;
        };
        checked.committed += 1;
        assert_eq!(state, "committed", "{id}");
        assert_eq!(commit.given.calls as usize, calls.len(), "{id}");
        self.check_order(&calls, commit, log, place);
        self.check_captures(&calls, commit, place);
    }

    /// The calls and the commit are beside each other, each once, in the order of their being made.
    fn check_order(&self, calls: &[Call], commit: &End, log: &[Row], place: &HashMap<Uuid, usize>) {
        let id = &self.id;
        let end = place[&commit.key];
        assert_eq!(log[end].verb, "transaction_commit");
        let at = |call: &&Call| place.get(&call.key).copied();
        let mut places: Vec<_> = calls.iter().filter_map(|call| at(&call)).collect();
        places.sort_unstable();
        let expected: Vec<_> = (end - places.len()..end).collect();
        assert_eq!(places, expected, "{id}");
        for call in calls.iter() {
            let once = match call.ask {
                Ask::Capture | Ask::Deregister(_) => !call.given.unchanged,
                // It may have been complete before.
                Ask::Complete(_) => continue,
                _ => true,
            };
            assert_eq!(place.contains_key(&call.key), once, "{id}: {:?}", call.ask);
        }
        let clients: HashSet<_> = calls.iter().map(|call| call.client).collect();
        for client in clients {
            let own = calls.iter().filter(|call| call.client == client);
            let own: Vec<_> = own.filter_map(|call| at(&call)).collect();
            assert!(own.is_sorted(), "{id}: the calls of client {client}");
        }
    }

    /// Each came after the one before it, and the last is where the commit led.
    fn check_captures(&self, calls: &[Call], commit: &End, place: &HashMap<Uuid, usize>) {
        let made = |call: &&Call| call.ask == Ask::Capture && !call.given.unchanged;
        let mut captures: Vec<_> = calls.iter().filter(made).collect();
        captures.sort_unstable_by_key(|call| place[&call.key]);
        for pair in captures.windows(2) {
            assert_eq!(pair[1].given.parent, pair[0].given.state, "{}", self.id);
        }
        if let Some(last) = captures.last() {
            assert_eq!(commit.given.state, last.given.state, "{}", self.thread);
        }
    }
}

fn log(store_dir: &Path) -> Vec<Row> {
    let (_copy, database) = database(store_dir).unwrap();
    let rows = "SELECT verb, agent, thread, lower(hex(state_id)) FROM operation ORDER BY seq";
    query(&database, rows, |row| {
        let agent: Option<String> = row.get(1)?;
        Ok(Row {
            verb: row.get(0)?,
            key: agent.map(|agent| agent.parse().unwrap()),
            thread: row.get(2)?,
            state: row.get(3)?,
        })
    })
}

/// Nothing is there that was not acknowledged, and nothing twice. A rewind has a rescue and a restore
/// of its own.
fn check_all_known(
    log: &[Row],
    applied: &HashMap<Uuid, Ask>,
    ends: &HashSet<Uuid>,
    rescues: &HashSet<Uuid>,
) {
    let mut seen = HashSet::new();
    for row in log {
        let Some(key) = row.key else { continue };
        match &*row.verb {
            "transaction_begin" => {}
            "snapshot" | "goto" if ends.contains(&key) => continue,
            "snapshot" if rescues.contains(&key) => continue,
            "transaction_commit" | "transaction_abort" => {
                assert!(ends.contains(&key), "{key} was not acknowledged");
            }
            verb => assert!(
                applied.contains_key(&key),
                "{verb} {key} was not acknowledged"
            ),
        }
        assert!(seen.insert(key), "{key} is there twice");
    }
}

/// Hooks, threads and refs are as the log has it.
fn check_content(
    repo: &TestRepo,
    log: &[Row],
    applied: &HashMap<Uuid, Ask>,
    places: &[Arc<Place>],
) {
    let (mut hooks, mut started) = (HashMap::new(), BTreeMap::new());
    let mut tips = HashMap::new();
    for row in log {
        if let ("snapshot" | "goto", Some(thread)) = (&*row.verb, &row.thread) {
            tips.insert(thread.clone(), row.state.clone().unwrap());
        }
        let Some(key) = row.key else { continue };
        match applied.get(&key) {
            Some(Ask::Register(name)) => drop(hooks.insert(name.clone(), format!("true {key}"))),
            Some(Ask::Deregister(name)) => drop(hooks.remove(name)),
            Some(Ask::Start(name)) => drop(started.insert(name.clone(), false)),
            Some(Ask::Complete(name)) => drop(started.insert(name.clone(), true)),
            _ => {}
        }
    }
    assert_eq!(stored(&repo.store_dir()).hooks, hooks);
    let (_copy, database) = database(&repo.store_dir()).unwrap();
    let threads = "SELECT name, complete, lower(hex(current_state)) FROM thread";
    let threads = query(&database, threads, |row| {
        Ok((
            row.get::<_, String>(0)?,
            (row.get(1)?, row.get::<_, String>(2)?),
        ))
    });
    let mut threads: BTreeMap<String, (bool, String)> = threads.into_iter().collect();
    for place in places {
        let (_, state) = threads.remove(&place.thread).unwrap();
        if let Some(tip) = tips.get(&place.thread) {
            assert_eq!(state, *tip, "{}", place.thread);
        }
    }
    let found: BTreeMap<_, _> = threads
        .into_iter()
        .map(|(name, (done, _))| (name, done))
        .collect();
    assert_eq!(found, started);
    assert_eq!(
        refs_by_git(&|args| repo.git(args)),
        refs_by_store(repo.root())
    );
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            answers, seconds, ..
        } = self;
        writeln!(f, "{answers} calls answered in {seconds:.1} s")?;
        let Self {
            committed,
            aborted,
            rewound,
            expired,
            ..
        } = self;
        write!(
            f,
            "transactions: {committed} committed, {aborted} aborted ({rewound} rewound), {expired} expired"
        )?;
        for (what, count) in &self.counts {
            write!(f, "\n{count} {what}")?;
        }
        Ok(())
    }
}
