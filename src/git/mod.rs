//! Git, seen from heddle: opening a repository, its folders, its configured identity. Nothing but
//! this folder knows Git; nothing in it writes outside `.heddle/`, `<git-common-dir>/heddle/` and
//! the exclude line (G9).

mod filesystem;
mod folders;
mod identity;
mod repository;

pub use folders::{ADDRESS_SUFFIX, Created, Folders};
pub use identity::{Identity, IdentitySource};
pub use repository::{Error, LinkedWorktree, Repository};
