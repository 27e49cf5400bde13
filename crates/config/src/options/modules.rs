//! The modules that Posthaste has, with their options; and what every module has.
//!
//! The modules of Momentum that it does not have yet are in `known_modules`.

use super::*;
use crate::schema::{Naming, ScopeClass};
use crate::scopes::*;
use std::sync::Arc;

options! {
    /// `false`: the module is loaded and can be called from policy, but runs nothing by itself. (Listeners have `enable`.)
    MODULE_ENABLED: bool = boolean("Enabled", "true", MODULE.or(MODULE_PART));
    /// Level from which the module logs.
    MODULE_DEBUG_LEVEL: Option<Arc<str>> = optional("Debug_Level", MODULE.or(MODULE_PART));
}

/// Options that every module has.
pub(crate) static COMMON: &[&OptionDecl] = DECLS;

/// Policy in Lua.
pub mod scriptlet {
    use super::*;

    options! {
        /// Life of an unused script; scripts live as long as the configuration here.
        SCRIPT_TTL: u64 = interval("Script_TTL", "300", MODULE).accepted();
        /// How long the collector of Lua waits before a new cycle, in percent of the memory in use.
        GC_PAUSE: i64 = range("GC_Pause", "200", 1, 10_000, MODULE);
        /// Speed of the collector of Lua against allocation, in percent.
        GC_STEPMUL: i64 = range("GC_Stepmul", "200", 1, 10_000, MODULE);
        /// Collects after each call; nothing to choose here.
        ALWAYS_GC: bool = boolean("Always_GC", "false", MODULE).accepted();
        /// Spare states; nothing to choose here.
        MAX_SPARE_PER_MASTER: i64 = int("Max_Spare_Per_Master", "5000", MODULE).accepted();
        /// Pause between removals of unused scripts; nothing to choose here.
        REAP_INTERVAL: u64 = interval("Reap_Interval", "1", MODULE).accepted();
    }
}

/// Scripts of a policy.
pub mod script {
    use super::*;

    options! {
        /// The script, without its extension; `.` and `/` separate folders.
        SCRIPT_SOURCE: Option<Arc<str>> = optional("Source", MODULE_PART);
    }
}

/// Momentum's logs.
pub mod ec_logger {
    use super::*;

