//! What is logged, where and how: plain values that the binary fills from the configuration.
//!
//! Several loggers of one kind may stand beside each other; two that name the same path share one file. The default
//! logs nothing, which is what unit tests want; `LogSettings::momentum` is what a server without any logger stanza of
//! its own has in Momentum's examples.

use crate::clock::Clock;
use crate::level::DebugFlags;
use std::path::PathBuf;

/// All loggers of a process.
#[derive(Clone, Debug, Default)]
pub struct LogSettings {
    pub ec_loggers: Vec<EcLogger>,
    pub bounce_loggers: Vec<BounceLogger>,
    pub custom_loggers: Vec<CustomLogger>,
    pub chunk_loggers: Vec<ChunkLogger>,
    pub json_loggers: Vec<JsonLogger>,
    /// `log_hires_timestamp`: epoch fields are microseconds.
    pub hires_timestamps: bool,
    /// `Debug_Flags`.
    pub debug_flags: DebugFlags,
    /// `TimestampFormat`, a strftime format, for stderr and the console's `paniclog`.
    pub timestamp_format: String,
    /// Diagnostics also go to stderr (`-d`).
    pub stderr: bool,
    /// At most so many diagnostics of one template below WARNING per period; `None`: no limit.
    pub throttle: Option<DebugThrottle>,
    /// Built-in rotation of every file; `None`: rotation is somebody else's.
    pub rotation: Option<Rotation>,
    /// The clock of heartbeats, diagnostics and rotation.
    pub clock: Clock,
}

impl LogSettings {
    /// The default of `TimestampFormat`.
    pub const TIMESTAMP_FORMAT: &'static str = "[%a %d %b %Y %H:%M:%S] ";

    /// Momentum's usual set: one `ec_logger` with its default paths.
    pub fn momentum() -> LogSettings {
        LogSettings { ec_loggers: vec![EcLogger::default()], ..LogSettings::default() }
    }
}

/// `debug_throttle_max_num_same_message` and `debug_throttle_period_secs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugThrottle {
    pub messages_max: u32,
    pub period_s: u64,
}

/// When a file is renamed to `NAME.1` and begun anew. Whichever limit is reached first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Octets; `None`: no limit.
    pub size_max: Option<u64>,
    /// Seconds since the file was begun; `None`: no limit.
    pub age_max_s: Option<u64>,
    /// How many old files stay: `NAME.1` … `NAME.keep`.
    pub keep: u32,
}

/// Which events a logger writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    pub receptions: bool,
    pub deliveries: bool,
    pub transient_failures: bool,
    pub permanent_failures: bool,
    pub rejections: bool,
    /// Diagnostics.
    pub errors: bool,
}

impl Switches {
    pub const ALL: Switches = Switches {
        receptions: true,
        deliveries: true,
        transient_failures: true,
        permanent_failures: true,
        rejections: true,
        errors: true,
    };
}

impl Default for Switches {
    fn default() -> Switches {
        Switches::ALL
    }
}

/// A file: its path (`/path` or `file:///path`) and the mode it is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub path: String,
    pub mode: u32,
}

impl Target {
    pub fn new(path: impl Into<String>) -> Target {
        Target { path: path.into(), mode: 0o644 }
    }

    /// The path of the file, or why there is none.
    pub fn file(&self) -> Result<PathBuf, TargetError> {
        let path = self.path.strip_prefix("file://").unwrap_or(&self.path);
        if path.starts_with('|') {
            return Err(TargetError::Command(self.path.clone()));
        }
        match path.split_once("://") {
            Some((scheme, _)) if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                Err(TargetError::Scheme { scheme: scheme.to_owned(), target: self.path.clone() })
            }
            _ if path.is_empty() => Err(TargetError::Empty),
            _ => Ok(PathBuf::from(path)),
        }
    }
}

/// The operator named a log target that this release does not write to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("log target '{target}': '{scheme}://' is not supported; use a path or file://")]
    Scheme { scheme: String, target: String },
    #[error("log target '{0}': writing to a command is not supported; use a path or file://")]
    Command(String),
    #[error("log target is empty")]
    Empty,
}

/// A module `ec_logger`.
#[derive(Clone, Debug)]
pub struct EcLogger {
    /// The instance name, for `ec_logger:NAME reopen logs`.
    pub name: String,
    pub mainlog: Option<Target>,
    pub rejectlog: Option<Target>,
    pub paniclog: Option<Target>,
    pub acctlog: Option<Target>,
    pub switches: Switches,
    /// Seconds between heartbeats; 0: none.
    pub heartbeat_s: u64,
}

impl Default for EcLogger {
    fn default() -> EcLogger {
        let file = |name: &str| Some(Target::new(format!("/var/log/ecelerity/{name}.ec")));
        EcLogger {
            name: String::new(),
            mainlog: file("mainlog"),
            rejectlog: file("rejectlog"),
            paniclog: file("paniclog"),
            acctlog: file("acctlog"),
            switches: Switches::ALL,
            heartbeat_s: 60,
        }
    }
}

/// A module `bounce_logger` or `custom_bounce_logger`.
#[derive(Clone, Debug)]
pub struct BounceLogger {
    pub name: String,
    pub bouncelog: Target,
    pub heartbeat_s: u64,
    pub inband_bounces: bool,
    pub outofband_bounces: bool,
    pub transient_failures: bool,
    /// `custom_bounce_logger`: each line is followed by `@` and this, with `%{vctx_conn:k}` and `%{vctx_mess:k}`
    /// expanded.
    pub user_string: Option<String>,
}

impl Default for BounceLogger {
    fn default() -> BounceLogger {
        BounceLogger {
            name: String::new(),
            bouncelog: Target::new("/var/log/ecelerity/bouncelog.ec"),
            heartbeat_s: 60,
            inband_bounces: true,
            outofband_bounces: true,
            transient_failures: true,
            user_string: None,
        }
    }
}

/// One event of a `custom_logger`: its format and, if not the logger's main file, its file.
#[derive(Clone, Debug, Default)]
pub struct CustomStage {
    pub format: Option<String>,
    pub file: Option<Target>,
}

/// A module `custom_logger`. A stage with a format is written, one without is not.
#[derive(Clone, Debug, Default)]
pub struct CustomLogger {
    pub name: String,
    pub mainlog: Option<Target>,
    /// Diagnostics go here too; `None` unless `log_errors` is on.
    pub paniclog: Option<Target>,
    pub reception: CustomStage,
    pub delivery: CustomStage,
    pub transfer: CustomStage,
    pub transient_failure: CustomStage,
    pub permanent_failure: CustomStage,
    pub rejection: CustomStage,
    /// `sanitize`: `special_characters`, `non_printable`, `tr/from/to/`, comma-separated.
    pub sanitize: Option<String>,
}

/// A module `chunk_logger`: text from policies.
#[derive(Clone, Debug)]
pub struct ChunkLogger {
    pub name: String,
    pub destination: Target,
    /// strftime; empty: no time stamp.
    pub timestamp_format: String,
    pub add_newline: bool,
}

/// The events as JSON lines.
#[derive(Clone, Debug)]
pub struct JsonLogger {
    pub name: String,
    pub file: Target,
    pub switches: Switches,
    /// Authentications and authorizations too.
    pub accounting: bool,
    /// Seconds between heartbeats; 0: none.
    pub heartbeat_s: u64,
}
