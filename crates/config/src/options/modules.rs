//! The stanzas of modules and their options.
//!
//! A module that Posthaste has lists its options as typed statics. One that it does not have is still known by name, so
//! that files written for Momentum load with a warning; of such a module no option is an error.

use super::*;
use crate::schema::{Naming, ScopeClass};
use crate::scopes::*;
use std::sync::Arc;

options! {
    /// `false`: the module is loaded and can be called from policy, but runs nothing by itself.
    MODULE_ENABLED: bool = boolean("Enabled", "true", MODULE.or(MODULE_PART));
    /// Level from which the module logs.
    MODULE_DEBUG_LEVEL: Option<Arc<str>> = optional("Debug_Level", MODULE.or(MODULE_PART));
}

/// Options that every module has.
pub(crate) static COMMON: &[&OptionDecl] = DECLS;

pub(crate) static SCOPED: &[&OptionDecl] = &[];

/// Options of loggers and scripts.
pub mod own {
    use super::*;

    options! {
        /// The script, without its extension; `.` and `/` separate folders.
        SCRIPT_SOURCE: Option<Arc<str>> = optional("Source", MODULE_PART);
        /// Receptions, deliveries and failures.
        EC_LOGGER_MAINLOG: Arc<str> = text("MainLog", "/var/log/ecelerity/mainlog.ec", MODULE);
        /// Refusals.
        EC_LOGGER_REJECTLOG: Arc<str> = text("RejectLog", "/var/log/ecelerity/rejectlog.ec", MODULE);
        /// Events of the program itself.
        EC_LOGGER_PANICLOG: Arc<str> = text("PanicLog", "/var/log/ecelerity/paniclog.ec", MODULE);
        /// Logins and console commands.
        EC_LOGGER_ACCTLOG: Arc<str> = text("AcctLog", "/var/log/ecelerity/acctlog.ec", MODULE);
        /// Pause between heartbeat lines; 0 writes none.
        EC_LOGGER_HEARTBEAT: u64 = interval("Heartbeat", "60", MODULE);
    }
}
pub use own::*;

const fn module(name: &'static str, naming: Naming, doc: &'static str) -> ScopeClass {
    ScopeClass { name, kind: ScopeKind::Module, naming, parts: &[], options: &[], status: Status::Missing, doc }
}

pub(crate) static ADAPTIVE_SWEEP_RULE: ScopeClass = ScopeClass {
    kind: ScopeKind::ModulePart,
    ..module("Adaptive_Sweep_Rule", Naming::Named, "Thresholds of bounce and complaint rates, and what follows.")
};
pub(crate) const SWEEP_PARTS: &[&ScopeClass] = &[&ADAPTIVE_SWEEP_RULE];

static EC_LOGGER: ScopeClass = ScopeClass {
    options: &[
        &EC_LOGGER_MAINLOG.decl,
        &EC_LOGGER_REJECTLOG.decl,
        &EC_LOGGER_PANICLOG.decl,
        &EC_LOGGER_ACCTLOG.decl,
        &EC_LOGGER_HEARTBEAT.decl,
    ],
    status: Status::Implemented,
    ..module("EC_Logger", Naming::Optional, "mainlog and its kin.")
};
static SCRIPT: ScopeClass = ScopeClass {
    kind: ScopeKind::ModulePart,
    options: &[&SCRIPT_SOURCE.decl],
    status: Status::Implemented,
    ..module("Script", Naming::Named, "A script of the policy.")
};
static SCRIPTLET: ScopeClass = ScopeClass {
    parts: &[&SCRIPT],
    status: Status::Implemented,
    ..module("Scriptlet", Naming::Optional, "Policy in Lua.")
};

pub(crate) const MODULES: &[&ScopeClass] = &[&EC_LOGGER, &SCRIPTLET];
