//! Looking up options: which scopes are asked, in which order.
//!
//! The first scope in which an option **is set** gives its value; an empty stanza is no match. A [`Scope`] is the list of
//! scopes that apply, most special first; making it costs a few hash look-ups, asking it compares addresses.

use crate::config::{Config, Receiving};
use crate::options::{Opt, OptionDecl, Standard};
use crate::scopes::ScopeKind;
use crate::source::Place;
use crate::tree::{Meaning, NodeId, ROOT, Setting, Tree};
use crate::value::{OptionValue, Pcre};
use ipnet::IpNet;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// The scopes that apply to something, most special first.
#[derive(Clone)]
pub struct Scope<'a> {
    config: &'a Config,
    chain: Chain,
    in_host: bool,
    pathway: Option<Arc<str>>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `None` when it was set on the console.
    pub place: Option<Place>,
    /// `Binding_Group:G:Domain:d1.test:`; empty for the global scope.
    pub path: String,
    /// The kind of the scope.
    pub kind: ScopeKind,
}

/// Stands for one option of one scope, the same in all generations of a process: what owns a token bucket or a budget of
/// sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketId(pub u64);

impl<'a> Scope<'a> {
    pub(crate) fn new(config: &'a Config, nodes: &[NodeId]) -> Scope<'a> {
        let mut chain = Chain::default();
        nodes.iter().for_each(|node| chain.push(*node));
        Scope { config, chain, in_host: false, pathway: None }
    }

    pub(crate) fn sending(config: &'a Config, group: &str, binding: &str, domain: &str) -> Scope<'a> {
        Scope::partly(config, Some(group), Some(binding), Some(domain))
    }

    /// The sending chain with some of its parts left open, as the console asks.
    pub(crate) fn partly(
        config: &'a Config,
        group: Option<&str>,
        binding: Option<&str>,
        domain: Option<&str>,
    ) -> Scope<'a> {
        let index = &config.index;
        let mut chain = Chain::default();
        let domain = domain.map(lower);
        let in_group = group.and_then(|group| index.group(group));
        let in_group_binding = in_group.zip(binding).and_then(|(group, binding)| index.binding(group, binding));
        let alone = binding.and_then(|binding| index.binding(ROOT, binding));
        let containers = [in_group_binding, alone, in_group];
        if let Some(domain) = &domain {
            for container in containers.into_iter().flatten() {
                index.names(container, ScopeKind::Domain, domain, &mut chain);
            }
        }
        containers.into_iter().flatten().for_each(|node| chain.push(node));
        if let Some(domain) = &domain {
            index.names(ROOT, ScopeKind::Domain, domain, &mut chain);
        }
        chain.push(ROOT);
        Scope { config, chain, in_host: false, pathway: None }
    }

    /// A scope with one more in front.
    pub(crate) fn before(config: &'a Config, node: NodeId, rest: Scope<'a>) -> Scope<'a> {
        let mut chain = Chain::default();
        chain.push(node);
        rest.chain.iter().for_each(|id| chain.push(id));
        Scope { config, chain, in_host: rest.in_host, pathway: rest.pathway }
    }

    pub(crate) fn host(config: &'a Config, group: &str, binding: &str, host: &str) -> Scope<'a> {
        let index = &config.index;
        let mut chain = Chain::default();
        let host = lower(host);
        let in_group = index.group(group);
        let in_group_binding = in_group.and_then(|g| index.binding(g, binding));
        for container in [in_group_binding, in_group, index.binding(ROOT, binding), Some(ROOT)].into_iter().flatten() {
            index.names(container, ScopeKind::Host, &host, &mut chain);
        }
        Scope { config, chain, in_host: true, pathway: None }
    }

    pub(crate) fn receiving(config: &'a Config, receiving: &Receiving<'_>) -> Scope<'a> {
        let mut chain = Chain::default();
        if let Some(listener) = config.listeners().get(receiving.listener) {
            let remote = receiving.remote.to_canonical();
            let listen = listener.listens.get(receiving.listen);
            if let Some(listen) = listen {
                config.index.peers(listen.node, remote, &mut chain);
            }
            config.index.peers(listener.node, remote, &mut chain);
            listen.into_iter().for_each(|listen| chain.push(listen.node));
            chain.push(listener.node);
        }
        Scope::through_pathway(config, chain, receiving.pathway)
    }

