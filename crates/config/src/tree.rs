//! The merged configuration: a tree of scopes with the settings in each, whatever files they came from.
//!
//! Stanzas with the same path of names are one node. Node 0 is the whole. Nodes are never moved, so a `NodeId` stays good;
//! one that was unset on the console is only taken out of its parent.

use crate::cidr;
use crate::listen::ListenAddr;
use crate::options::OptionDecl;
use crate::schema::{self, Naming, ScopeClass};
use crate::scopes::ScopeKind;
use crate::source::Span;
use crate::syntax::Literal;
use crate::value::{Pcre, Value};
use ipnet::IpNet;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Index of a node.
pub(crate) type NodeId = u32;

/// The whole.
pub(crate) const ROOT: NodeId = 0;

/// One setting of a scope.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub decl: &'static OptionDecl,
    pub value: Value,
    /// As written, for output.
    pub literal: Literal,
    /// Every place in the files where it is set, the valid one last.
    pub places: Vec<SettingPlace>,
    /// It was set on the console, whatever the files say.
    pub edited: bool,
}

/// Where a setting stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SettingPlace {
    /// From the name to the end of the value.
    pub whole: Span,
    pub value: Span,
}

/// Where a stanza was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// Its name, and instance name if it has one.
    pub head: Span,
    /// Its `}`; for the whole of a file, the end of the file.
    pub close: Span,
}

/// What the instance name of a scope means.
#[derive(Clone, Debug)]
pub(crate) enum Meaning {
    Plain,
    /// `domain "/…/"`.
    Pattern(Arc<Pcre>),
    Net(IpNet),
    Address(ListenAddr),
}

/// One scope.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub class: &'static ScopeClass,
    /// As written; empty for anonymous stanzas.
    pub name: Arc<str>,
    /// What makes it the same scope as another; the name in its normal form.
    pub key: Arc<str>,
    pub meaning: Meaning,
    pub parent: NodeId,
    pub children: Vec<NodeId>,
    pub settings: Vec<Setting>,
    pub openings: Vec<Opening>,
    /// Of the path of keys; the same in every generation of one process.
    pub path_hash: u64,
}

impl Node {
    pub(crate) fn kind(&self) -> ScopeKind {
        self.class.kind
    }

    pub(crate) fn setting(&self, decl: &OptionDecl) -> Option<&Setting> {
        self.settings.iter().find(|s| std::ptr::eq(s.decl, decl))
    }
}

/// All scopes.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    index: HashMap<(NodeId, usize), HashMap<Arc<str>, NodeId>>,
}

impl Tree {
    pub(crate) fn new() -> Tree {
        let root = Node {
            class: &schema::ROOT,
            name: Arc::from(""),
            key: Arc::from(""),
            meaning: Meaning::Plain,
            parent: ROOT,
            children: Vec::new(),
            settings: Vec::new(),
            openings: Vec::new(),
            path_hash: 0,
        };
        Tree { nodes: vec![root], index: HashMap::new() }
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// The node of a stanza, made where it does not exist.
    pub(crate) fn open(&mut self, parent: NodeId, class: &'static ScopeClass, name: Name) -> NodeId {
        if let Some(id) = self.child(parent, class, &name.key) {
            return id;
        }
        let id = self.nodes.len() as NodeId;
        let mut hasher = DefaultHasher::new(); // its keys are fixed, so hashes agree between generations
        (self.node(parent).path_hash, class.name, &*name.key).hash(&mut hasher);
        self.nodes.push(Node {
            class,
            name: name.text,
            key: name.key.clone(),
            meaning: name.meaning,
            parent,
            children: Vec::new(),
            settings: Vec::new(),
            openings: Vec::new(),
            path_hash: hasher.finish(),
        });
        self.node_mut(parent).children.push(id);
        self.index.entry((parent, class_key(class))).or_default().insert(name.key, id);
        id
    }

    /// The stanza of that class and key in `parent`.
    pub(crate) fn child(&self, parent: NodeId, class: &'static ScopeClass, key: &str) -> Option<NodeId> {
        self.index.get(&(parent, class_key(class)))?.get(key).copied()
    }

    /// The children of a kind, in the order of the files.
    pub(crate) fn children(&self, parent: NodeId, kind: ScopeKind) -> impl Iterator<Item = NodeId> {
        self.node(parent).children.iter().copied().filter(move |id| self.node(*id).kind() == kind)
    }

    /// All nodes that are in the tree, outer ones first.
    pub(crate) fn walk(&self) -> Vec<NodeId> {
        let mut all = vec![ROOT];
        let mut at = 0;
        while at < all.len() {
            all.extend_from_slice(&self.node(all[at]).children);
            at += 1;
        }
        all
    }

    /// Takes a scope and all below it out.
    pub(crate) fn remove(&mut self, id: NodeId) {
        let (parent, class, key) = (self.node(id).parent, self.node(id).class, self.node(id).key.clone());
        self.node_mut(parent).children.retain(|child| *child != id);
        if let Some(names) = self.index.get_mut(&(parent, class_key(class))) {
            names.remove(&key);
        }
    }

    /// Sets an option; an earlier value of the same scope is replaced as a whole.
    pub(crate) fn set(&mut self, node: NodeId, new: Setting) {
        let settings = &mut self.node_mut(node).settings;
        match settings.iter_mut().find(|s| std::ptr::eq(s.decl, new.decl)) {
            Some(old) => {
                old.value = new.value;
                old.literal = new.literal;
                old.places.extend(new.places);
                old.edited = new.edited;
            }
            None => settings.push(new),
        }
    }

    /// `Binding_Group:G:Domain:d1.test:`, as the console names scopes; the whole is the empty string.
    pub(crate) fn path(&self, mut id: NodeId) -> String {
        let mut parts = Vec::new();
        while id != ROOT {
            let node = self.node(id);
            let name = node.name.replace('\\', "\\\\").replace(':', "\\:");
            parts.push(format!("{}:{}:", node.class.name, name));
            id = node.parent;
        }
        parts.reverse();
        parts.concat()
    }
}

fn class_key(class: &'static ScopeClass) -> usize {
    std::ptr::from_ref(class) as usize
}

/// The instance name of a scope, understood.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub text: Arc<str>,
    pub key: Arc<str>,
    pub meaning: Meaning,
}

