//! The stanzas: what they are called, where they stand, whether they carry a name, and what may stand in them.
//!
//! The options of the core's stanzas come from the registry by scope kind; modules bring their own lists
//! (`options::modules`, `options::known_modules`).

use crate::options::known_modules::{ADAPTIVE_SWEEP_RULE, LISTED, NAMES, SWEEP_PARTS};
use crate::options::modules::READY;
use crate::options::{OptionDecl, Status};
use crate::scopes::ScopeKind;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

/// Whether a stanza carries an instance name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `security { … }`
    Anonymous,
    /// `binding "b" { … }`
    Named,
    /// `ec_logger { … }` is `ec_logger "ec_logger" { … }`.
    Optional,
}

/// One kind of stanza.
#[derive(Debug)]
pub struct ScopeClass {
    /// As output spells it.
    pub name: &'static str,
    pub kind: ScopeKind,
    pub naming: Naming,
    /// Stanzas that may stand in it.
    pub parts: &'static [&'static ScopeClass],
    /// Options of its own; those of core stanzas are in the registry.
    pub options: &'static [&'static OptionDecl],
    pub status: Status,
    pub doc: &'static str,
}

impl ScopeClass {
    const fn core(
        name: &'static str,
        kind: ScopeKind,
        naming: Naming,
        parts: &'static [&'static ScopeClass],
        doc: &'static str,
    ) -> ScopeClass {
        ScopeClass { name, kind, naming, parts, options: &[], status: Status::Implemented, doc }
    }

    const fn missing(mut self) -> ScopeClass {
        self.status = Status::Missing;
        self
    }

    const fn accepted(mut self) -> ScopeClass {
        self.status = Status::Accepted;
        self
    }

    /// The stanza of that name that may stand in this one.
    pub(crate) fn part(&self, name: &str) -> Option<&'static ScopeClass> {
        self.parts.iter().find(|part| part.name.eq_ignore_ascii_case(name)).copied()
    }

    /// A module, or a part of one.
    pub fn is_module(&self) -> bool {
        matches!(self.kind, ScopeKind::Module | ScopeKind::ModulePart)
    }

    /// Unknown names in it are no errors: Posthaste does not know all that the module of Momentum reads.
    pub(crate) fn is_open(&self) -> bool {
        self.kind == ScopeKind::Foreign || (self.status == Status::Missing && self.is_module())
    }
}

use Naming::{Anonymous, Named, Optional};
use ScopeKind as K;

static DOMAIN: ScopeClass =
    ScopeClass::core("Domain", K::Domain, Named, SWEEP_PARTS, "Options for mail routed to a domain.");
static HOST: ScopeClass = ScopeClass::core("Host", K::Host, Named, &[], "Options for connections to a mail host.");
static BINDING: ScopeClass = ScopeClass::core(
    "Binding",
    K::Binding,
    Named,
    &[&DOMAIN, &HOST, &ADAPTIVE_SWEEP_RULE],
    "A sender identity: its own queues and source address.",
);
static BINDING_GROUP: ScopeClass = ScopeClass::core(
    "Binding_Group",
    K::BindingGroup,
    Named,
    &[&BINDING, &DOMAIN, &HOST, &ADAPTIVE_SWEEP_RULE],
    "Bindings that mail is spread over.",
);

static ESMTP_PEER: ScopeClass = ScopeClass::core("Peer", K::EsmtpPeer, Named, &[], "Options for clients of a network.");
static ESMTP_LISTEN: ScopeClass =
    ScopeClass::core("Listen", K::EsmtpListen, Named, &[&ESMTP_PEER], "One address to listen on.");
static ESMTP_LISTENER: ScopeClass =
    ScopeClass::core("Esmtp_Listener", K::EsmtpListener, Anonymous, &[&ESMTP_LISTEN, &ESMTP_PEER], "The SMTP service.");
static ECSTREAM_PEER: ScopeClass =
    ScopeClass::core("Peer", K::EcstreamPeer, Named, &[], "Options for clients of a network.");
static ECSTREAM_LISTEN: ScopeClass =
    ScopeClass::core("Listen", K::EcstreamListen, Named, &[&ECSTREAM_PEER], "One address to listen on.");