    /// The receiving chain for whoever comes, without any `peer`.
    pub(crate) fn without_peers(config: &'a Config, listener: usize, listen: Option<usize>) -> Scope<'a> {
        let mut chain = Chain::default();
        if let Some(listener) = config.listeners().get(listener) {
            let listen = listen.and_then(|at| listener.listens.get(at));
            listen.into_iter().for_each(|listen| chain.push(listen.node));
            chain.push(listener.node);
        }
        Scope::through_pathway(config, chain, None)
    }

    fn through_pathway(config: &'a Config, chain: Chain, pathway: Option<&str>) -> Scope<'a> {
        let mut scope = Scope { config, chain, in_host: false, pathway: None };
        scope.pathway = match pathway {
            Some(name) => Some(Arc::from(name)),
            None => scope.get(&crate::options::PATHWAY),
        };
        if let Some(pathway) = scope.pathway.as_deref().and_then(|name| config.index.pathway(name)) {
            [pathway.in_group, pathway.alone, pathway.group].into_iter().flatten().for_each(|id| scope.chain.push(id));
        }
        scope.chain.push(ROOT);
        scope
    }

    /// The value that holds here.
    pub fn get<T: OptionValue>(&self, option: &Opt<T>) -> T {
        if let Some((_, setting)) = self.lookup(&option.decl) {
            // A setting was read by its declaration, so its value has the type of the option.
            return T::from_value(&setting.value).unwrap_or_else(T::absent);
        }
        match option.decl.default {
            Standard::Hostname => T::from_value(self.config.hostname()).unwrap_or_else(T::absent),
            _ => option.standard(self.in_host),
        }
    }

    /// The value and where it is set; `None` where only the default holds.
    pub fn find<T: OptionValue>(&self, option: &Opt<T>) -> Option<(T, Origin)> {
        let (node, setting) = self.lookup(&option.decl)?;
        Some((T::from_value(&setting.value)?, self.origin(node, setting)))
    }

    /// The value, and the scope instance that owns it: everything that falls back to that scope shares one bucket.
    pub fn bucket<T: OptionValue>(&self, option: &Opt<T>) -> Option<(T, BucketId)> {
        let (node, setting) = self.lookup(&option.decl)?;
        let mut hasher = DefaultHasher::new();
        (self.config.tree.node(node).path_hash, option.decl.name).hash(&mut hasher);
        Some((T::from_value(&setting.value)?, BucketId(hasher.finish())))
    }

    /// The pathway that applies, if any.
    pub fn pathway(&self) -> Option<&Arc<str>> {
        self.pathway.as_ref()
    }

    /// The group of the pathway that applies.
    pub fn pathway_group(&self) -> Option<Arc<str>> {
        self.pathway.as_deref().and_then(|name| self.config.pathway_group(name))
    }

    /// The first setting of an option along the chain.
    pub(crate) fn lookup(&self, decl: &OptionDecl) -> Option<(NodeId, &'a Setting)> {
        let tree: &'a Tree = &self.config.tree;
        self.chain.iter().find_map(|id| {
            let node = tree.node(id);
            // Without a cluster a limit for the cluster is one for this node.
            let setting = node.setting(decl).or_else(|| decl.cluster.and_then(|other| node.setting(other)));
            setting.map(|setting| (id, setting))
        })
    }

    pub(crate) fn in_host(&self) -> bool {
        self.in_host
    }

    fn origin(&self, node: NodeId, setting: &Setting) -> Origin {
        Origin {
            place: setting
                .places
                .last()
                .filter(|_| !setting.edited)
                .map(|place| self.config.sources.place(place.whole)),
            path: self.config.tree.path(node),
            kind: self.config.tree.node(node).kind(),
        }
    }
}

impl std::fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.chain.iter().map(|id| self.config.tree.path(id))).finish()
    }
}

/// Chains are short; more than this only when many patterns match one domain.
const INLINE: usize = 14;

#[derive(Clone, Default)]
struct Chain {
    inline: [NodeId; INLINE],
    length: usize,
    more: Vec<NodeId>,
}

