//! Levels and subsystems of the paniclog, and the flags that choose which messages are written.
//!
//! The numbers, names and the meaning of `Debug_Flags { LEVEL = ( SUBSYSTEM … ) }` are Momentum's: a subsystem named at a
//! level is written at that level and at every level above it. Policies pass the numbers to `msys.log`.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How grave a diagnostic is; the numbers are those that policies use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    Debug = 0,
    Info = 1,
    Notice = 2,
    Warning = 3,
    Error = 4,
    Critical = 5,
}

impl Level {
    pub const ALL: [Level; 6] =
        [Level::Debug, Level::Info, Level::Notice, Level::Warning, Level::Error, Level::Critical];

    /// The level of a policy's number; numbers out of range are cut to the nearest.
    pub fn from_number(number: i64) -> Level {
        Level::ALL[number.clamp(0, 5) as usize]
    }

    /// The name in upper case, as `Debug_Flags` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Notice => "NOTICE",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
            Level::Critical => "CRITICAL",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No level or subsystem has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} '{name}'")]
pub struct UnknownName {
    kind: &'static str,
    name: String,
}

impl FromStr for Level {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Level, UnknownName> {
        Level::ALL
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownName { kind: "level", name: name.to_owned() })
    }
}

/// What part of the server a diagnostic is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Subsystem {
    /// Whatever has no subsystem of its own; written `ERROR` in `Debug_Flags`.
    Generic = 0,
    Time,
    Fd,
    Smtp,
    Log,
    Dns,
    DnsDs,
    Net,
    Sig,
    Mem,
    Db,
    Lic,
    Ssl,
    /// Modules and policies.
    Mod,
    Start,
    Dane,
    MtaSts,
}

impl Subsystem {
    pub const ALL: [Subsystem; 17] = [
        Subsystem::Generic,
        Subsystem::Time,
        Subsystem::Fd,
        Subsystem::Smtp,
        Subsystem::Log,
        Subsystem::Dns,
        Subsystem::DnsDs,
        Subsystem::Net,
        Subsystem::Sig,
        Subsystem::Mem,
        Subsystem::Db,
        Subsystem::Lic,
        Subsystem::Ssl,
        Subsystem::Mod,
        Subsystem::Start,
        Subsystem::Dane,
        Subsystem::MtaSts,
    ];

    /// The name that `Debug_Flags` uses.
    pub const fn name(self) -> &'static str {
        match self {
            Subsystem::Generic => "ERROR",
            Subsystem::Time => "TIME",
            Subsystem::Fd => "FD",
            Subsystem::Smtp => "SMTP",
            Subsystem::Log => "LOG1",
            Subsystem::Dns => "DNS",
            Subsystem::DnsDs => "DNSDS",
            Subsystem::Net => "NET",
            Subsystem::Sig => "SIG",
            Subsystem::Mem => "MEM",
            Subsystem::Db => "DB",
            Subsystem::Lic => "LIC",
            Subsystem::Ssl => "SSL",
            Subsystem::Mod => "MOD",
            Subsystem::Start => "START",
            Subsystem::Dane => "DANE",
            Subsystem::MtaSts => "MTA_STS",
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

impl fmt::Display for Subsystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Subsystem {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Subsystem, UnknownName> {
        Subsystem::ALL
            .into_iter()
            .find(|subsystem| subsystem.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownName { kind: "subsystem", name: name.to_owned() })
    }
}

/// Which diagnostics are written: a set of subsystems for each level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugFlags {
    named: [u32; 6],
}

impl DebugFlags {
    /// Nothing is written.
    pub const NONE: DebugFlags = DebugFlags { named: [0; 6] };
    const EVERY_SUBSYSTEM: u32 = (1 << Subsystem::ALL.len()) - 1;

    /// Names one subsystem at a level.
    pub fn with(mut self, level: Level, subsystem: Subsystem) -> DebugFlags {
        self.named[level as usize] |= subsystem.bit();
        self
    }

    /// Names every subsystem at a level (`ALL`).
    pub fn with_all(mut self, level: Level) -> DebugFlags {
        self.named[level as usize] = DebugFlags::EVERY_SUBSYSTEM;
        self
    }

    /// Sets one line of the `Debug_Flags` stanza, replacing what the level had. `ALL` names every subsystem.
    pub fn set(&mut self, level: Level, subsystems: &[&str]) -> Result<(), UnknownName> {
        let mut mask = 0;
        for name in subsystems {
            mask |= if name.eq_ignore_ascii_case("ALL") {
                DebugFlags::EVERY_SUBSYSTEM
            } else {
                name.parse::<Subsystem>()?.bit()
            };
        }
        self.named[level as usize] = mask;
        Ok(())
    }

    /// Whether a diagnostic of this level and subsystem is written.
    pub fn allows(&self, level: Level, subsystem: Subsystem) -> bool {
        self.named[..=level as usize].iter().any(|mask| mask & subsystem.bit() != 0)
    }
}

impl Default for DebugFlags {
    /// `ERROR = ( ALL ) CRITICAL = ( ALL )`.
    fn default() -> DebugFlags {
        DebugFlags::NONE.with_all(Level::Error).with_all(Level::Critical)
    }
}

/// The flags in force, readable from every thread with one load.
#[derive(Debug)]
pub(crate) struct LiveFlags {
    /// For each level: what is written at it, with the levels below already merged in.
    allowed: [AtomicU32; 6],
}

impl LiveFlags {
    pub(crate) fn new(flags: DebugFlags) -> LiveFlags {
        let live = LiveFlags { allowed: Default::default() };
        live.set(flags);
        live
    }

    pub(crate) fn set(&self, flags: DebugFlags) {
        let mut mask = 0;
        for (allowed, named) in self.allowed.iter().zip(flags.named) {
            mask |= named;
            allowed.store(mask, Relaxed);
        }
    }

    pub(crate) fn allows(&self, level: Level, subsystem: Subsystem) -> bool {
        self.allowed[level as usize].load(Relaxed) & subsystem.bit() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subsystem_named_at_a_level_is_written_at_every_level_above() {
        let mut flags = DebugFlags::default();
        flags.set(Level::Info, &["smtp", "DNS"]).unwrap();
        let live = LiveFlags::new(flags);
        for (level, subsystem, wanted) in [
            (Level::Debug, Subsystem::Smtp, false),
            (Level::Info, Subsystem::Smtp, true),
            (Level::Warning, Subsystem::Smtp, true),
            (Level::Warning, Subsystem::Net, false),
            (Level::Error, Subsystem::Net, true),
        ] {
            assert_eq!(flags.allows(level, subsystem), wanted, "{level} {subsystem}");
            assert_eq!(live.allows(level, subsystem), wanted, "{level} {subsystem}");
        }
    }

    #[test]
    fn names_and_numbers_go_both_ways() {
        for level in Level::ALL {
            assert_eq!(level.name().to_lowercase().parse(), Ok(level));
            assert_eq!(Level::from_number(level as i64), level);
        }
        for subsystem in Subsystem::ALL {
            assert_eq!(subsystem.name().parse(), Ok(subsystem));
        }
        assert_eq!(Level::from_number(-3), Level::Debug);
        assert_eq!(Level::from_number(99), Level::Critical);
        assert!("SMPT".parse::<Subsystem>().is_err());
    }
}
