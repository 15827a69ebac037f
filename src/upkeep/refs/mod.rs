//! The refs under `refs/heddle/` against what the store says: the store is the authority, and refs
//! are projections of it. A ref that the store does not know is never removed: it may be all that
//! is left of what an older database knew.

mod mend;
mod told;

use std::collections::{BTreeMap, HashSet};

pub use mend::reconcile;
pub(super) use mend::{check, mendings};
pub(super) use told::findings;

use crate::{
    git::{GitDir, OwnRefs, RefMove, StateId},
    store::{self, ReadTx},
    thread::ThreadName,
    transaction::held_refs,
};

/// Our refs as the store has them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Projection {
    /// Where each is to lead.
    at: BTreeMap<String, StateId>,
    /// Those that transactions move on with what they buffer.
    held: HashSet<String>,
    /// Those that were deleted lately.
    gone: HashSet<String>,
    /// Those that were moved lately; a crash may have been quicker than Git.
    lately: HashSet<String>,
}

impl Projection {
    /// Reads it. Whatever else comes to project refs adds its own here.
    pub(super) fn read(tx: &ReadTx<'_>) -> Result<Self, store::Error> {
        let threads = tx.thread_tips()?.into_iter();
        let threads = threads.map(|(name, tip)| (ThreadName::known(name).reference(), tip));
        let at = |(name, tip): (String, Vec<u8>)| Some((name, StateId::from_bytes(&tip)?));
        let mut read = Self {
            at: threads.chain(tx.kept_tips()?).filter_map(at).collect(),
            ..Self::default()
        };
        for (name, state) in held_refs(tx)? {
            read.held.insert(name.clone());
            read.at.insert(name, state);
        }
        // The last move of each says where it is to be, unless the store says so itself.
        let mut last = BTreeMap::new();
        for left in tx.ref_moves()? {
            last.insert(left.name, left.target);
        }
        for (name, target) in last {
            read.lately.insert(name.clone());
            if read.at.contains_key(&name) && !read.held.contains(&name) {
                continue;
            }
            match target.as_deref().and_then(StateId::from_bytes) {
                Some(target) => drop(read.at.insert(name, target)),
                None => drop(read.gone.insert(name)),
            }
        }
        Ok(read)
    }

    fn wanted(&self, name: &str) -> Wanted {
        match self.at.get(name) {
            Some(state) => Wanted::At(*state),
            None if self.gone.contains(name) => Wanted::Gone,
            None => Wanted::Unknown,
        }
    }

    /// What differs, by name.
    pub(super) fn compare(&self, found: &OwnRefs) -> Vec<RefFault> {
        let missing = self.at.keys().filter(|name| !found.contains_key(*name));
        let names = missing.chain(found.keys());
        let faults = names.filter_map(|name| {
            let fault = RefFault {
                name: name.clone(),
                wanted: self.wanted(name),
                found: found.get(name).copied(),
            };
            let right = match (fault.wanted, fault.found) {
                (Wanted::At(wanted), Some(Some(found))) => {
                    wanted == found || self.held.contains(name)
                }
                _ => false,
            };
            (!right).then_some(fault)
        });
        faults.collect()
    }
}

/// Where the store has a ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// At this state.
    At(StateId),
    /// Nowhere: it was deleted.
    Gone,
    /// It knows no such ref.
    Unknown,
}

/// A ref that is not as the store says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefFault {
    /// Its full name.
    pub(super) name: String,
    /// Where the store has it.
    pub(super) wanted: Wanted,
    /// Where Git has it: nowhere, at no object, or at one.
    pub(super) found: Option<Option<StateId>>,
}

impl RefFault {
    /// Whether the store knows no such ref.
    pub(super) fn is_unknown(&self) -> bool {
        self.wanted == Wanted::Unknown
    }

    /// The move that puts it right. A ref to nothing would be worse than none: Git would refuse to
    /// collect its garbage.
    fn mending(&self, git: &GitDir) -> Option<RefMove> {
        match self.wanted {
            Wanted::At(state) if git.has_object(state) => {
                Some(RefMove::to(self.name.clone(), state))
            }
            Wanted::Gone => Some(RefMove::delete(self.name.clone())),
            Wanted::At(_) | Wanted::Unknown => None,
        }
    }

    /// What is wrong, for people.
    fn describe(&self) -> String {
        let name = &self.name;
        let found = match self.found {
            None => "missing".to_owned(),
            Some(None) => "damaged".to_owned(),
            Some(Some(found)) => format!("at {found}"),
        };
        match self.wanted {
            Wanted::At(state) => format!("{name} is {found}, and should be at {}", state.short()),
            Wanted::Gone => format!("{name} is {found}, and should be gone"),
            Wanted::Unknown => format!("{name} is {found}, and not known to the database"),
        }
    }
}