impl Chain {
    fn push(&mut self, id: NodeId) {
        match self.inline.get_mut(self.length) {
            Some(place) => *place = id,
            None => self.more.push(id),
        }
        self.length += 1;
    }

    fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.inline[..self.length.min(INLINE)].iter().chain(&self.more).copied()
    }
}

fn lower(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// What makes look-ups fast: names and patterns of each container.
#[derive(Debug, Default)]
pub(crate) struct Index {
    groups: HashMap<Arc<str>, NodeId>,
    bindings: HashMap<NodeId, HashMap<Arc<str>, NodeId>>,
    domains: HashMap<NodeId, Names>,
    hosts: HashMap<NodeId, Names>,
    /// Networks of the peers of a listener or listen, the longest prefix first.
    peers: HashMap<NodeId, Vec<(IpNet, NodeId)>>,
    pathways: HashMap<Arc<str>, Pathway>,
}

#[derive(Debug, Default)]
struct Names {
    exact: HashMap<Arc<str>, NodeId>,
    /// In the order of declaration.
    patterns: Vec<(Arc<Pcre>, NodeId)>,
}

/// The scopes of one pathway.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pathway {
    pub in_group: Option<NodeId>,
    pub alone: Option<NodeId>,
    pub group: Option<NodeId>,
}

impl Index {
    pub(crate) fn new(tree: &Tree) -> Index {
        let mut index = Index::default();
        for id in tree.walk() {
            let node = tree.node(id);
            let (key, parent) = (node.key.clone(), node.parent);
            match node.kind() {
                ScopeKind::BindingGroup => _ = index.groups.insert(key, id),
                ScopeKind::Binding => _ = index.bindings.entry(parent).or_default().insert(key, id),
                ScopeKind::Domain => index.domains.entry(parent).or_default().add(key, &node.meaning, id),
                ScopeKind::Host => index.hosts.entry(parent).or_default().add(key, &node.meaning, id),
                ScopeKind::Pathway => {
                    let pathway = index.pathways.entry(key).or_default();
                    if parent == ROOT {
                        pathway.alone = Some(id);
                    } else {
                        (pathway.in_group, pathway.group) = (Some(id), Some(parent));
                    }
                }
                _ => {
                    if let Meaning::Net(net) = &node.meaning {
                        index.peers.entry(parent).or_default().push((*net, id));
                    }
                }
            }
        }
        for peers in index.peers.values_mut() {
            peers.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len())); // stable: equal prefixes keep their order
        }
        index
    }

    fn group(&self, name: &str) -> Option<NodeId> {
        self.groups.get(name).copied()
    }

    fn binding(&self, container: NodeId, name: &str) -> Option<NodeId> {
        self.bindings.get(&container)?.get(name).copied()
    }

    /// The stanzas for a domain or host in a container: the exact one, then patterns in order.
    fn names(&self, container: NodeId, kind: ScopeKind, name: &str, chain: &mut Chain) {
        let map = if kind == ScopeKind::Domain { &self.domains } else { &self.hosts };
        let Some(names) = map.get(&container) else { return };
        names.exact.get(name).into_iter().for_each(|id| chain.push(*id));
        for (pattern, id) in &names.patterns {
            if pattern.is_match(name.as_bytes()) {
                chain.push(*id);
            }
        }
    }

    fn peers(&self, container: NodeId, remote: IpAddr, chain: &mut Chain) {
        for (net, id) in self.peers.get(&container).into_iter().flatten() {
            if net.contains(&remote) {
                chain.push(*id);
            }
        }
    }

    /// The peers of a listener or listen, whoever comes.
    pub(crate) fn all_peers(&self, container: NodeId) -> impl Iterator<Item = NodeId> {
        self.peers.get(&container).into_iter().flatten().map(|(_, id)| *id)
    }

    pub(crate) fn pathway(&self, name: &str) -> Option<Pathway> {
        self.pathways.get(name).copied()
    }
}

impl Names {
    fn add(&mut self, key: Arc<str>, meaning: &Meaning, id: NodeId) {
        match meaning {
            Meaning::Pattern(pattern) => self.patterns.push((pattern.clone(), id)),
            _ => _ = self.exact.insert(key, id),
        }
    }
}