    options! {
        /// Receptions, deliveries and failures; an empty path writes none.
        EC_LOGGER_MAINLOG: Arc<str> = text("MainLog", "/var/log/ecelerity/mainlog.ec", MODULE);
        /// Refusals.
        EC_LOGGER_REJECTLOG: Arc<str> = text("RejectLog", "/var/log/ecelerity/rejectlog.ec", MODULE);
        /// Events of the program itself.
        EC_LOGGER_PANICLOG: Arc<str> = text("PanicLog", "/var/log/ecelerity/paniclog.ec", MODULE);
        /// Logins and console commands.
        EC_LOGGER_ACCTLOG: Arc<str> = text("AcctLog", "/var/log/ecelerity/acctlog.ec", MODULE);
        /// Imports of a spool; off without a path.
        EC_LOGGER_IMPORTLOG: Option<Arc<str>> = optional("ImportLog", MODULE).missing();
        /// Mode of the mainlog.
        EC_LOGGER_MAINLOG_MODE: u32 = mode("MainLog_Mode", "0644", MODULE);
        /// Mode of the rejectlog.
        EC_LOGGER_REJECTLOG_MODE: u32 = mode("RejectLog_Mode", "0644", MODULE);
        /// Mode of the paniclog.
        EC_LOGGER_PANICLOG_MODE: u32 = mode("PanicLog_Mode", "0644", MODULE);
        /// Mode of the acctlog.
        EC_LOGGER_ACCTLOG_MODE: u32 = mode("AcctLog_Mode", "0644", MODULE);
        /// Mode of the acctlog, as some pages spell it.
        EC_LOGGER_ACCTLOG_LOG_MODE: u32 = mode("AcctLog_Log_Mode", "0644", MODULE);
        /// Mode of the mainlog, as some pages spell it.
        EC_LOGGER_MAINLOG_LOG_MODE: u32 = mode("MainLog_Log_Mode", "0644", MODULE);
        /// Mode of the rejectlog, as some pages spell it.
        EC_LOGGER_REJECTLOG_LOG_MODE: u32 = mode("RejectLog_Log_Mode", "0644", MODULE);
        /// Mode of the paniclog, as some pages spell it.
        EC_LOGGER_PANICLOG_LOG_MODE: u32 = mode("PanicLog_Log_Mode", "0644", MODULE);
        /// Mode of the importlog.
        EC_LOGGER_IMPORTLOG_MODE: u32 = mode("ImportLog_Mode", "0644", MODULE).missing();
        /// Writes receptions.
        EC_LOGGER_LOG_RECEPTIONS: bool = boolean("Log_Receptions", "true", MODULE);
        /// Writes deliveries.
        EC_LOGGER_LOG_DELIVERIES: bool = boolean("Log_Deliveries", "true", MODULE);
        /// Writes transient failures.
        EC_LOGGER_LOG_TRANSIENT_FAILURES: bool = boolean("Log_Transient_Failures", "true", MODULE);
        /// Writes permanent failures.
        EC_LOGGER_LOG_PERMANENT_FAILURES: bool = boolean("Log_Permanent_Failures", "true", MODULE);
        /// Writes refusals.
        EC_LOGGER_LOG_REJECTIONS: bool = boolean("Log_Rejections", "true", MODULE);
        /// Writes events of the program itself.
        EC_LOGGER_LOG_ERRORS: bool = boolean("Log_Errors", "true", MODULE);
        /// Pause between heartbeat lines; 0 writes none.
        EC_LOGGER_HEARTBEAT: u64 = interval("Heartbeat", "60", MODULE);
        /// Thread pool that writes; nothing to choose here.
        EC_LOGGER_THREAD_POOL: Option<Arc<str>> = optional("Thread_Pool", MODULE).accepted();
        /// Threads that write; nothing to choose here.
        EC_LOGGER_CONCURRENCY: i64 = int("Concurrency", "1", MODULE).accepted();
    }
}

/// The bouncelog.
pub mod bounce_logger {
    use super::*;

    options! {
        /// File of the bounces.
        BOUNCE_LOGGER_BOUNCELOG: Arc<str> = text("BounceLog", "/var/log/ecelerity/bouncelog.ec", MODULE);
        /// Mode of the file.
        BOUNCE_LOGGER_BOUNCELOG_MODE: u32 = mode("BounceLog_Mode", "0644", MODULE);
        /// Pause between heartbeat lines; 0 writes none.
        BOUNCE_LOGGER_HEARTBEAT: u64 = interval("Heartbeat", "60", MODULE);
        /// Writes refusals of the next hop.
        BOUNCE_LOGGER_LOG_INBAND_BOUNCES: bool = boolean("Log_Inband_Bounces", "true", MODULE);
        /// Writes bounces that came back by mail.
        BOUNCE_LOGGER_LOG_OUTOFBAND_BOUNCES: bool = boolean("Log_OutOfBand_Bounces", "true", MODULE);
        /// Writes transient failures.
        BOUNCE_LOGGER_LOG_TRANSIENT_FAILURES: bool = boolean("Log_Transient_Failures", "true", MODULE);
        /// Added to each line of a `custom_bounce_logger`, with `%{vctx_conn:k}` and `%{vctx_mess:k}` expanded.
        BOUNCE_LOGGER_USER_STRING: Option<Arc<str>> = optional("User_String", MODULE);
        /// Thread pool that writes; nothing to choose here.
        BOUNCE_LOGGER_THREAD_POOL: Option<Arc<str>> = optional("Thread_Pool", MODULE).accepted();
        /// Threads that write; nothing to choose here.
        BOUNCE_LOGGER_CONCURRENCY: i64 = int("Concurrency", "1", MODULE).accepted();
    }
}

