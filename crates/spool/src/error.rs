//! What can go wrong in the spool, told apart by what the caller does about it and who is to blame.
//!
//! `Full` becomes `452 4.3.1` and mends itself; `Io` becomes `451 4.3.0` and is the disk's fault; `Corrupt` costs one
//! message and a line in the panic log; `Locked`, `Format` and `Import` are for the operator. Every variant is cheap to
//! clone, since one failed sync is the answer to every session of a batch.

use ph_message::Id;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file system has no room (or the spool may not grow). Nothing of the transaction will be delivered; the spool
    /// takes mail again by itself as soon as there is room.
    #[error("the spool is full")]
    Full,
    /// The disk failed. Nothing of the transaction was acknowledged.
    #[error("spool: {op} of {}: {source}", path.display())]
    Io {
        /// The call that failed, such as `fdatasync`.
        op: &'static str,
        path: PathBuf,
        source: Arc<io::Error>,
    },
    /// Another process has this spool open.
    #[error("the spool {} is in use by {}", path.display(), holder(*pid))]
    Locked { path: PathBuf, pid: Option<u32> },
    /// No message has this key: it is done.
    #[error("no such message in the spool")]
    NotFound,
    /// What is stored fails its checksum. Its bytes were copied to `quarantined`; the caller reports and calls `done`.
    #[error("spool: damaged record in {} at offset {offset}; {}", file.display(), copy_of(quarantined.as_deref()))]
    Corrupt { file: PathBuf, offset: u64, quarantined: Option<PathBuf> },
    /// One transaction is larger than a segment holds, even with its bodies in files of their own.
    #[error("a transaction of {size} octets is over the spool's limit of {max}")]
    TooLarge { size: u64, max: u64 },
    /// A message with this id is in the spool already: ids must be unique, or a restart would confuse the two.
    #[error("a message with id {0} is in the spool already")]
    DuplicateId(Id),
    /// A file of the spool was written by a version that this one does not know.
    #[error("{}: {what}", path.display())]
    Format { path: PathBuf, what: String },
    /// A file to import is not one that `export` wrote.
    #[error("import of {}: {what}", path.display())]
    Import { path: PathBuf, what: String },
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
}

impl SpoolError {
    /// Whether the cause is a lack of room: `ENOSPC`, `EDQUOT`, `EFBIG`.
    pub fn is_full(&self) -> bool {
        matches!(self, SpoolError::Full)
    }

    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> SpoolError {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => SpoolError::Full,
            _ => SpoolError::Io { op, path: path.to_owned(), source: Arc::new(source) },
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn copy_of(quarantined: Option<&Path>) -> String {
    quarantined.map_or_else(|| "no copy could be made".to_owned(), |path| format!("a copy is in {}", path.display()))
}
