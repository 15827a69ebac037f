//! Git, seen from heddle: opening a repository, its folders, its configured identity. Nothing but
//! this folder knows Git; nothing in it writes outside `.heddle/`, `<git-common-dir>/heddle/` and
//! the exclude line (G9).

mod checkout;
mod commit;
mod config_files;
mod diff;
mod filesystem;
mod folders;
mod git_dir;
mod head;
mod identity;
mod name;
mod objects;
mod patch;
mod refs;
mod repo_path;
mod repository;
mod revision;
mod scan;
mod state_id;
mod user_index;
mod worktrees;

pub use checkout::{
    CheckedOut, Checkout, CheckoutError, Plan, check_out, sweep_checkouts, undo_interrupted,
};
pub use commit::{CommitText, new_change_id};
pub use diff::{Change, Entry, GraftError};
pub use folders::{ADDRESS_SUFFIX, Created, Folders};
pub use git_dir::GitDir;
pub use gix::ObjectId;
pub use head::Head;
pub use identity::{Identity, IdentitySource};
pub use name::check_ref_name;
pub use objects::{ObjectBatch, ObjectError, sweep_objects};
pub use patch::{Compare, Comparison, FileChange, FileChangeKind, compare_trees};
pub use refs::{NAMESPACE, RefMove, RefWriter};
pub use repo_path::{PathError, RepoPath, shown_path};
pub use repository::{Error, LinkedWorktree, Repository};
pub use revision::NotAState;
pub use scan::{DEFAULT_SIZE_GUARD, LeftOut, ScanError, ScanOptions, Scanned, Scanner};
pub use state_id::StateId;
pub use user_index::{IndexError, IndexUpdate, SavedIndex, sweep_indexes};
pub use worktrees::Worktree;
