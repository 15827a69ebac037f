//! Checking and mending a repository that no daemon serves, because its database keeps one from
//! starting.

use std::{path::Path, sync::mpsc};

use jiff::Timestamp;

use super::{
    Area, Finding, Severity,
    check::{database, objects, surroundings},
    rebuild::{Lost, TakenIn},
    refs,
};
use crate::{
    failure::Failure,
    git::{GitDir, RefWriter, Repository},
    store::{self, Condition, Store, StoreGuard, Write, WriteTx},
};

/// Checks a repository that no daemon serves, as far as that can be done without opening its
/// database for writing. Nothing is changed. Blocks.
pub fn check_without_daemon(repository: &Repository) -> Vec<Finding> {
    let mut findings = vec![told(&store::condition(&repository.store_dir()))];
    findings.extend(surroundings(repository, None, false));
    findings
}

/// Mends a repository that no daemon serves: moves a damaged database aside, makes a new one,
/// rebuilds threads and captures from `refs/heddle/`, then checks everything and mends the rest.
/// The damaged file stays, as `heddle.db.damaged-<time>`. Blocks.
///
/// The caller holds the repository's lock until this has returned; `guard` is asked before each
/// commit whether that is still so (`RepositoryLock::witness`).
///
/// # Errors
/// When the folders, the database or Git cannot be read or written.
pub fn repair_without_daemon(
    repository: &Repository,
    guard: StoreGuard,
) -> Result<Vec<Finding>, Failure> {
    let mut findings = surroundings(repository, None, true);
    let store_dir = repository.store_dir();
    let condition = store::condition(&store_dir);
    match condition {
        Condition::Sound => {}
        Condition::Unusable(_) => {
            findings.insert(0, told(&condition));
            return Ok(findings);
        }
        Condition::Missing | Condition::Damaged(_) => {
            findings.insert(0, replaced(&condition, &store_dir)?);
        }
    }
    let store = Store::open(&store_dir, guard)?;
    let mended = mend(repository, &store);
    store.close();
    findings.splice(0..0, mended?);
    Ok(findings)
}

fn told(condition: &Condition) -> Finding {
    let finding = |severity, message| Finding::new(Area::Database, severity, message);
    match condition {
        Condition::Sound => finding(Severity::Good, "heddle.db is sound".to_owned()),
        Condition::Missing => finding(
            Severity::Warning,
            "there is no heddle.db; the next daemon makes one, and rebuilds threads and captures from refs/heddle/".to_owned(),
        ),
        Condition::Damaged(fault) => finding(
            Severity::Bad,
            format!(
                "the database is damaged ({fault}); `heddle doctor --repair` keeps the file under another name, makes a new one, and rebuilds threads and captures from refs/heddle/"
            ),
        ),
        Condition::Unusable(error) => finding(Severity::Bad, error.to_string()),
    }
}

/// Makes room for a new database.
fn replaced(condition: &Condition, store_dir: &Path) -> Result<Finding, Failure> {
    let lost = "the operation log, answers of repeated calls, hooks, signatures, discussions and steps to undo begin anew";
    let message = match condition {
        Condition::Damaged(fault) => {
            let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
            let aside = store::set_aside(store_dir, &now).map_err(store::Error::from)?;
            format!(
                "the database was damaged ({fault}); it is kept as {}, and a new one was made: {lost}",
                aside.display()
            )
        }
        _ => format!("there was no database; a new one was made: {lost}"),
    };
    Ok(Finding::new(Area::Database, Severity::Repaired, message))
}

/// Mends refs and rows, with nobody else at work.
fn mend(repository: &Repository, store: &Store) -> Result<Vec<Finding>, Failure> {
    let git = GitDir::open(repository.common_dir())?;
    let writer = RefWriter::new(repository.clone());
    let before = faults(repository, store)?;
    let mut findings = database(store);
    let lost = Lost::read(&git, store, &before)?;
    if !lost.is_empty() {
        let taken = write(store, lost)?;
        let message = taken.describe();
        findings.push(Finding::new(Area::Database, Severity::Repaired, message));
        writer.make_now(taken.refs);
    }
    writer.make_now(refs::mendings(repository, &before)?);
    let after = faults(repository, store)?;
    findings.extend(refs::findings(repository, store, &after, &before));
    findings.extend(objects(repository, store));
    Ok(findings)
}

fn faults(repository: &Repository, store: &Store) -> Result<Vec<refs::RefFault>, Failure> {
    let projection = store.read(refs::Projection::read)?;
    Ok(projection.compare(&repository.own_refs()?))
}

/// Commits what was found, and waits for it.
fn write(store: &Store, lost: Lost) -> Result<TakenIn, Failure> {
    let (done, answered) = mpsc::channel();
    store.submit(Box::new(Rebuild {
        lost,
        taken: TakenIn::default(),
        done,
    }));
    answered
        .recv()
        .unwrap_or_else(|_| Err(store::Error::Stopped.into()))
}

struct Rebuild {
    lost: Lost,
    taken: TakenIn,
    done: mpsc::Sender<Result<TakenIn, Failure>>,
}

impl Write for Rebuild {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        self.taken = self.lost.write(tx)?;
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), store::Error>) {
        let Self { taken, done, .. } = *self;
        // Where whoever waited for it is gone, it is durable all the same.
        let _ = done.send(outcome.map(|()| taken).map_err(Failure::from));
    }
}
