//! The database: is the file sound, does it agree with itself.

use super::unseen;
use crate::{
    store::{Schema, Store},
    upkeep::{Area, Finding, Severity},
};

const MEND: &str = "run `heddle doctor --repair`: it stops the daemon, keeps the damaged file under another name, makes a new database, and rebuilds threads and captures from refs/heddle/";

/// Looks at the open database. Blocks; reads all of it.
pub(in crate::upkeep) fn database(store: &Store) -> Vec<Finding> {
    let bad = |message| vec![Finding::new(Area::Database, Severity::Bad, message)];
    match store.read(|tx| tx.integrity_faults()) {
        Ok(faults) if faults.is_empty() => {}
        Ok(faults) => {
            let faults = faults.join("; ");
            return bad(format!("the database is damaged ({faults}); {MEND}"));
        }
        Err(error) => return bad(format!("{error}; {MEND}")),
    }
    let found = store.read(|tx| Ok((tx.schema()?, tx.strays()?)));
    let (schema, strays) = match found {
        Ok(found) => found,
        Err(error) => return vec![unseen(Area::Database, &error)],
    };
    if strays.is_empty() {
        return vec![Finding::new(Area::Database, Severity::Good, sound(&schema))];
    }
    let strays = strays.into_iter().map(|(what, count)| {
        let message = format!(
            "the database has {what}: {count}; that is a fault of heddle's: please report it with the output of `heddle doctor --output json`"
        );
        Finding::new(Area::Database, Severity::Warning, message)
    });
    strays.collect()
}

fn sound(schema: &Schema) -> String {
    format!(
        "heddle.db is sound: schema {}, written by heddle {}, {} KiB",
        schema.number,
        schema.written_by,
        schema.bytes / 1024
    )
}
