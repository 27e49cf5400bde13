//! A loaded configuration: one generation, never changed.
//!
//! Consumers ask for a [`Scope`] and take options from it. Listeners, bindings, modules and scripts are listed once, when
//! the configuration is made.

use crate::check;
use crate::diagnostic::{Report, Severity};
use crate::listen::ListenAddr;
use crate::load::{self, Raw};
use crate::options;
use crate::scope::{Index, Scope};
use crate::scopes::ScopeKind;
use crate::source::{Place, Sources};
use crate::tree::{Meaning, NodeId, ROOT, Tree};
use crate::value::{PcreList, Value};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A configuration that can be used, and what is doubtful about it.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Report,
}

/// One generation of the configuration.
pub struct Config {
    pub(crate) tree: Arc<Tree>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) index: Index,
    generation: u64,
    hostname: Value,
    listeners: Vec<Listener>,
    bindings: Vec<BindingDecl>,
    source_dir: Option<PathBuf>,
}

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    Esmtp,
    Ecstream,
    Http,
    Control,
}

/// One `…_listener` stanza.
#[derive(Clone, Debug)]
pub struct Listener {
    pub kind: ListenerKind,
    pub listens: Vec<Listen>,
    pub(crate) node: NodeId,
}

/// One `listen` stanza.
#[derive(Clone, Debug)]
pub struct Listen {
    /// As written.
    pub name: Arc<str>,
    pub address: ListenAddr,
    /// Neither the listener nor this address is switched off.
    pub enabled: bool,
    pub(crate) node: NodeId,
}

/// Where a connection came in, for [`Config::receiving`].
#[derive(Clone, Copy, Debug)]
pub struct Receiving<'a> {
    /// Index into [`Config::listeners`].
    pub listener: usize,
    /// Index into the `listens` of that listener.
    pub listen: usize,
    /// The client, after a PROXY header or XCLIENT.
    pub remote: IpAddr,
    /// A pathway that policy has chosen; it goes before the option of that name.
    pub pathway: Option<&'a str>,
}

/// A binding, and the group it is in; `default` where none is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingDecl {
    pub name: Arc<str>,
    pub group: Arc<str>,
}

/// A script of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptDecl {
    pub name: Arc<str>,
    pub source: Arc<str>,
    /// Where `source` is set.
    pub place: Place,
}

/// A module stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleDecl {
    /// In lower case.
    pub name: Arc<str>,
    /// The instance name; that of the module where none is written.
    pub instance: Arc<str>,
    pub enabled: bool,
    /// Posthaste does something for it.
    pub implemented: bool,
}

/// A role for the console.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleDecl {
    pub name: Arc<str>,
    pub allow: Arc<PcreList>,
}

/// The levels of `debug_flags` with their subsystems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugFlags {
    /// Level in lower case, from `debug` to `critical`, and what logs at it, in upper case.
    pub levels: [(&'static str, Arc<[Arc<str>]>); 6],
}

/// Whom the process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// There is a stanza.
    pub configured: bool,
    pub user: Option<Arc<str>>,
    pub group: Option<Arc<str>>,
    pub chroot: Option<Arc<str>>,
    pub capabilities: Option<Arc<str>>,
    pub supplemental_groups: Option<Arc<str>>,
}

/// A pool of threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPoolDecl {
    pub name: Arc<str>,
    pub concurrency: u32,
    /// Jobs that may wait; 0 is no limit.
    pub backlog: u32,
}

/// Pools that exist without a stanza: name, threads, waiting jobs (Momentum's defaults).
const THREADPOOLS: &[(&str, u32, u32)] = &[
    ("SwapOut", 5, 0),
    ("SwapIn", 5, 0),
    ("Unlink", 6, 100),
    ("Batch_Unlink", 4, 0),
    ("Close", 0, 0),
    ("CPU", 4, 0),
    ("IO", 50, 0),
    ("SpoolIn", 1, 0),
];

