//! What a spool is opened with, and what it says about itself: options, open report, statistics.

use crate::io::{DiskIo, Io};
use crate::large::LargeBody;
use ph_message::{Content, DeliveryState, Envelope, SpoolKey, Summary};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How to open a spool. `SpoolOptions::new(dir)` has the defaults.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// The spool's folder; made when it does not exist.
    pub dir: PathBuf,
    /// Permission bits of the spool's files.
    pub mode: u32,
    /// Octets of a new segment: a multiple of 4096, at least 32 KiB. Segments of other sizes stay readable.
    pub segment_bytes: u32,
    /// Octets of recent content that are kept in memory, so that mail that leaves at once is not read back.
    pub cache_bytes: usize,
    /// Prepared segments to hold ready. One of them is a reserve that commits never take, so that `done` records and
    /// compaction have room on a full disk.
    pub spares: usize,
    /// Empty segments kept for reuse; more are deleted.
    pub spares_max: usize,
    /// Segments held open for reading at once.
    pub open_files_max: usize,
    /// A sealed segment whose live octets are below this share is compacted. 0 switches compaction off.
    pub compact_below_percent: u32,
    /// How long after its sealing a segment is left alone by compaction: most of its mail leaves by itself.
    pub compact_after: Duration,
    /// Octets per second that compaction may write.
    pub compact_bytes_per_s: u64,
    /// How long a `done` or `update` record may wait for a batch to travel with.
    pub flush_after: Duration,
    /// How long written `done` and `update` records may stay without a sync when no commit brings one.
    pub sync_after: Duration,
    /// Writes the first segment of a new spool with zeros before `open` returns, instead of only reserving its blocks:
    /// a slower first start, and a third less latency until the first segment is full.
    pub prewrite: bool,
    /// The disk. Tests hand in one that fails.
    pub io: Arc<dyn Io>,
}

impl SpoolOptions {
    pub fn new(dir: impl Into<PathBuf>) -> SpoolOptions {
        SpoolOptions {
            dir: dir.into(),
            mode: 0o640,
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            spares: 3,
            spares_max: 16,
            open_files_max: 256,
            compact_below_percent: 25,
            compact_after: Duration::from_secs(30),
            compact_bytes_per_s: 16 << 20,
            flush_after: Duration::from_millis(100),
            sync_after: Duration::from_secs(1),
            prewrite: false,
            io: Arc::new(DiskIo),
        }
    }
}

/// One message as it is stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub envelope: Arc<Envelope>,
    pub content: Content,
    pub state: DeliveryState,
}

/// One message that `open` found.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub key: SpoolKey,
    pub summary: Summary,
}

/// What `open` found and did.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// Messages in the spool.
    pub messages: u64,
    /// Segments in use.
    pub segments: usize,
    /// Segments that had no valid index and were read from end to end.
    pub scanned: usize,
    /// Octets of the last batches before a crash that belong to no whole transaction: never acknowledged.
    pub torn_bytes: u64,
    /// Damage: each with its copy in `quarantine/`.
    pub damage: Vec<Damage>,
    /// Bodies in `large/` that no message had, and that were removed.
    pub orphans: u64,
}

/// A stretch of a file that fails its checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    pub offset: u64,
    pub len: u64,
    /// What was found, in words.
    pub what: String,
    /// Where a copy of the bytes went, if one could be made.
    pub quarantined: Option<PathBuf>,
}

/// A snapshot of the spool's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolStats {
    /// Messages (envelopes) in the spool.
    pub messages: u64,
    /// Segments in use, the active one included.
    pub segments: u64,
    /// Segments prepared for use.
    pub spares: u64,
    /// Octets of the segments in use.
    pub segment_bytes: u64,
    /// Octets of them that a message, a state or a needed `done` record still uses.
    pub live_bytes: u64,
    /// Bodies in files of their own.
    pub large_bodies: u64,
    /// Since the start: transactions committed.
    pub commits: u64,
    /// Batches written for commits. `commits / batches` is the gain of group commit.
    pub batches: u64,
    /// `fdatasync` calls of the log.
    pub syncs: u64,
    /// Octets written to the log.
    pub written_bytes: u64,
    /// Commits that failed for lack of room.
    pub failed_full: u64,
    /// Commits that failed for an I/O error.
    pub failed_io: u64,
    /// Segments emptied by compaction.
    pub compacted: u64,
    /// Damaged records set aside since the start, those of `open` included.
    pub quarantined: u64,
    /// Messages in the cache of recent content.
    pub cached: u64,
    /// Octets of that cache.
    pub cached_bytes: u64,
    /// Reads answered by the cache, and reads that went to the disk.
    pub cache_hits: u64,
    pub cache_misses: u64,
}

/// Whether a content's body is a file of this spool.
pub(crate) fn large_of(content: &Content) -> Option<&LargeBody> {
    match content.body() {
        ph_message::Body::External(body) => body.as_any().downcast_ref(),
        ph_message::Body::Memory(_) => None,
    }
}
