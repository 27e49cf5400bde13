//! Looking on the console: `get`, `eval`, `show`, `locate`.

use super::command::{self, Word};
use super::{Route, find};
use crate::config::{Config, Receiving};
use crate::options::{OptionDecl, Standard};
use crate::scope::Scope;
use crate::scopes::ScopeKind;
use crate::show::{self, Style};
use crate::tree::{Meaning, NodeId, ROOT};
use crate::value::{self, Pcre, Value};
use std::fmt::Write as _;

/// A value and what the console prints.
#[derive(Clone, Debug)]
pub struct Looked {
    /// `None`: not set, or no default.
    pub value: Option<Value>,
    pub text: String,
}

/// `get` and `eval`.
pub(super) fn look(config: &Config, words: &[Word], with_fallback: bool) -> Result<Looked, String> {
    let target = command::target(&config.tree, words)?;
    if let Some(extra) = target.rest.first() {
        return Err(format!("`{}` is too much.", extra.text));
    }
    let decl = target.option.ok_or("Which option is meant?")?;
    if with_fallback {
        return Ok(evaluate(config, &target.route, decl));
    }
    let setting = find(&config.tree, &target.route).and_then(|node| config.tree.node(node).setting(decl));
    let indent = indent(&target.route);
    Ok(match setting {
        Some(setting) => Looked {
            value: Some(setting.value.clone()),
            text: show::setting(decl, &setting.literal, indent, Style::Typed) + "\n",
        },
        None => Looked { value: None, text: not_set(decl, &target.route) + "\n" },
    })
}

/// The value that holds in a scope, which need not exist.
pub(super) fn evaluate(config: &Config, route: &Route, decl: &'static OptionDecl) -> Looked {
    let scope = scope(config, route);
    let indent = indent(route);
    if let Some((_, setting)) = scope.lookup(decl) {
        return Looked {
            value: Some(setting.value.clone()),
            text: show::setting(decl, &setting.literal, indent, Style::Typed) + "\n",
        };
    }
    let text = show::standard(decl, scope.in_host(), config.hostname(), indent) + "\n";
    let default = match (scope.in_host(), decl.host_default, decl.default) {
        (true, Some(text), _) | (_, _, Standard::Text(text)) => value::standard_value(decl, text),
        (_, _, Standard::Hostname) => Some(config.hostname().clone()),
        (_, _, Standard::Nothing) => None,
    };
    Looked { value: default, text }
}

/// `Option 'Blackhole' is not set in scope ''.`
pub(super) fn not_set(decl: &OptionDecl, route: &Route) -> String {
    format!("Option '{}' is not set in scope '{}'.", decl.name, path_text(route))
}

/// `Esmtp_Listener::Listen:\:25:`.
pub(super) fn path_text(route: &Route) -> String {
    route
        .iter()
        .map(|(class, name)| format!("{}:{}:", class.name, name.text.replace('\\', "\\\\").replace(':', "\\:")))
        .collect()
}

fn indent(route: &Route) -> &'static str {
    if route.is_empty() { "" } else { "\t" }
}

/// The chain of scopes that a look-up from a place on the console goes through.
fn scope<'c>(config: &'c Config, route: &Route) -> Scope<'c> {
    let name =
        |kind: &[ScopeKind]| route.iter().find(|(class, _)| kind.contains(&class.kind)).map(|(_, name)| &*name.key);
    let last = route.last().map(|(class, _)| class.kind);
    match last {
        Some(ScopeKind::BindingGroup | ScopeKind::Binding | ScopeKind::Domain) => {
            let binding = name(&[ScopeKind::Binding]);
            let group = name(&[ScopeKind::BindingGroup]).or_else(|| binding.map(|binding| config.group_of(binding)));
            // A pattern is a scope of its own here, not a domain to be matched.
            if let Some(node) = find(&config.tree, route).filter(|n| is_pattern(config, *n)) {
                return Scope::before(config, node, Scope::partly(config, group, binding, None));
            }
            Scope::partly(config, group, binding, name(&[ScopeKind::Domain]))
        }
        Some(ScopeKind::Host) => {
            let binding = name(&[ScopeKind::Binding]);
            let group = name(&[ScopeKind::BindingGroup])
                .or_else(|| binding.map(|binding| config.group_of(binding)))
                .unwrap_or_default();
            Scope::host(config, group, binding.unwrap_or_default(), name(&[ScopeKind::Host]).unwrap_or_default())
        }
        Some(_) if name(LISTENERS).is_some() => receiving(config, route),
        _ => lexical(config, route),
    }
}

