//! Scopes in which strangers may relay, or say who they are.
//!
//! None of this is an error: a site may want it. `posthaste check` lists it, and the log at the start.

use super::extension;
use crate::diagnostic::{Diagnostic, Severity};
use crate::options::{self, OptionDecl};
use crate::scopes::ScopeKind;
use crate::source::Sources;
use crate::tree::{Meaning, NodeId, ROOT, Setting, Tree};
use crate::value::Value;

/// Commands whose user is believed.
const TRUSTED: &[&str] = &["XCLIENT", "XREMOTEIP", "XSETCONTEXT", "XDUMPCONTEXT"];

/// All such scopes, in the order of the tree.
pub(crate) fn warnings(tree: &Tree, sources: &Sources) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for id in tree.walk() {
        let node = tree.node(id);
        let mail = !matches!(
            node.kind(),
            ScopeKind::ControlListener | ScopeKind::ControlListen | ScopeKind::HttpListener | ScopeKind::HttpListen
        );
        let open = is_open_to_everybody(tree, id);
        let mut warn = |decl: &'static OptionDecl, bad: fn(&Value) -> bool, message: &str, help: &str| {
            if let Some(setting) = node.setting(decl).filter(|setting| bad(&setting.value)) {
                let path = tree.path(id);
                let place = if path.is_empty() { "the global scope".to_string() } else { format!("`{path}`") };
                found.push(diagnostic(sources, setting, format!("{message} in {place}"), help));
            }
        };
        let everybody = |value: &Value| matches!(value, Value::Cidrs(set) if set.holds_everybody());
        if open || node.kind() == ScopeKind::Global {
            warn(&options::RELAY_HOSTS.decl, everybody, "everybody may relay: Relay_Hosts holds all addresses", NARROW);
        }
        if !open {
            continue;
        }
        let on = |value: &Value| *value == Value::Bool(true);
        warn(&options::OPEN_RELAY.decl, on, "everybody may relay: Open_Relay", PEER);
        if mail {
            warn(
                &options::RELAY_FOR_SENDING_DOMAINS.decl,
                |value| matches!(value, Value::Domains(set) if !set.is_empty()),
                "everybody may relay who claims a sender of Relay_For_Sending_Domains",
                PEER,
            );
            warn(&options::ALWAYS_ALLOW.decl, on, "everybody may relay: Always_Allow makes any AUTH succeed", PEER);
            warn(
                &options::SMTP_EXTENSIONS.decl,
                |value| extension(value, |word| TRUSTED.contains(&word)),
                "everybody may use XCLIENT, XREMOTEIP, XSETCONTEXT or XDUMPCONTEXT",
                PEER,
            );
            warn(
                &options::PROXY_PROTOCOL.decl,
                on,
                "everybody may claim an address with a PROXY header",
                "set Proxy_Protocol inside a `peer` for the addresses of the proxy",
            );
        } else {
            warn(&options::ALWAYS_ALLOW.decl, on, "everybody is let in: Always_Allow", PEER);
        }
    }
    found
}

const PEER: &str = "write it inside a `peer` for the clients that are meant";
const NARROW: &str = "name the networks that are meant";

fn diagnostic(sources: &Sources, setting: &Setting, message: String, help: &str) -> Diagnostic {
    let place = setting.places.last().filter(|_| !setting.edited);
    match place {
        Some(place) => Diagnostic::at(sources, Severity::Warning, place.whole, message),
        None => Diagnostic::general(Severity::Warning, "", message),
    }
    .with_help(help)
}

/// Whether clients from anywhere come under this scope: no `peer` narrows it, and it is not for this machine only.
fn is_open_to_everybody(tree: &Tree, id: NodeId) -> bool {
    let node = tree.node(id);
    let listens = |listener: NodeId| -> Vec<NodeId> {
        let children = tree.node(listener).children.iter().copied();
        children.filter(|child| matches!(tree.node(*child).meaning, Meaning::Address(_))).collect()
    };
    let reachable = |listen: &NodeId| match &tree.node(*listen).meaning {
        Meaning::Address(address) => !address.is_local(),
        _ => true,
    };
    match node.kind() {
        ScopeKind::Pathway | ScopeKind::PathwayGroup => true,
        ScopeKind::EsmtpListener
        | ScopeKind::EcstreamListener
        | ScopeKind::HttpListener
        | ScopeKind::ControlListener => listens(id).iter().any(reachable),
        ScopeKind::EsmtpListen | ScopeKind::EcstreamListen | ScopeKind::HttpListen | ScopeKind::ControlListen => {
            reachable(&id)
        }
        ScopeKind::EsmtpPeer | ScopeKind::EcstreamPeer | ScopeKind::HttpPeer | ScopeKind::ControlPeer => {
            matches!(&node.meaning, Meaning::Net(net) if net.prefix_len() == 0)
                && node.parent != ROOT
                && is_open_to_everybody(tree, node.parent)
        }
        _ => false,
    }
}
