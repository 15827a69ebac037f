//! Git, seen from heddle: opening a repository, its folders, its configured identity. Nothing but
//! this folder knows Git; nothing in it writes outside `.heddle/`, `<git-common-dir>/heddle/` and
//! the exclude line (G9).

mod checkout;
mod commit;
mod config_files;
mod diff;
mod files;
mod filesystem;
mod filter;
mod folder_faults;
mod folders;
mod freed;
mod git_dir;
mod head;
mod history;
mod identity;
mod intact;
mod name;
mod objects;
mod own_refs;
mod patch;
mod patch_page;
mod patches;
mod publishing;
mod ref_files;
mod ref_logs;
mod ref_watch;
mod reflog;
mod refs;
mod repo_path;
mod repository;
mod revision;
mod scan;
mod signing;
mod state_id;
mod tree_cache;
mod tree_files;
mod user_index;
mod wanted;
mod worktrees;

pub use checkout::{
    CheckedOut, Checkout, CheckoutError, Plan, check_out, sweep_checkouts, undo_interrupted,
};
pub use commit::{CommitText, new_change_id};
pub use diff::{Change, Entry, GraftError};
pub use files::LinesTo;
pub use folder_faults::FolderFault;
pub use folders::{ADDRESS_SUFFIX, Created, Folders};
pub use freed::{Freed, KeptTips};
pub use git_dir::{GitDir, OpenedGit};
pub use gix::{ObjectId, bstr::BString};
pub use head::Head;
pub use history::{CaptureText, Said};
pub use identity::{Identity, IdentitySource};
pub use intact::Intact;
pub use name::check_ref_name;
pub use objects::{ObjectBatch, ObjectError, sweep_objects};
pub use own_refs::OwnRefs;
pub use patch::{Compare, Comparison, FileChange, FileChangeKind, begin_after, compare_trees};
pub use patches::Patch;
pub use publishing::Publishing;
pub use ref_logs::{Committed, LogName, RefLogs};
pub use ref_watch::{Moved, RefWatch};
pub use reflog::{LineId, Reflog, ReflogLine, ReflogMark};
pub use refs::{NAMESPACE, RefMove, RefWriter};
pub use repo_path::{PathError, RepoPath, shown_path};
pub use repository::{Error, LinkedWorktree, Repository};
pub use revision::NotAState;
pub use scan::{DEFAULT_SIZE_GUARD, LeftOut, ScanError, Scanned, Scanner};
pub use signing::{SigningConfig, SigningKey};
pub use state_id::StateId;
pub use tree_files::{InFolder, Rules, TreeFiles};
pub use user_index::{IndexError, IndexUpdate, SavedIndex, sweep_indexes};
pub use worktrees::{Worktree, version};
