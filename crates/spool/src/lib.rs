//! The durable store: what `commit` returned for is on stable storage, and is delivered or given up, never lost.
//!
//! An append-only log of segments with group commit: sessions encode their transaction and hand it to one committer
//! thread, which writes all that waits with one `pwritev`, syncs once, and wakes them. Messages are found by a
//! `SpoolKey`, a slot in an index of some 50 octets a message; envelope and content are read when they are needed, with
//! a bounded cache of recent ones before the disk. The format is documented to the byte in `docs/formats/spool.md`.
//!
//! ```no_run
//! # use ph_spool::{Spool, SpoolOptions};
//! # async fn example(message: (std::sync::Arc<ph_message::Envelope>, ph_message::Content)) -> Result<(), ph_spool::SpoolError> {
//! let (spool, report) = Spool::open(SpoolOptions::new("/var/spool/posthaste"), &mut |found| {
//!     println!("queued for {}", found.summary.domain);
//! })?;
//! let keys = spool.commit(vec![message]).await?; // durable from here on
//! let stored = spool.read(keys[0]).await?;
//! spool.done(keys[0]);
//! # Ok(()) }
//! ```
//!
//! `committer` writes, `pool` prepares segments, `keeper` tidies up, `recover` and `scan` read what is there, `index`
//! knows where everything is. A full or failing disk fails commits and nothing else; when there is room again, the next
//! commit succeeds.

mod batch;
mod cache;
mod check;
mod committer;
mod error;
mod format;
mod inbox;
mod index;
mod io;
mod keeper;
mod large;
mod options;
mod pool;
mod reader;
mod recover;
mod scan;
mod segindex;
mod spool;
mod transaction;
mod transfer;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub use check::{CheckReport, check};
pub use error::SpoolError;
pub use io::{DiskIo, Io, IoFile, Lock, LockGuard, Open};
pub use large::{LargeBody, LargeWriter};
pub use options::{Damage, OpenReport, Recovered, SpoolOptions, SpoolStats, Stored};
pub use spool::Spool;
pub use transfer::{ImportReport, export, import};