static ECSTREAM_LISTENER: ScopeClass = ScopeClass::core(
    "Ecstream_Listener",
    K::EcstreamListener,
    Anonymous,
    &[&ECSTREAM_LISTEN, &ECSTREAM_PEER],
    "Momentum's injection protocol.",
)
.missing();
static HTTP_PEER: ScopeClass = ScopeClass::core("Peer", K::HttpPeer, Named, &[], "Options for clients of a network.");
static HTTP_LISTEN: ScopeClass =
    ScopeClass::core("Listen", K::HttpListen, Named, &[&HTTP_PEER], "One address to listen on.");
static HTTP_LISTENER: ScopeClass =
    ScopeClass::core("Http_Listener", K::HttpListener, Anonymous, &[&HTTP_LISTEN, &HTTP_PEER], "The HTTP service.");
static CONTROL_PEER: ScopeClass =
    ScopeClass::core("Peer", K::ControlPeer, Named, &[], "Options for clients of a network.");
static CONTROL_LISTEN: ScopeClass =
    ScopeClass::core("Listen", K::ControlListen, Named, &[&CONTROL_PEER], "One address to listen on.");
static CONTROL_LISTENER: ScopeClass = ScopeClass::core(
    "Control_Listener",
    K::ControlListener,
    Anonymous,
    &[&CONTROL_LISTEN, &CONTROL_PEER],
    "The channel of the console.",
);
static XMPP_LISTENER: ScopeClass =
    ScopeClass::core("Xmpp_Listener", K::Foreign, Anonymous, &[], "Momentum's XMPP service.").missing();
static ECCLUSTER_LISTENER: ScopeClass =
    ScopeClass::core("Eccluster_Listener", K::Foreign, Anonymous, &[], "Momentum's cluster manager.").missing();
static MSGCSERVER_LISTENER: ScopeClass =
    ScopeClass::core("Msgcserver_Listener", K::Foreign, Anonymous, &[], "Momentum's cluster messaging.").missing();

static PATHWAY: ScopeClass =
    ScopeClass::core("Pathway", K::Pathway, Named, &[], "Options for what comes in on a certain way.");
static PATHWAY_GROUP: ScopeClass =
    ScopeClass::core("Pathway_Group", K::PathwayGroup, Named, &[&PATHWAY], "Pathways with common options.");
static THREADPOOL: ScopeClass = ScopeClass::core("ThreadPool", K::ThreadPool, Named, &[], "A pool of threads.");
static EVENTLOOP: ScopeClass =
    ScopeClass::core("EventLoop", K::EventLoop, Named, &[], "A pool of event loops; a hint for the number of workers.")
        .accepted();
static SECURITY: ScopeClass = ScopeClass::core("Security", K::Security, Anonymous, &[], "Whom the process runs as.");
static DEBUG_FLAGS: ScopeClass =
    ScopeClass::core("Debug_Flags", K::DebugFlags, Anonymous, &[], "What goes to the paniclog, by level.");
static ROLE: ScopeClass =
    ScopeClass::core("Role", K::Role, Named, &[], "What holders of a role may do on the console.");
static AUTHORIZATION: ScopeClass =
    ScopeClass::core("Authorization", K::Authorization, Anonymous, &[&ROLE], "Roles for the console.");
static DATASOURCE: ScopeClass =
    ScopeClass::core("Datasource", K::Datasource, Named, &[], "A named source of data for policies.").missing();
static LOGS: ScopeClass = ScopeClass::core("Logs", K::Foreign, Optional, &[], "Logs on the cluster manager.").missing();
static SNMP: ScopeClass = ScopeClass::core("SNMP", K::Snmp, Anonymous, &[], "The SNMP agent.").missing();
static TRAP_DESTINATION: ScopeClass =
    ScopeClass::core("Trap_Destination", K::TrapDestination, Named, &[], "A receiver of SNMP traps.");
static SNMP_TRAPS: ScopeClass =
    ScopeClass::core("SNMP_Traps", K::SnmpTraps, Anonymous, &[&TRAP_DESTINATION], "Receivers of SNMP traps.");
static REPLICATE: ScopeClass =
    ScopeClass::core("Replicate", K::Replicate, Named, &[], "Something shared between nodes.").missing();
