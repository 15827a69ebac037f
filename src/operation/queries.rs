//! Reading the newest operations that match.

use super::{Operation, OperationFilter};
use crate::store::{Error, ReadTx};

/// Operations in one answer at most.
pub const QUERY_LIMIT: u32 = 10_000;

/// The newest matching operations, in ascending order.
#[derive(Debug, Default)]
pub struct Page {
    /// The operations.
    pub operations: Vec<Operation>,
    /// Whether more matched than an answer can hold.
    pub truncated: bool,
}

/// Reads the newest `limit` operations that match, at most [`QUERY_LIMIT`], and stops early when
/// `fits` says that the answer would become too large.
///
/// # Errors
/// When the store cannot be read.
pub fn query(
    tx: &ReadTx<'_>,
    filter: &OperationFilter,
    limit: u32,
    mut fits: impl FnMut(&Operation) -> bool,
) -> Result<Page, Error> {
    let capped = limit.min(QUERY_LIMIT);
    // One more than can be answered tells whether the cap left any out.
    let asked = if limit >= QUERY_LIMIT {
        capped + 1
    } else {
        capped
    };
    let mut page = Page::default();
    tx.operations_newest_first(filter, asked, |operation| {
        if page.operations.len() == capped as usize || !fits(&operation) {
            page.truncated = true;
            return false;
        }
        page.operations.push(operation);
        true
    })?;
    page.operations.reverse();
    Ok(page)
}
