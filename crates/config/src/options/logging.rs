//! Options of what is written where: levels, time stamps, and the stanzas of the loggers.

use super::*;
use crate::scopes::*;
use std::sync::Arc;

const FLAGS: Scopes = Scopes::of(ScopeKind::DebugFlags);

options! {
    /// Subsystems that log at this level.
    DEBUG_FLAGS_DEBUG: Arc<[Arc<str>]> = list("Debug", "( )", FLAGS);
    /// Subsystems that log at this level.
    DEBUG_FLAGS_INFO: Arc<[Arc<str>]> = list("Info", "( )", FLAGS);
    /// Subsystems that log at this level.
    DEBUG_FLAGS_NOTICE: Arc<[Arc<str>]> = list("Notice", "( )", FLAGS);
    /// Subsystems that log at this level.
    DEBUG_FLAGS_WARNING: Arc<[Arc<str>]> = list("Warning", "( )", FLAGS);
    /// Subsystems that log at this level.
    DEBUG_FLAGS_ERROR: Arc<[Arc<str>]> = list("Error", "( ALL )", FLAGS);
    /// Subsystems that log at this level.
    DEBUG_FLAGS_CRITICAL: Arc<[Arc<str>]> = list("Critical", "( ALL )", FLAGS);
    /// Time stamp of lines on standard error, in the notation of strftime.
    TIMESTAMPFORMAT: Arc<str> = text("TimestampFormat", "[%a %d %b %Y %H:%M:%S] ", G);
    /// Times in logs are microseconds instead of seconds.
    LOG_HIRES_TIMESTAMP: bool = boolean("Log_HiRes_Timestamp", "false", G);
    /// Equal lines of the paniclog that are written in a period; 0 is no limit.
    DEBUG_THROTTLE_MAX_NUM_SAME_MESSAGE: i64 = int("Debug_Throttle_Max_Num_Same_Message", "0", G);
    /// Period for `Debug_Throttle_Max_Num_Same_Message`.
    DEBUG_THROTTLE_PERIOD_SECS: u64 = interval("Debug_Throttle_Period_Secs", "60", G);
}
