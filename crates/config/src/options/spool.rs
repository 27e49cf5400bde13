//! Options of the spool and of memory.

use super::*;
use crate::scopes::*;
use std::sync::Arc;

options! {
    /// Folder of the spool.
    SPOOLBASE: Arc<str> = text("Spoolbase", "/var/spool/ecelerity", G).restart();
    /// Mode of spool files.
    SPOOL_MODE: u32 = mode("Spool_Mode", "0640", G);
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