static GENERATION: AtomicU64 = AtomicU64::new(1);

impl Config {
    /// What holds where there is no configuration file: loopback only, relaying for loopback, mail in the user's folder.
    pub fn builtin() -> Config {
        crate::builtin::config()
    }

    /// Reads a file and what it includes. The error has all that is wrong, not only the first.
    pub fn load(path: &Path) -> Result<Loaded, Report> {
        let folder = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
        Config::finish(load::file(path), folder)
    }

    /// Reads a text; relative includes are looked for in the current folder.
    pub fn parse(name: &str, text: &str) -> Result<Loaded, Report> {
        Config::parse_bytes(name, text.as_bytes())
    }

    /// As [`Config::parse`], for bytes that may be no text at all.
    pub fn parse_bytes(name: &str, text: &[u8]) -> Result<Loaded, Report> {
        Config::finish(load::text(name, text), None)
    }

    fn finish(raw: Raw, folder: Option<&Path>) -> Result<Loaded, Report> {
        let mut report = raw.report;
        if !report.has_errors() {
            report.extend(check::all(&raw.tree, &raw.sources));
        }
        if report.has_errors() {
            return Err(report);
        }
        let config = Config::from_tree(Arc::new(raw.tree), Arc::new(raw.sources), folder.map(Path::to_path_buf));
        Ok(Loaded { config, warnings: report })
    }

    /// Makes a generation of a tree that has passed the checks.
    pub(crate) fn from_tree(tree: Arc<Tree>, sources: Arc<Sources>, source_dir: Option<PathBuf>) -> Config {
        let index = Index::new(&tree);
        let listeners = listeners(&tree);
        let bindings = bindings(&tree);
        Config {
            index,
            listeners,
            bindings,
            tree,
            sources,
            source_dir,
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            hostname: Value::Text(Arc::from(crate::host::name())),
        }
    }