/// Logs with formats of the site.
pub mod custom_logger {
    use super::*;

    options! {
        /// File of what has no file of its own.
        CUSTOM_LOGGER_MAINLOG: Option<Arc<str>> = optional("MainLog", MODULE);
        /// Mode of that file.
        CUSTOM_LOGGER_MAINLOG_MODE: u32 = mode("MainLog_Mode", "0644", MODULE);
        /// File of events of the program itself.
        CUSTOM_LOGGER_PANICLOG: Option<Arc<str>> = optional("PanicLog", MODULE);
        /// Mode of that file.
        CUSTOM_LOGGER_PANICLOG_MODE: u32 = mode("PanicLog_Mode", "0644", MODULE);
        /// Format of a reception; giving it turns these lines on.
        CUSTOM_LOGGER_RECEPTION_FORMAT: Option<Arc<str>> = optional("Reception_Format", MODULE);
        /// File of receptions.
        CUSTOM_LOGGER_RECEPTION_LOGFILE: Option<Arc<str>> = optional("Reception_LogFile", MODULE);
        /// Mode of that file.
        CUSTOM_LOGGER_RECEPTION_LOG_MODE: u32 = mode("Reception_Log_Mode", "0644", MODULE);
        /// Format of a delivery; giving it turns these lines on.
        CUSTOM_LOGGER_DELIVERY_FORMAT: Option<Arc<str>> = optional("Delivery_Format", MODULE);
        /// File of deliveries.
        CUSTOM_LOGGER_DELIVERY_LOGFILE: Option<Arc<str>> = optional("Delivery_LogFile", MODULE);
        /// Mode of that file.
        CUSTOM_LOGGER_DELIVERY_LOG_MODE: u32 = mode("Delivery_Log_Mode", "0644", MODULE);
        /// Format of a transfer between nodes; giving it turns these lines on.
        CUSTOM_LOGGER_XFER_FORMAT: Option<Arc<str>> = optional("Xfer_Format", MODULE);
        /// File of transfers between nodes.
        CUSTOM_LOGGER_XFER_LOGFILE: Option<Arc<str>> = optional("Xfer_LogFile", MODULE);
        /// Mode of that file.
        CUSTOM_LOGGER_XFER_LOG_MODE: u32 = mode("Xfer_Log_Mode", "0644", MODULE);
        /// Format of a transient failure; giving it turns these lines on.
        CUSTOM_LOGGER_TRANSIENT_FAILURE_FORMAT: Option<Arc<str>> = optional("Transient_Failure_Format", MODULE);
        /// File of transient failures.
        CUSTOM_LOGGER_TRANSIENT_FAILURE_LOGFILE: Option<Arc<str>> = optional("Transient_Failure_LogFile", MODULE);
        /// Mode of that file.
        CUSTOM_LOGGER_TRANSIENT_FAILURE_LOG_MODE: u32 = mode("Transient_Failure_Log_Mode", "0644", MODULE);
        /// Format of a permanent failure; giving it turns these lines on.
        CUSTOM_LOGGER_PERMANENT_FAILURE_FORMAT: Option<Arc<str>> = optional("Permanent_Failure_Format", MODULE);
        /// File of permanent failures.
        CUSTOM_LOGGER_PERMANENT_FAILURE_LOGFILE: Option<Arc<str>> = optional("Permanent_Failure_LogFile", MODULE);
        /// Mode of that file.
        CUSTOM_LOGGER_PERMANENT_FAILURE_LOG_MODE: u32 = mode("Permanent_Failure_Log_Mode", "0644", MODULE);
        /// Format of a refusal; giving it turns these lines on.
        CUSTOM_LOGGER_REJECTION_FORMAT: Option<Arc<str>> = optional("Rejection_Format", MODULE);
        /// File of refusals.
        CUSTOM_LOGGER_REJECTION_LOGFILE: Option<Arc<str>> = optional("Rejection_LogFile", MODULE);
        /// Mode of that file.
        CUSTOM_LOGGER_REJECTION_LOG_MODE: u32 = mode("Rejection_Log_Mode", "0644", MODULE);
        /// Writes receptions; it needs a format.
        CUSTOM_LOGGER_LOG_RECEPTIONS: bool = boolean("Log_Receptions", "false", MODULE);
        /// Writes deliveries; it needs a format.
        CUSTOM_LOGGER_LOG_DELIVERIES: bool = boolean("Log_Deliveries", "false", MODULE);
        /// Writes transient failures; it needs a format.
        CUSTOM_LOGGER_LOG_TRANSIENT_FAILURES: bool = boolean("Log_Transient_Failures", "false", MODULE);
        /// Writes permanent failures; it needs a format.
        CUSTOM_LOGGER_LOG_PERMANENT_FAILURES: bool = boolean("Log_Permanent_Failures", "false", MODULE);
        /// Writes refusals; it needs a format.
        CUSTOM_LOGGER_LOG_REJECTIONS: bool = boolean("Log_Rejections", "false", MODULE);
        /// Writes events of the program itself.
        CUSTOM_LOGGER_LOG_ERRORS: bool = boolean("Log_Errors", "false", MODULE);
        /// What is done to values: `special_characters`, `non_printable`, `tr/from/to/`, separated by commas.
        CUSTOM_LOGGER_SANITIZE: Option<Arc<str>> = optional("Sanitize", MODULE);
        /// Thread pool that writes; nothing to choose here.
        CUSTOM_LOGGER_THREAD_POOL: Option<Arc<str>> = optional("Thread_Pool", MODULE).accepted();
        /// Threads that write; nothing to choose here.
        CUSTOM_LOGGER_CONCURRENCY: i64 = int("Concurrency", "1", MODULE).accepted();
        /// Where macros are looked for.
        CUSTOM_LOGGER_NAMESPACE: Arc<str> = text("Namespace", "custom_logger,sieve", MODULE);
        /// Pause between heartbeat lines; 0 writes none.
        CUSTOM_LOGGER_HEARTBEAT: u64 = interval("Heartbeat", "0", MODULE).missing();
    }
}

