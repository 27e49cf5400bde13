//! Options of the spool and of memory.

use super::*;
use crate::scopes::*;
use crate::value::Value;
use std::sync::Arc;

options! {
    /// Folder of the spool.
    SPOOLBASE: Arc<str> = text("Spoolbase", "/var/spool/ecelerity", G).restart();
    /// Mode of spool files.
    SPOOL_MODE: u32 = mode("Spool_Mode", "0640", G);
    /// Octets of a file of the spool's log, in steps of 4096. On a small file system take about a thirtieth of it: some
    /// files are always held ready.
    SPOOL_SEGMENT_SIZE: u64 = size("Spool_Segment_Size", "64m", G).restart().ours().check(segment_size);
    /// How long a full file of the log is left alone before what little is left in it is moved together. Most mail leaves
    /// by itself within seconds.
    SPOOL_COMPACT_AFTER: u64 = interval("Spool_Compact_After", "30", G).restart().ours();
    /// A message is always on the disk before it is acknowledged; `false` changes nothing.
    FORCE_FSYNC: bool = boolean("Force_FSync", "false", G).accepted();
    /// Would keep mail in memory only; not honoured.
    UNSAFE_SPOOL: bool = boolean("_Unsafe_Spool", "false", G).accepted();
    /// Removes spool files that cannot be read; here they are always set aside in quarantine.
    UNLINK_ON_SPOOL_IN_FAILURE: bool = boolean("Unlink_On_Spool_In_Failure", "true", G).accepted();
    /// Writes count and time of attempts after each failure.
    SWAP_OUT_META_AFTER_EACH_TEMPFAIL: bool = boolean("Swap_Out_Meta_After_Each_Tempfail", "true", G);
    /// Percentage of memory above which caches are dropped.
    MEMORY_GOAL: i64 = range("Memory_Goal", "90", 1, 100, G);
    /// Percentage of memory above which new mail is refused for the time being.
    MEMORY_HWM: i64 = range("Memory_HWM", "95", 1, 100, G);
}

fn segment_size(value: &Value) -> Result<(), String> {
    match value {
        Value::Amount(octets) if !(1 << 20..=1 << 30).contains(octets) => Err("it is from 1m to 1g".into()),
        _ => Ok(()),
    }
}