const LISTENERS: &[ScopeKind] =
    &[ScopeKind::EsmtpListener, ScopeKind::EcstreamListener, ScopeKind::HttpListener, ScopeKind::ControlListener];

fn is_pattern(config: &Config, node: NodeId) -> bool {
    matches!(config.tree.node(node).meaning, Meaning::Pattern(_))
}

fn receiving<'c>(config: &'c Config, route: &Route) -> Scope<'c> {
    let listener = route
        .first()
        .and_then(|(class, name)| config.tree.child(ROOT, class, &name.key))
        .and_then(|node| config.listeners().iter().position(|l| l.node == node));
    let Some(listener) = listener else { return config.global() };
    let listen = route.iter().find_map(|(_, name)| match &name.meaning {
        Meaning::Address(address) => config.listeners()[listener].listens.iter().position(|l| l.address == *address),
        _ => None,
    });
    let net = route.iter().find_map(|(_, name)| match name.meaning {
        Meaning::Net(net) => Some(net),
        _ => None,
    });
    Scope::at_listener(config, listener, listen, net)
}

fn lexical<'c>(config: &'c Config, route: &Route) -> Scope<'c> {
    let mut nodes = vec![ROOT];
    for (class, name) in route {
        let Some(node) = config.tree.child(nodes[nodes.len() - 1], class, &name.key) else { break };
        nodes.push(node);
    }
    nodes.reverse();
    Scope::new(config, &nodes)
}

/// `show` and `showrecurse`; with an option at the end as `get`.
pub(super) fn show(config: &Config, words: &[Word], recurse: bool) -> Result<String, String> {
    let target = command::target(&config.tree, words)?;
    if target.option.is_some() {
        return look(config, words, false).map(|looked| looked.text);
    }
    match find(&config.tree, &target.route) {
        Some(node) => Ok(show::contents(&config.tree, node, recurse)),
        None => Err(format!("There is no {}.", path_text(&target.route))),
    }
}

/// `locate`: scopes by kind, and by a pattern for their name.
pub(super) fn locate(config: &Config, words: &[Word]) -> Result<String, String> {
    let (kind, pattern) = match words {
        [kind] => (kind, None),
        [kind, pattern] => (kind, Some(Pcre::new(&pattern.text)?)),
        _ => return Err("config locate SCOPE [REGEX]".into()),
    };
    let mut text = String::new();
    for id in config.tree.walk().into_iter().filter(|id| *id != ROOT) {
        let node = config.tree.node(id);
        if kind.is(node.class.name) && pattern.as_ref().is_none_or(|p| p.is_match(node.name.as_bytes())) {
            let _ = writeln!(text, "{}\n  is at {}", show::head(&config.tree, id), config.tree.path(id));
        }
    }
    if text.is_empty() {
        return Err(format!("There is no scope `{}`.", kind.text));
    }
    Ok(text)
}

/// A receiving place of which some parts may be left open.
impl<'a> Scope<'a> {
    fn at_listener(config: &'a Config, listener: usize, listen: Option<usize>, net: Option<ipnet::IpNet>) -> Scope<'a> {
        match net {
            Some(net) => Scope::receiving(
                config,
                // An index out of range stands for no address: then only the peers of the listener itself apply.
                &Receiving { listener, listen: listen.unwrap_or(usize::MAX), remote: net.addr(), pathway: None },
            ),
            None => Scope::without_peers(config, listener, listen),
        }
    }
}