/// Text that policies write.
pub mod chunk_logger {
    use super::*;

    options! {
        /// File of the text.
        CHUNK_LOGGER_DESTINATION: Option<Arc<str>> = optional("Destination", MODULE);
        /// Time stamp before each piece, in the notation of strftime; none without it.
        CHUNK_LOGGER_TIMESTAMP_FORMAT: Arc<str> = text("Timestamp_Format", "", MODULE);
        /// Ends each piece with a new line.
        CHUNK_LOGGER_ADD_NEWLINE: bool = boolean("Add_Newline", "true", MODULE);
        /// Mode of the file.
        CHUNK_LOGGER_MODE: u32 = mode("LogMode", "0644", MODULE);
    }
}

/// The events as JSON.
pub mod json_logger {
    use super::*;

    options! {
        /// File of the events, one JSON object a line.
        JSON_LOGGER_LOGFILE: Arc<str> = text("LogFile", "/var/log/posthaste/events.json", MODULE).ours();
        /// Mode of the file.
        JSON_LOGGER_LOG_MODE: u32 = mode("Log_Mode", "0644", MODULE).ours();
        /// Writes receptions.
        JSON_LOGGER_LOG_RECEPTIONS: bool = boolean("Log_Receptions", "true", MODULE).ours();
        /// Writes deliveries.
        JSON_LOGGER_LOG_DELIVERIES: bool = boolean("Log_Deliveries", "true", MODULE).ours();
        /// Writes transient failures.
        JSON_LOGGER_LOG_TRANSIENT_FAILURES: bool = boolean("Log_Transient_Failures", "true", MODULE).ours();
        /// Writes permanent failures.
        JSON_LOGGER_LOG_PERMANENT_FAILURES: bool = boolean("Log_Permanent_Failures", "true", MODULE).ours();
        /// Writes refusals.
        JSON_LOGGER_LOG_REJECTIONS: bool = boolean("Log_Rejections", "true", MODULE).ours();
        /// Writes events of the program itself.
        JSON_LOGGER_LOG_ERRORS: bool = boolean("Log_Errors", "true", MODULE).ours();
        /// Writes logins and console commands.
        JSON_LOGGER_ACCOUNTING: bool = boolean("Accounting", "true", MODULE).ours();
        /// Pause between heartbeat lines; 0 writes none.
        JSON_LOGGER_HEARTBEAT: u64 = interval("Heartbeat", "60", MODULE).ours();
    }
}

