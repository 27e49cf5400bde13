//! Options of the control channel and of SNMP.

use super::*;
use crate::scopes::*;
use std::sync::Arc;

const SNMP: Scopes = Scopes::of(ScopeKind::Snmp);
const TRAPS: Scopes = Scopes::of(ScopeKind::SnmpTraps);
const TRAP: Scopes = Scopes::of(ScopeKind::TrapDestination);

options! {
    /// An idle console session ends after this time.
    CONTROL_TIMEOUT: u64 = interval("Timeout", "60", C);
    /// Limit for control connections that we open ourselves.
    CONTROL_CLIENT_TIMEOUT: u64 = interval("Control_Client_Timeout", "60", G);
    /// Whether the SNMP agent runs.
    SNMP_STATE: Option<Arc<str>> = optional("State", SNMP).missing();
    /// Address and port of the SNMP agent.
    SNMP_ADDRESS: Option<Arc<str>> = optional("Address", SNMP).missing();
    /// Community of the SNMP agent.
    SNMP_COMMUNITY: Option<Arc<str>> = optional("Community", SNMP).missing();
    /// Contact that the SNMP agent tells.
    SNMP_SYSCONTACT: Option<Arc<str>> = optional("SysContact", SNMP).missing();
    /// Description that the SNMP agent tells.
    SNMP_SYSDESCRIPTION: Option<Arc<str>> = optional("SysDescription", SNMP).missing();
    /// Place that the SNMP agent tells.
    SNMP_SYSLOCATION: Option<Arc<str>> = optional("SysLocation", SNMP).missing();
    /// Pause between traps.
    SNMP_TRAP_INTERVAL: u64 = interval("Trap_Interval", "60", TRAPS);
    /// Pause between looks at watched variables.
    SNMP_WATCH_INTERVAL: u64 = interval("Watch_Interval", "10", TRAPS).missing();
    /// Variables whose change sends a trap.
    SNMP_WATCH_VARIABLES: Option<Arc<str>> = optional("Watch_Variables", TRAPS).missing();
    /// Receiver of traps: `host` or `host:port`.
    TRAP_ADDRESS: Option<Arc<str>> = optional("Address", TRAP);
    /// Community that traps carry.
    TRAP_COMMUNITY: Arc<str> = text("Community", "public", TRAP);
    /// Version of traps.
    TRAP_VERSION: Arc<str> = text("Version", "2", TRAP);
    /// Port of the receiver of traps.
    TRAP_PORT: i64 = range("Port", "162", 1, 65535, TRAP);
}
