//! The index of symbols: a cache, so that what is damaged goes.

use crate::{
    symbol::Index,
    upkeep::{Area, Finding, Severity},
};

/// Looks at the database of symbols, and throws it away where it is damaged. Blocks; reads all of it.
pub(in crate::upkeep) fn symbols(index: &Index) -> Finding {
    let faults = index.faults().join("; ");
    let bytes = index.progress().bytes;
    let (severity, message) = if faults.is_empty() {
        let message = format!("symbols.db is sound: {} KiB, a cache", bytes / 1024);
        (Severity::Good, message)
    } else if bytes == 0 {
        let message = format!("symbols.db was damaged ({faults}), and is made anew");
        (Severity::Repaired, message)
    } else {
        let message = format!(
            "symbols.db is of no use ({faults}): signals are partial; the daemon's log says why"
        );
        (Severity::Warning, message)
    };
    Finding::new(Area::Database, severity, message)
}