    /// Greater for later configurations of this process.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The global scope.
    pub fn global(&self) -> Scope<'_> {
        Scope::new(self, &[ROOT])
    }

    /// What holds for mail of a binding to a domain. The domain is the one the mail is queued under.
    pub fn sending(&self, group: &str, binding: &str, domain: &str) -> Scope<'_> {
        Scope::sending(self, group, binding, domain)
    }

    /// What holds for connections of a binding to a mail host: its own chain, without the sending scopes.
    pub fn host(&self, group: &str, binding: &str, host: &str) -> Scope<'_> {
        Scope::host(self, group, binding, host)
    }

    /// What holds for a client of a listener. An index out of range has the global options.
    pub fn receiving(&self, receiving: &Receiving<'_>) -> Scope<'_> {
        Scope::receiving(self, receiving)
    }

    /// The stanza of a module; `None` for the instance takes the one without a name, else the only or first one.
    pub fn module(&self, name: &str, instance: Option<&str>) -> Option<Scope<'_>> {
        let found = self
            .tree
            .children(ROOT, ScopeKind::Module)
            .filter(|id| self.tree.node(*id).class.name.eq_ignore_ascii_case(name));
        let mut first = None;
        for id in found {
            let key = &*self.tree.node(id).key;
            match instance {
                Some(wanted) if wanted == key => return Some(Scope::new(self, &[id, ROOT])),
                None if key.eq_ignore_ascii_case(name) => return Some(Scope::new(self, &[id, ROOT])),
                _ => first = first.or(Some(id)),
            }
        }
        first.filter(|_| instance.is_none()).map(|id| Scope::new(self, &[id, ROOT]))
    }

    /// The stanzas inside a module, such as `dkim_domain`: kind in lower case, name, and scope (with the module around it).
    pub fn module_parts(&self, name: &str, instance: &str) -> Vec<(String, Arc<str>, Scope<'_>)> {
        let modules = self.tree.children(ROOT, ScopeKind::Module).filter(|id| {
            let node = self.tree.node(*id);
            node.class.name.eq_ignore_ascii_case(name) && *node.key == *instance
        });
        modules
            .flat_map(|module| self.tree.node(module).children.iter().map(move |part| (module, *part)))
            .map(|(module, part)| {
                let node = self.tree.node(part);
                (node.class.name.to_ascii_lowercase(), node.key.clone(), Scope::new(self, &[part, module, ROOT]))
            })
            .collect()
    }

    /// All listeners, in the order of the file.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Whether some `peer` of an address to listen on, or of its listener, sets a switch to true.
    pub fn some_peer_sets(&self, listener: usize, listen: usize, option: &'static options::Opt<bool>) -> bool {
        let Some(listener) = self.listeners.get(listener) else { return false };
        let containers = listener.listens.get(listen).map(|listen| listen.node).into_iter().chain([listener.node]);
        containers.flat_map(|container| self.index.all_peers(container)).any(|peer| {
            let setting = self.tree.node(peer).setting(&option.decl);
            setting.is_some_and(|setting| setting.value == Value::Bool(true))
        })
    }

    /// The options of one address to listen on, as far as they do not depend on the client.
    pub fn listen_scope(&self, listener: usize, listen: usize) -> Scope<'_> {
        match self.listeners.get(listener).and_then(|l| l.listens.get(listen)) {
            Some(_) => Scope::without_peers(self, listener, Some(listen)),
            None => self.global(),
        }
    }

    /// All bindings; `default` is always there and comes first.
    pub fn bindings(&self) -> &[BindingDecl] {
        &self.bindings
    }

    /// The group of a binding; `default` for one that is not declared.
    pub fn group_of(&self, binding: &str) -> &str {
        self.bindings.iter().find(|b| *b.name == *binding).map_or("default", |b| &b.group)
    }

    /// The scripts of the policy, in the order in which they run.
    pub fn scripts(&self) -> Vec<ScriptDecl> {
        let mut scripts = Vec::new();
        for module in self.tree.children(ROOT, ScopeKind::Module) {
            if !self.tree.node(module).class.name.eq_ignore_ascii_case("scriptlet") {
                continue;
            }
            for part in &self.tree.node(module).children {
                let node = self.tree.node(*part);
                let source = node.setting(&options::SCRIPT_SOURCE.decl);
                let Some((Value::Text(source), place)) = source.map(|s| (s.value.clone(), s.places.last())) else {
                    continue;
                };
                let place = match place {
                    Some(place) => self.sources.place(place.value),
                    None => Place { file: Arc::from("console"), line: 0, column: 0 },
                };
                scripts.push(ScriptDecl { name: node.key.clone(), source, place });
            }
        }
        scripts
    }

    /// The module stanzas, in the order of the file.
    pub fn modules(&self) -> Vec<ModuleDecl> {
        self.tree
            .children(ROOT, ScopeKind::Module)
            .map(|id| {
                let node = self.tree.node(id);
                ModuleDecl {
                    name: Arc::from(node.class.name.to_ascii_lowercase()),
                    instance: node.key.clone(),
                    enabled: Scope::new(self, &[id]).get(&options::MODULE_ENABLED),
                    implemented: node.class.status != options::Status::Missing,
                }
            })
            .collect()
    }

    /// The roles of `authorization`, in the order of the file.
    pub fn roles(&self) -> Vec<RoleDecl> {
        let stanzas = self.tree.children(ROOT, ScopeKind::Authorization);
        stanzas
            .flat_map(|id| self.tree.children(id, ScopeKind::Role))
            .map(|id| RoleDecl {
                name: self.tree.node(id).key.clone(),
                allow: Scope::new(self, &[id]).get(&options::ALLOW),
            })
            .collect()
    }

    /// The datasources: name and options.
    pub fn datasources(&self) -> Vec<(Arc<str>, Scope<'_>)> {
        self.named(ScopeKind::Datasource)
    }

    /// The receivers of SNMP traps: name and options.
    pub fn trap_destinations(&self) -> Vec<(Arc<str>, Scope<'_>)> {
        let stanzas = self.tree.children(ROOT, ScopeKind::SnmpTraps);
        stanzas
            .flat_map(|id| self.tree.children(id, ScopeKind::TrapDestination))
            .map(|id| (self.tree.node(id).key.clone(), Scope::new(self, &[id, ROOT])))
            .collect()
    }

    fn named(&self, kind: ScopeKind) -> Vec<(Arc<str>, Scope<'_>)> {
        let nodes = self.tree.children(ROOT, kind);
        nodes.map(|id| (self.tree.node(id).key.clone(), Scope::new(self, &[id, ROOT]))).collect()
    }

    /// What goes to the paniclog.
    pub fn debug_flags(&self) -> DebugFlags {
        let node = self.tree.children(ROOT, ScopeKind::DebugFlags).next();
        let scope = Scope::new(self, &[node.unwrap_or(ROOT)]);
        let level = |option: &options::Opt<Arc<[Arc<str>]>>| -> Arc<[Arc<str>]> {
            scope.get(option).iter().map(|name| Arc::from(name.to_ascii_uppercase())).collect()
        };
        DebugFlags {
            levels: [
                ("debug", level(&options::DEBUG_FLAGS_DEBUG)),
                ("info", level(&options::DEBUG_FLAGS_INFO)),
                ("notice", level(&options::DEBUG_FLAGS_NOTICE)),
                ("warning", level(&options::DEBUG_FLAGS_WARNING)),
                ("error", level(&options::DEBUG_FLAGS_ERROR)),
                ("critical", level(&options::DEBUG_FLAGS_CRITICAL)),
            ],
        }
    }

    /// Whom the process runs as.
    pub fn security(&self) -> Security {
        let Some(node) = self.tree.children(ROOT, ScopeKind::Security).next() else { return Security::default() };
        let scope = Scope::new(self, &[node]);
        Security {
            configured: true,
            user: scope.get(&options::SECURITY_USER),
            group: scope.get(&options::SECURITY_GROUP),
            chroot: scope.get(&options::SECURITY_CHROOT),
            capabilities: scope.get(&options::SECURITY_CAPABILITIES),
            supplemental_groups: scope.get(&options::SECURITY_SUPPLEMENTAL_GROUPS),
        }
    }

    /// All thread pools: those that always exist, with what the configuration says, then its own.
    pub fn threadpools(&self) -> Vec<ThreadPoolDecl> {
        let mut pools: Vec<ThreadPoolDecl> = THREADPOOLS
            .iter()
            .map(|(name, concurrency, backlog)| ThreadPoolDecl {
                name: Arc::from(*name),
                concurrency: *concurrency,
                backlog: *backlog,
            })
            .collect();
        for id in self.tree.children(ROOT, ScopeKind::ThreadPool) {
            let name = self.tree.node(id).name.clone();
            let at = pools.iter().position(|p| p.name.eq_ignore_ascii_case(&name)).unwrap_or_else(|| {
                pools.push(ThreadPoolDecl { name, concurrency: 1, backlog: 0 });
                pools.len() - 1
            });
            let scope = Scope::new(self, &[id]);
            if let Some((concurrency, _)) = scope.find(&options::CONCURRENCY) {
                pools[at].concurrency = concurrency as u32; // the option is limited to u32
            }
            if let Some((backlog, _)) = scope.find(&options::THREADPOOL_BACKLOG) {
                pools[at].backlog = backlog as u32;
            }
        }
        pools
    }

    /// The group of a pathway.
    pub fn pathway_group(&self, pathway: &str) -> Option<Arc<str>> {
        self.index.pathway(pathway).and_then(|p| p.group).map(|group| self.tree.node(group).key.clone())
    }

    /// The folder of the main file; `None` for a configuration that is in no file.
    pub fn source_dir(&self) -> Option<&Path> {
        self.source_dir.as_deref()
    }

    /// The files that were read, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        self.sources.iter().filter_map(|(_, source)| source.path.clone()).collect()
    }

    /// Scopes in which strangers may relay, or may say who they are; for `posthaste check` and the log at the start.
    pub fn relay_warnings(&self) -> Vec<crate::diagnostic::Diagnostic> {
        check::relay::warnings(&self.tree, &self.sources)
    }

    /// Options and stanzas that are accepted without effect, for `posthaste check -v`.
    pub fn without_effect(&self) -> Vec<crate::diagnostic::Diagnostic> {
        check::without_effect(&self.tree, &self.sources, Severity::Info)
    }

    pub(crate) fn hostname(&self) -> &Value {
        &self.hostname
    }

    /// The whole as text that loads again, without comments.
    pub fn text(&self) -> String {
        crate::show::contents(&self.tree, ROOT, true)
    }

    /// The whole as JSON: `options`, and `scopes` with `scope`, `name` and the same again.
    pub fn to_json(&self) -> serde_json::Value {
        crate::show::json(&self.tree)
    }

    /// The text of a domain's stanza in the global scope, if there is one.
    pub fn domain_text(&self, domain: &str) -> Option<String> {
        let domain = domain.to_ascii_lowercase();
        let mut domains = self.tree.children(ROOT, ScopeKind::Domain);
        let id = domains.find(|id| *self.tree.node(*id).key == *domain)?;
        let inner: String =
            crate::show::contents(&self.tree, id, true).lines().map(|line| format!("  {line}\n")).collect();
        Some(format!("{} {{\n{inner}}}\n", crate::show::head(&self.tree, id)))
    }

    /// Names of options that differ from an older configuration and need a restart.
    pub fn restart_only_changes(&self, old: &Config) -> Vec<&'static str> {
        check::restart_only_changes(&old.tree, &self.tree)
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("generation", &self.generation).field("files", &self.files()).finish()
    }
}