/// What is wrong with an instance name, and how to mend it.
pub(crate) type NameError = (String, Option<String>);

impl Name {
    /// Reads the instance name of a stanza.
    pub(crate) fn understand(class: &ScopeClass, name: Option<&str>) -> Result<Name, NameError> {
        let Some(text) = name else {
            return match class.naming {
                Naming::Named => Err((
                    format!("`{}` needs a name", class.name),
                    Some(format!("write `{} \"name\" {{ … }}`", class.name)),
                )),
                Naming::Anonymous => Ok(Name { text: Arc::from(""), key: Arc::from(""), meaning: Meaning::Plain }),
                Naming::Optional => {
                    let own = class.name.to_ascii_lowercase();
                    Ok(Name { text: Arc::from(""), key: Arc::from(own), meaning: Meaning::Plain })
                }
            };
        };
        if class.naming == Naming::Anonymous && class.kind != ScopeKind::Foreign {
            return Err((
                format!("`{}` has no name of its own, so `{text}` cannot stand here", class.name),
                Some(format!("write `{} {{ … }}`", class.name)),
            ));
        }
        if text.is_empty() {
            return Err((format!("the name of this `{}` is empty", class.name), None));
        }
        let (key, meaning) = match class.kind {
            ScopeKind::Binding | ScopeKind::BindingGroup => (plain_binding(class, text)?, Meaning::Plain),
            ScopeKind::Domain | ScopeKind::Host => domain(text)?,
            ScopeKind::EsmtpPeer | ScopeKind::EcstreamPeer | ScopeKind::HttpPeer | ScopeKind::ControlPeer => {
                let (net, _) = cidr::parse(text).map_err(|message| (message, None))?;
                (net.to_string(), Meaning::Net(net))
            }
            ScopeKind::EsmtpListen | ScopeKind::EcstreamListen | ScopeKind::HttpListen | ScopeKind::ControlListen => {
                let address = ListenAddr::parse(text).map_err(|(message, help)| (message, Some(help)))?;
                (address.to_string(), Meaning::Address(address))
            }
            ScopeKind::ThreadPool | ScopeKind::EventLoop => (text.to_ascii_lowercase(), Meaning::Plain),
            _ => (text.to_string(), Meaning::Plain),
        };
        Ok(Name { text: Arc::from(text), key: Arc::from(key), meaning })
    }

    /// A name to go on with after an error, so that what stands inside is read too.
    pub(crate) fn any(text: &str) -> Name {
        Name { text: Arc::from(text), key: Arc::from(text), meaning: Meaning::Plain }
    }
}

fn plain_binding(class: &ScopeClass, text: &str) -> Result<String, NameError> {
    let what = class.name;
    if text.contains(char::is_whitespace) || text.contains(char::is_control) {
        return Err((
            format!("the name `{text}` of a {what} has a blank in it"),
            Some("use `-` or `_` instead".into()),
        ));
    }
    if text.contains(':') {
        return Err((format!("the name `{text}` of a {what} has a `:` in it"), Some("use `-` or `_` instead".into())));
    }
    if text.starts_with('#') {
        return Err((format!("names of a {what} that begin with `#` are reserved"), None));
    }
    Ok(text.to_string())
}

fn domain(text: &str) -> Result<(String, Meaning), NameError> {
    let inner = text.strip_prefix('/').and_then(|t| t.strip_suffix('/'));
    if let Some(inner) = inner {
        let pattern = Pcre::caseless(inner)
            .map_err(|message| (message, Some("a name between two `/` is a Perl-compatible pattern".into())))?;
        return Ok((text.to_string(), Meaning::Pattern(Arc::new(pattern))));
    }
    if text.contains(char::is_whitespace) || text.contains('*') {
        let help = "for several domains write a pattern: \"/(^|[.])example[.]org$/\"";
        return Err((format!("`{text}` is not a domain"), Some(help.into())));
    }
    Ok((text.to_ascii_lowercase(), Meaning::Plain))
}
