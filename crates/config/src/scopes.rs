//! The kinds of scopes a setting may stand in, and sets of them.
//!
//! `listen` and `peer` take the options of the listener around them, so each listener type has three kinds of its own.

use std::fmt;

/// One kind of scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ScopeKind {
    Global,
    BindingGroup,
    Binding,
    Domain,
    Host,
    EsmtpListener,
    EsmtpListen,
    EsmtpPeer,
    EcstreamListener,
    EcstreamListen,
    EcstreamPeer,
    HttpListener,
    HttpListen,
    HttpPeer,
    ControlListener,
    ControlListen,
    ControlPeer,
    PathwayGroup,
    Pathway,
    ThreadPool,
    EventLoop,
    Security,
    DebugFlags,
    Authorization,
    Role,
    Datasource,
    Snmp,
    SnmpTraps,
    TrapDestination,
    Cluster,
    Replicate,
    /// The stanza of a module.
    Module,
    /// A stanza inside a module, such as `script`.
    ModulePart,
    /// A stanza that Momentum has and Posthaste does not read.
    Foreign,
}

use ScopeKind as K;

/// A set of scope kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u64);

impl Scopes {
    pub const fn of(kind: ScopeKind) -> Scopes {
        Scopes(1 << kind as u8)
    }

    pub const fn or(self, other: Scopes) -> Scopes {
        Scopes(self.0 | other.0)
    }

    pub const fn contains(self, kind: ScopeKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    pub const fn overlaps(self, other: Scopes) -> bool {
        self.0 & other.0 != 0
    }

    const fn holds(self, other: Scopes) -> bool {
        self.0 & other.0 == other.0
    }
}

pub const G: Scopes = Scopes::of(K::Global);
pub const BG: Scopes = Scopes::of(K::BindingGroup);
pub const B: Scopes = Scopes::of(K::Binding);
pub const D: Scopes = Scopes::of(K::Domain);
pub const H: Scopes = Scopes::of(K::Host);
/// The four scopes of the sending side: global, binding group, binding, domain.
pub const S4: Scopes = G.or(BG).or(B).or(D);
/// `esmtp_listener` and the `listen` and `peer` in it.
pub const L: Scopes = Scopes::of(K::EsmtpListener).or(Scopes::of(K::EsmtpListen)).or(Scopes::of(K::EsmtpPeer));
pub const E: Scopes = Scopes::of(K::EcstreamListener).or(Scopes::of(K::EcstreamListen)).or(Scopes::of(K::EcstreamPeer));
pub const W: Scopes = Scopes::of(K::HttpListener).or(Scopes::of(K::HttpListen)).or(Scopes::of(K::HttpPeer));
pub const C: Scopes = Scopes::of(K::ControlListener).or(Scopes::of(K::ControlListen)).or(Scopes::of(K::ControlPeer));
/// Pathways and their groups.
pub const P: Scopes = Scopes::of(K::Pathway).or(Scopes::of(K::PathwayGroup));
/// Every listener and `listen`, but no `peer`.
pub const LISTENERS: Scopes = Scopes::of(K::EsmtpListener)
    .or(Scopes::of(K::EsmtpListen))
    .or(Scopes::of(K::EcstreamListener))
    .or(Scopes::of(K::EcstreamListen))
    .or(Scopes::of(K::HttpListener))
    .or(Scopes::of(K::HttpListen))
    .or(Scopes::of(K::ControlListener))
    .or(Scopes::of(K::ControlListen));
/// Only the stanza of the SMTP listener itself.
pub const ESMTP_ONLY: Scopes = Scopes::of(K::EsmtpListener);
pub const MODULE: Scopes = Scopes::of(K::Module);
pub const MODULE_PART: Scopes = Scopes::of(K::ModulePart);

const NAMES: &[(Scopes, &str)] = &[
    (G, "global"),
    (BG, "binding_group"),
    (B, "binding"),
    (D, "domain"),
    (H, "host"),
    (L, "esmtp_listener, listen, peer"),
    (E, "ecstream_listener, listen, peer"),
    (W, "http_listener, listen, peer"),
    (C, "control_listener, listen, peer"),
    (P, "pathway, pathway_group"),
    (Scopes::of(K::EsmtpListener).or(Scopes::of(K::EsmtpListen)), "esmtp_listener, listen"),
    (Scopes::of(K::EcstreamListener).or(Scopes::of(K::EcstreamListen)), "ecstream_listener, listen"),
    (Scopes::of(K::HttpListener).or(Scopes::of(K::HttpListen)), "http_listener, listen"),
    (Scopes::of(K::ControlListener).or(Scopes::of(K::ControlListen)), "control_listener, listen"),
    (Scopes::of(K::ControlListen).or(Scopes::of(K::ControlPeer)), "listen and peer of control_listener"),
    (Scopes::of(K::EsmtpListener), "esmtp_listener"),
    (Scopes::of(K::EcstreamListener), "ecstream_listener"),
    (Scopes::of(K::HttpListener), "http_listener"),
    (Scopes::of(K::ControlListener), "control_listener"),
    (Scopes::of(K::EsmtpPeer), "peer of esmtp_listener"),
    (Scopes::of(K::ThreadPool), "threadpool"),
    (Scopes::of(K::EventLoop), "eventloop"),
    (Scopes::of(K::Security), "security"),
    (Scopes::of(K::DebugFlags), "debug_flags"),
    (Scopes::of(K::Role), "role"),
    (Scopes::of(K::Datasource), "datasource"),
    (Scopes::of(K::Snmp), "snmp"),
    (Scopes::of(K::SnmpTraps), "snmp_traps"),
    (Scopes::of(K::TrapDestination), "trap_destination"),
    (Scopes::of(K::Cluster), "cluster"),
    (Scopes::of(K::Replicate), "replicate"),
    (MODULE, "module"),
    (MODULE_PART, "stanza of a module"),
];

impl Scopes {
    /// The names of the scopes, as an operator writes them.
    pub fn names(self) -> Vec<&'static str> {
        let mut rest = self.0;
        let mut names: Vec<&str> = Vec::new();
        for (scopes, name) in NAMES {
            if self.holds(*scopes) && rest & scopes.0 != 0 {
                rest &= !scopes.0;
                names.extend(name.split(", ").filter(|n| !names.contains(n)).collect::<Vec<_>>());
            }
        }
        names
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_print_as_an_operator_writes_them() {
        assert_eq!(S4.to_string(), "global, binding_group, binding, domain");
        assert_eq!(G.or(L).or(P).to_string(), "global, esmtp_listener, listen, peer, pathway, pathway_group");
        assert_eq!(LISTENERS.to_string(), "esmtp_listener, listen, ecstream_listener, http_listener, control_listener");
        assert_eq!(ESMTP_ONLY.to_string(), "esmtp_listener");
    }
}