fn listeners(tree: &Tree) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for id in &tree.node(ROOT).children {
        let kind = match tree.node(*id).kind() {
            ScopeKind::EsmtpListener => ListenerKind::Esmtp,
            ScopeKind::EcstreamListener => ListenerKind::Ecstream,
            ScopeKind::HttpListener => ListenerKind::Http,
            ScopeKind::ControlListener => ListenerKind::Control,
            _ => continue,
        };
        let enabled = |node: NodeId| match tree.node(node).setting(&options::ENABLE.decl).map(|s| &s.value) {
            Some(Value::Bool(enabled)) => *enabled,
            _ => true,
        };
        let mut listens = Vec::new();
        for child in &tree.node(*id).children {
            let node = tree.node(*child);
            if let Meaning::Address(address) = &node.meaning {
                let enabled = enabled(*id) && enabled(*child);
                listens.push(Listen { name: node.name.clone(), address: address.clone(), enabled, node: *child });
            }
        }
        listeners.push(Listener { kind, listens, node: *id });
    }
    listeners
}

fn bindings(tree: &Tree) -> Vec<BindingDecl> {
    let default: Arc<str> = Arc::from("default");
    let mut bindings = vec![BindingDecl { name: default.clone(), group: default.clone() }];
    // Those in groups first: a binding may also be opened outside of its group to set options.
    for group in tree.children(ROOT, ScopeKind::BindingGroup) {
        for binding in tree.children(group, ScopeKind::Binding) {
            let name = tree.node(binding).key.clone();
            let group = tree.node(group).key.clone();
            match bindings.iter_mut().find(|b| b.name == name) {
                Some(known) => known.group = group, // `default` in a group
                None => bindings.push(BindingDecl { name, group }),
            }
        }
    }
    for binding in tree.children(ROOT, ScopeKind::Binding) {
        let name = &tree.node(binding).key;
        if !bindings.iter().any(|b| b.name == *name) {
            bindings.push(BindingDecl { name: name.clone(), group: default.clone() });
        }
    }
    bindings
}