/// Rotation of the logs.
pub mod log_rotation {
    use super::*;

    options! {
        /// A log is rotated when it reaches this size; 0 never.
        LOG_ROTATION_SIZE: u64 = size("Size", "0", MODULE).ours();
        /// A log is rotated when it is so old; 0 never.
        LOG_ROTATION_AGE: u64 = interval("Age", "0", MODULE).ours();
        /// Old logs that stay, as `NAME.1` and so on.
        LOG_ROTATION_KEEP: i64 = range("Keep", "10", 1, 10_000, MODULE).ours();
    }
}

pub use bounce_logger::*;
pub use chunk_logger::*;
pub use custom_logger::*;
pub use ec_logger::*;
pub use json_logger::*;
pub use log_rotation::*;
pub use script::*;
pub use scriptlet::*;

const fn ready(name: &'static str, options: &'static [&'static OptionDecl], doc: &'static str) -> ScopeClass {
    ScopeClass {
        name,
        kind: ScopeKind::Module,
        naming: Naming::Optional,
        parts: &[],
        options,
        status: Status::Implemented,
        doc,
    }
}

static SCRIPT: ScopeClass = ScopeClass {
    kind: ScopeKind::ModulePart,
    naming: Naming::Named,
    ..ready("Script", script::DECLS, "A script of the policy.")
};
static SCRIPTLET: ScopeClass =
    ScopeClass { parts: &[&SCRIPT], ..ready("Scriptlet", scriptlet::DECLS, "Policy in Lua.") };
static EC_LOGGER: ScopeClass = ready("EC_Logger", ec_logger::DECLS, "mainlog, rejectlog, paniclog and acctlog.");
static BOUNCE_LOGGER: ScopeClass = ready("Bounce_Logger", bounce_logger::DECLS, "The bouncelog.");
static CUSTOM_BOUNCE_LOGGER: ScopeClass =
    ready("Custom_Bounce_Logger", bounce_logger::DECLS, "A bouncelog with a text of the site at the end of each line.");
static CUSTOM_LOGGER: ScopeClass = ready("Custom_Logger", custom_logger::DECLS, "Logs with formats of the site.");
static CHUNK_LOGGER: ScopeClass = ready("Chunk_Logger", chunk_logger::DECLS, "Text that policies write.");
static JSON_LOGGER: ScopeClass = ready("JSON_Logger", json_logger::DECLS, "Events as JSON lines; not in Momentum.");
static LOG_ROTATION: ScopeClass = ready("Log_Rotation", log_rotation::DECLS, "Rotation of all logs; not in Momentum.");
static TLS_MACROS: ScopeClass = ready("TLS_Macros", &[], "TLS facts for the formats of custom loggers.");
static DELAY_DSN: ScopeClass = ready("Delay_DSN", &[], "Reports of delays; see `Generate_Delay_DSN`.");

/// The modules that Posthaste has.
pub(crate) const READY: &[&ScopeClass] = &[
    &BOUNCE_LOGGER,
    &CHUNK_LOGGER,
    &CUSTOM_BOUNCE_LOGGER,
    &CUSTOM_LOGGER,
    &DELAY_DSN,
    &EC_LOGGER,
    &JSON_LOGGER,
    &LOG_ROTATION,
    &SCRIPTLET,
    &TLS_MACROS,
];
