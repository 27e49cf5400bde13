//! Options of the control channel and of SNMP.

use super::*;
use crate::scopes::*;
use std::sync::Arc;

const SNMP: Scopes = Scopes::of(ScopeKind::Snmp);
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
    SNMP_CONTACT: Option<Arc<str>> = optional("Contact", SNMP).missing();
    /// Place that the SNMP agent tells.
    SNMP_LOCATION: Option<Arc<str>> = optional("Location", SNMP).missing();
    /// Receiver of traps: `host` or `host:port`.
    TRAP_ADDRESS: Option<Arc<str>> = optional("Address", TRAP);
    /// Community that traps carry.
    TRAP_COMMUNITY: Arc<str> = text("Community", "public", TRAP);
    /// Version of traps.
    TRAP_VERSION: Arc<str> = text("Version", "2", TRAP);
    /// Port of the receiver of traps.
    TRAP_PORT: i64 = range("Port", "162", 1, 65535, TRAP);
}
