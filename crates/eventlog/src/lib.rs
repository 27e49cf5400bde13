//! What happened: the logs that Momentum's parsers read, the same events as JSON lines, metrics; and the clock.
//!
//! Every room tells its events to one `EventLog`, borrowed and typed; it counts them and appends one line to each file
//! that wants them. Telling never waits for a disk: a writer thread owns the files. Formats and metrics are declared
//! once, and the pages under `docs/formats/` are made from the declarations (`pages`).
//!
//! ```ignore
//! let log = EventLog::open(LogSettings::momentum());
//! log.reception(now, &envelope, None);
//! log.transient(now, &envelope, &Attempt { stage: Stage::AfterRcptTo, reply: "451 later", ..Attempt::NONE });
//! log.panic(Level::Warning, Subsystem::Smtp, "something is odd");
//! ```

mod acctlog;
mod bouncelog;
pub mod clock;
mod custom;
mod declare;
mod facts;
mod fields;
mod file;
mod json;
mod level;
mod log;
mod mainlog;
pub mod metrics;
mod out;
pub mod pages;
mod paniclog;
mod rejectlog;
mod settings;
mod sinks;
mod stage;
mod stats;

pub use clock::Clock;
pub use custom::{Format, FormatError};
pub use facts::{Attempt, Auth, AuthResult, Authz, Bounce, CLASS_SUBSCRIBE, Decision, OutboundTls, Rejection};
pub use level::{DebugFlags, Level, Subsystem, UnknownName};
pub use log::EventLog;
pub use paniclog::{Diagnostic, KEPT_PER_LEVEL};
pub use settings::{
    BounceLogger, ChunkLogger, CustomLogger, CustomStage, DebugThrottle, EcLogger, JsonLogger, LogSettings, Rotation,
    Switches, Target, TargetError,
};
pub use sinks::SettingsError;
pub use stage::{Phase, Stage};
pub use stats::{BindingStats, RATE_WINDOW_S, Rates, Stats, Totals};
