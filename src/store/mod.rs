//! The store: one SQLite database in `<git-common-dir>/heddle/`, the authority for everything that
//! is not a Git object. One thread writes; reads have connections of their own and never wait for
//! it. Nothing but this folder knows SQL; each noun's SQL is in the file of its name.

mod chains;
mod checkpoint;
mod dedup;
mod discussions;
mod engine;
mod error;
mod files;
mod health;
mod hooks;
mod migrations;
mod notices;
mod operations;
mod outbox;
mod readers;
mod reflogs;
mod review;
mod signals;
mod steps;
mod symbols;
mod threads;
mod transactions;
mod writer;

pub use chains::{ChainRecord, EndedChain, Fate};
pub use dedup::{DEDUP_RETENTION, OperationDedupStore, Recorded};
pub use discussions::{AnnotationRecord, DiscussionRecord, Resolution, TurnRecord};
pub use engine::{Sizes, Store, StoreGuard};
pub use error::Error;
pub use health::{Condition, Schema, condition, set_aside};
pub use hooks::HookRecord;
pub use notices::{NOTICE_LIMIT, NoticeRecord};
pub use operations::{NewOperation, Operation, OperationFilter};
pub use outbox::{IntentRecord, RefMoveRecord};
pub use readers::ReadTx;
pub use reflogs::ReflogRecord;
pub use review::{CheckRecord, SignatureRecord};
pub use signals::{PendingRecord, SignalsRecord};
pub use steps::{Line, Step};
pub use symbols::{BlobRecord, FolderCounts, SymbolReads, SymbolStore, SymbolWrites};
pub use threads::{StateRecord, ThreadRecord};
pub use transactions::{BufferedCall, TransactionRecord, TransactionState};
pub use writer::{QUEUE_LIMIT, Write, WriteTx, WriterStatistics};