static TOPOLOGY: ScopeClass =
    ScopeClass::core("Topology", K::Foreign, Optional, &[], "Networks of a cluster.").missing();
static CLUSTER: ScopeClass =
    ScopeClass::core("Cluster", K::Cluster, Anonymous, &[&REPLICATE, &TOPOLOGY], "The cluster of this node.").missing();

const CORE: &[&ScopeClass] = &[
    &AUTHORIZATION,
    &BINDING,
    &BINDING_GROUP,
    &CLUSTER,
    &CONTROL_LISTENER,
    &DATASOURCE,
    &DEBUG_FLAGS,
    &DOMAIN,
    &ECCLUSTER_LISTENER,
    &ECSTREAM_LISTENER,
    &ESMTP_LISTENER,
    &EVENTLOOP,
    &HOST,
    &HTTP_LISTENER,
    &LOGS,
    &MSGCSERVER_LISTENER,
    &PATHWAY,
    &PATHWAY_GROUP,
    &SECURITY,
    &SNMP,
    &SNMP_TRAPS,
    &THREADPOOL,
    &XMPP_LISTENER,
    &ADAPTIVE_SWEEP_RULE,
];

const TOP_COUNT: usize = CORE.len() + READY.len() + LISTED.len() + NAMES.len();

const fn joined() -> [&'static ScopeClass; TOP_COUNT] {
    let lists = [CORE, READY, LISTED, NAMES];
    let mut all = [CORE[0]; TOP_COUNT];
    let (mut list, mut at, mut end) = (0, 0, 0);
    while list < lists.len() {
        while at < lists[list].len() {
            all[end] = lists[list][at];
            at += 1;
            end += 1;
        }
        (list, at) = (list + 1, 0);
    }
    all
}

static TOP: [&ScopeClass; TOP_COUNT] = joined();

/// What is around everything.
pub(crate) static ROOT: ScopeClass =
    ScopeClass::core("Global", K::Global, Anonymous, &TOP, "The configuration as a whole.");

/// All kinds of stanzas, each once, outer ones first.
pub(crate) fn classes() -> Vec<&'static ScopeClass> {
    let mut all: Vec<&'static ScopeClass> = vec![&ROOT];
    let mut at = 0;
    while at < all.len() {
        for part in all[at].parts {
            if !all.iter().any(|known| std::ptr::eq(*known, *part)) {
                all.push(part);
            }
        }
        at += 1;
    }
    all
}

/// Stanzas in which one of that name may stand.
pub(crate) fn parents_of(name: &str) -> Vec<&'static str> {
    let mut found: Vec<&str> = Vec::new();
    for class in classes() {
        if class.part(name).is_some() && !found.contains(&class.name) {
            found.push(class.name);
        }
    }
    found
}

/// Names that may be remembered for stanzas and options nobody here knows; more than any real configuration has.
const FOREIGN_MAX: usize = 4096;

/// A class for a stanza inside something that Posthaste does not read. Kept for ever, as classes are, hence the limit.
pub(crate) fn foreign(name: &str) -> Option<&'static ScopeClass> {
    static KNOWN: LazyLock<Mutex<HashMap<String, &'static ScopeClass>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let key = name.to_ascii_lowercase();
    if let Some(class) = known.get(&key) {
        return Some(class);
    }
    if known.len() >= FOREIGN_MAX {
        return None;
    }
    let name: &'static str = Box::leak(name.to_string().into_boxed_str());
    let class = ScopeClass::core(name, K::Foreign, Optional, &[], "").missing();
    let class: &'static ScopeClass = Box::leak(Box::new(class));
    known.insert(key, class);
    Some(class)
}

/// As [`foreign`], for an option.
pub(crate) fn foreign_option(name: &str) -> Option<&'static OptionDecl> {
    static KNOWN: LazyLock<Mutex<HashMap<String, &'static OptionDecl>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let key = name.to_ascii_lowercase();
    if let Some(decl) = known.get(&key) {
        return Some(decl);
    }
    if known.len() >= FOREIGN_MAX {
        return None;
    }
    let decl: &'static OptionDecl =
        Box::leak(Box::new(crate::options::foreign(Box::leak(name.to_string().into_boxed_str()))));
    known.insert(key, decl);
    Some(decl)
}
