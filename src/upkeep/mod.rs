//! Upkeep: chains of captures that are past their time are dropped, and what there is in database,
//! refs, objects and folders is checked and mended. It must never drop what somebody still needs,
//! nor be in the way of calls.

mod by_itself;
mod check;
mod garbage;
mod offline;
mod rebuild;
mod refs;
mod take_in;

pub use by_itself::by_itself;
pub use check::{Checkup, check};
pub use garbage::{CollectGarbage, Collected};
pub use offline::{check_without_daemon, repair_without_daemon};
pub use refs::reconcile;

/// How long ended chains are kept. One goes when it is beyond both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many ended chains of each thread stay, the newest.
    pub chains: u32,
    /// Chains that ended within so many days stay.
    pub days: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            chains: 50,
            days: 30,
        }
    }
}

/// What a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// `heddle.db`.
    Database,
    /// The refs under `refs/heddle/`.
    Refs,
    /// The Git objects of captures.
    Objects,
    /// The heddle folders, and what keeps them from others.
    Folders,
    /// The links of linked worktrees to the socket.
    Links,
    /// Versions of client, daemon, database and Git.
    Versions,
    /// Remotes to which captures would be published.
    Remotes,
}

impl Area {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Refs => "refs",
            Self::Objects => "objects",
            Self::Folders => "folders",
            Self::Links => "links",
            Self::Versions => "versions",
            Self::Remotes => "remotes",
        }
    }
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Good,
    /// It works, and somebody should know.
    Warning,
    /// Something is wrong.
    Bad,
    /// Something was wrong and has been mended.
    Repaired,
}

/// What a check found in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub area: Area,
    /// How it stands.
    pub severity: Severity,
    /// What was found, and what to do about it.
    pub message: String,
}

impl Finding {
    fn new(area: Area, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            area,
            severity,
            message: message.into(),
        }
    }
}

/// Things of one sort that a check names one by one; the rest is counted.
const NAMED: usize = 10;

/// The first of `findings`, and how many more there are.
fn shortened(area: Area, mut findings: Vec<Finding>) -> Vec<Finding> {
    if findings.len() > NAMED {
        let more = findings.split_off(NAMED);
        let worst = [Severity::Bad, Severity::Warning, Severity::Repaired]
            .into_iter()
            .find(|severity| more.iter().any(|finding| finding.severity == *severity));
        let message = format!("and {} more like these", more.len());
        let severity = worst.unwrap_or(Severity::Good);
        findings.push(Finding::new(area, severity, message));
    }
    findings
}

/// `1 chain`, `2 chains`.
fn counted(count: impl Into<u64>, one: &str) -> String {
    match count.into() {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    }
}
