//! A container's files, for those outside it: `cp`, `diff`, `export` and `commit`.
//!
//! `cp` works on what the container's processes see, volumes and binds included: through the init's root while it
//! runs, else in a mount namespace made for it. The others read the layers alone.

mod archive;
mod changes;
mod commit;
mod export;
mod open;
mod path;

pub use archive::{CopyIn, PathArchive, PathStat};
pub use changes::{Change, ChangeKind};
pub use commit::CommitRequest;
pub use export::Export;
pub use open::Hold;
