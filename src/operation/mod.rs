//! The operation log: what was done, by whom, in the order in which it was committed.

mod follow;
mod queries;

pub use follow::Follow;
pub use queries::{Page, QUERY_LIMIT, query};

pub use crate::store::{Operation, OperationFilter};
