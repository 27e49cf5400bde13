//! Checks that concern more than one setting: contradictions are errors, doubtful things warnings.

pub(crate) mod relay;

use crate::diagnostic::{Diagnostic, Severity, did_you_mean};
use crate::options::{self, OptionDecl, Status};
use crate::scopes::{G, ScopeKind};
use crate::source::{Sources, Span};
use crate::tree::{Meaning, NodeId, ROOT, Setting, Tree};
use crate::value::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Subsystems that `debug_flags` may name.
const SUBSYSTEMS: &[&str] = &[
    "ALL", "DANE", "DB", "DNS", "DNSDS", "ERROR", "FD", "LIC", "LOG1", "MEM", "MOD", "MTA_STS", "NET", "SIG", "SMTP",
    "SSL", "START", "TIME",
];

/// All checks of a tree whose single settings are in order.
pub(crate) fn all(tree: &Tree, sources: &Sources) -> Vec<Diagnostic> {
    let mut checks = Checks { tree, sources, found: Vec::new() };
    checks.listeners();
    checks.local_changes();
    checks.bindings();
    checks.pathways();
    checks.limits();
    checks.doubtful();
    checks.credentials();
    checks.modules();
    checks.debug_flags();
    checks.shadowed_domains();
    checks.found
}

/// Options and stanzas that are accepted without effect.
pub(crate) fn without_effect(tree: &Tree, sources: &Sources, severity: Severity) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for id in tree.walk() {
        let node = tree.node(id);
        let head = node.openings.first().map(|opening| opening.head);
        if let (Status::Accepted, Some(head)) = (node.class.status, head) {
            let message = format!("`{}` is accepted and has no effect here", node.class.name);
            found.push(Diagnostic::at(sources, severity, head, message));
        }
        for setting in node.settings.iter().filter(|s| s.decl.status == Status::Accepted && !s.edited) {
            if let Some(place) = setting.places.last() {
                let message = format!("`{}` is accepted and has no effect here", setting.decl.name);
                found.push(Diagnostic::at(sources, severity, place.whole, message));
            }
        }
    }
    found
}

struct Checks<'a> {
    tree: &'a Tree,
    sources: &'a Sources,
    found: Vec<Diagnostic>,
}

impl<'a> Checks<'a> {
    fn report(&mut self, severity: Severity, span: Option<Span>, message: String, help: Option<&str>) {
        let mut diagnostic = match span {
            Some(span) => Diagnostic::at(self.sources, severity, span, message),
            None => Diagnostic::general(severity, "", message),
        };
        diagnostic.help = help.map(str::to_string);
        self.found.push(diagnostic);
    }

    fn error(&mut self, span: Option<Span>, message: impl Into<String>, help: Option<&str>) {
        self.report(Severity::Error, span, message.into(), help);
    }

    fn warn(&mut self, span: Option<Span>, message: impl Into<String>, help: Option<&str>) {
        self.report(Severity::Warning, span, message.into(), help);
    }

    /// Every setting of an option, with its scope.
    fn settings(&self, decl: &'static OptionDecl) -> Vec<(NodeId, &'a Setting)> {
        let tree = self.tree;
        let nodes = tree.walk().into_iter();
        nodes.filter_map(|id| tree.node(id).setting(decl).map(|setting| (id, setting))).collect()
    }

    fn listeners(&mut self) {
        let mut addresses: HashMap<String, NodeId> = HashMap::new();
        for id in self.tree.walk() {
            let node = self.tree.node(id);
            if let Meaning::Address(address) = &node.meaning
                && addresses.insert(address.to_string(), id).is_some()
            {
                let head = node.openings.first().map(|o| o.head);
                self.error(
                    head,
                    format!("`{}` is listened on already", node.name),
                    Some("give one of them another port"),
                );
            }
            self.tls_from_the_first_byte(id);
            self.passwords_in_clear(id);
        }
        self.pool_names();
    }

    /// `use_ssl` and STARTTLS in one stanza contradict each other; one of them set further out is no contradiction.
    fn tls_from_the_first_byte(&mut self, id: NodeId) {
        let node = self.tree.node(id);
        let Some(Setting { value: Value::Bool(true), .. }) = node.setting(&options::USE_SSL.decl) else { return };
        let Some(extensions) = node.setting(&options::SMTP_EXTENSIONS.decl) else { return };
        if extension(&extensions.value, |word| word == "STARTTLS") {
            let help = "with Use_SSL the connection is encrypted already: take STARTTLS out";
            self.error(span(extensions), "Use_SSL and STARTTLS exclude each other", Some(help));
        }
    }

    fn passwords_in_clear(&mut self, id: NodeId) {
        let node = self.tree.node(id);
        let Some(extensions) = node.setting(&options::SMTP_EXTENSIONS.decl) else { return };
        let has = |wanted: fn(&str) -> bool| extension(&extensions.value, wanted);
        let encrypted = std::iter::successors(Some(id), |id| (*id != ROOT).then(|| self.tree.node(*id).parent)).any(
            |id| matches!(self.tree.node(id).setting(&options::USE_SSL.decl), Some(s) if s.value == Value::Bool(true)),
        );
        if has(|w| w == "AUTH PLAIN" || w == "AUTH LOGIN") && !has(|w| w == "STARTTLS") && !encrypted {
            let message = "passwords of AUTH PLAIN and LOGIN cross the network in clear here";
            self.warn(span(extensions), message, Some("add STARTTLS with a certificate, or Use_SSL"));
        }
    }

    fn pool_names(&mut self) {
        let known: Vec<Arc<str>> =
            self.tree.children(ROOT, ScopeKind::ThreadPool).map(|id| self.tree.node(id).key.clone()).collect();
        for (_, setting) in self.settings(&options::POOL_NAME.decl) {
            if let Value::Text(name) = &setting.value
                && !known.iter().any(|k| k.eq_ignore_ascii_case(name))
                && !["io", "cpu"].contains(&name.to_ascii_lowercase().as_str())
            {
                let message = format!("there is no thread pool `{name}`; the pool IO is used");
                self.warn(span(setting), message, Some("declare it: `ThreadPool \"name\" { concurrency = 5 }`"));
            }
        }
    }

    fn local_changes(&mut self) {
        let root = self.tree.node(ROOT);
        if let Some(only) = root.setting(&options::LOCAL_CHANGES_ONLY.decl)
            && only.value == Value::Bool(true)
            && root.setting(&options::LOCAL_CHANGES_FILE.decl).is_none()
        {
            let help = "set Local_Changes_File to the file that changes go to";
            self.error(span(only), "Local_Changes_Only needs Local_Changes_File", Some(help));
        }
    }

    /// A binding is in one group, or in none.
    fn bindings(&mut self) {
        let mut homes: HashMap<Arc<str>, Arc<str>> = HashMap::new();
        for group in self.tree.children(ROOT, ScopeKind::BindingGroup) {
            for binding in self.tree.children(group, ScopeKind::Binding) {
                let node = self.tree.node(binding);
                let home = self.tree.node(group).key.clone();
                if let Some(other) = homes.insert(node.key.clone(), home) {
                    let message = format!("binding `{}` is in group `{other}` already", node.name);
                    let head = node.openings.first().map(|o| o.head);
                    self.error(head, message, Some("a binding is in one group only; give it another name"));
                }
            }
        }
    }

    fn pathways(&mut self) {
        let known: Vec<&str> = (self.tree.walk().into_iter())
            .filter(|id| self.tree.node(*id).kind() == ScopeKind::Pathway)
            .map(|id| &*self.tree.node(id).key)
            .collect();
        for (_, setting) in self.settings(&options::PATHWAY.decl) {
            if let Value::Text(name) = &setting.value
                && !known.contains(&&**name)
            {
                let help = did_you_mean(name, known.iter().copied());
                let message = format!("there is no pathway `{name}`; its options are looked for in vain");
                self.warn(span(setting), message, help.as_deref());
            }
        }
    }

    fn limits(&mut self) {
        let root = self.tree.node(ROOT);
        let number = |decl: &'static OptionDecl, default: i64| match root.setting(decl).map(|s| &s.value) {
            Some(Value::Int(n)) => *n,
            _ => default,
        };
        let files = number(&options::SERVER_MAX_FILE_DESCRIPTORS.decl, 3_000_000);
        let connections = number(&options::SERVER_MAX_OUTBOUND_CONNECTIONS.decl, 20_000);
        if files < connections.saturating_mul(4) {
            let places = [&options::SERVER_MAX_FILE_DESCRIPTORS.decl, &options::SERVER_MAX_OUTBOUND_CONNECTIONS.decl];
            let place = places.iter().find_map(|decl| root.setting(decl)).and_then(span);
            let message = format!(
                "Server_Max_File_Descriptors ({files}) is less than four times Server_Max_Outbound_Connections ({connections})"
            );
            self.warn(place, message, Some("connections may fail for want of descriptors"));
        }
        let (goal, hwm) = (number(&options::MEMORY_GOAL.decl, 90), number(&options::MEMORY_HWM.decl, 95));
        if goal > hwm {
            let place = root.setting(&options::MEMORY_GOAL.decl).and_then(span);
            self.warn(place, format!("Memory_Goal ({goal}) is above Memory_HWM ({hwm})"), None);
        }
    }

    /// Single values that load and do something else than they say, or nothing.
    fn doubtful(&mut self) {
        for (_, setting) in self.settings(&options::RELAY_FOR_SENDING_DOMAINS.decl) {
            if matches!(&setting.value, Value::Domains(set) if set.is_empty()) {
                let message =
                    "an empty Relay_For_Sending_Domains matches nothing here; in Momentum it is an open relay";
                self.warn(span(setting), message, Some("take it out, or use Open_Relay where you mean that"));
            }
        }
        for (_, setting) in self.settings(&options::STARTTLS_INJECTION_POLICY.decl) {
            if matches!(&setting.value, Value::Text(word) if &**word == "allow") {
                let message = "STARTTLS_Injection_Policy = allow would be the injection itself; it acts as `ignore`";
                self.warn(span(setting), message, None);
            }
        }
        for (_, setting) in self.settings(&options::UNSAFE_SPOOL.decl) {
            if setting.value == Value::Bool(true) {
                self.warn(span(setting), "mail is always written to the disk: _Unsafe_Spool is not honoured", None);
            }
        }
        for (_, setting) in self.settings(&options::FORCE_FSYNC.decl) {
            if setting.value == Value::Bool(false) {
                let message = "mail is always synced before it is acknowledged: Force_FSync = false is not honoured";
                self.report(Severity::Info, span(setting), message.into(), None);
            }
        }
        for decl in options::registry::all().filter_map(|decl| decl.cluster) {
            if let Some((_, setting)) = self.settings(decl).first() {
                let plain = decl.name.strip_prefix("Cluster_").unwrap_or(decl.name);
                let message = format!("{} acts as {plain}: there is no cluster", decl.name);
                self.warn(span(setting), message, None);
            }
        }
        for (_, setting) in self.settings(&options::OUTBOUND_SMTP_AUTH_PASS.decl) {
            let tls = self.settings(&options::TLS.decl);
            if !tls.iter().any(|(_, s)| matches!(&s.value, Value::Text(word) if &**word == "required")) {
                let message = "this password may cross the network in clear";
                self.warn(span(setting), message, Some("set TLS = required in the same scope"));
            }
        }
    }

    /// Parameters of an AUTH mechanism without a source of users.
    fn credentials(&mut self) {
        let dicts = [
            &options::AUTHLOGINPARAMETERS.decl,
            &options::AUTHPLAINPARAMETERS.decl,
            &options::AUTHCRAMMD5PARAMETERS.decl,
            &options::AUTHDIGESTMD5PARAMETERS.decl,
            &options::AUTHSCRAMSHA256PARAMETERS.decl,
            &options::AUTHORIZATIONPARAMETERS.decl,
        ];
        for decl in dicts {
            for (_, setting) in self.settings(decl) {
                if matches!(&setting.value, Value::Dict(dict) if dict.get("uri").is_none()) {
                    let message = format!("{} needs the key `uri`", decl.name);
                    self.error(span(setting), message, Some("such as `[ uri = \"file:///etc/users\" ]`"));
                }
            }
        }
        for id in self.tree.children(ROOT, ScopeKind::Datasource) {
            let node = self.tree.node(id);
            if node.setting(&options::DATASOURCE_URI.decl).is_none() {
                let head = node.openings.first().map(|o| o.head);
                self.error(head, format!("datasource `{}` needs `uri`", node.name), None);
            }
        }
    }

    fn modules(&mut self) {
        let modules: Vec<NodeId> = self.tree.children(ROOT, ScopeKind::Module).collect();
        let named = |name: &str| -> Vec<NodeId> {
            modules.iter().copied().filter(|id| self.tree.node(*id).class.name.eq_ignore_ascii_case(name)).collect()
        };
        if let [_, second, ..] = named("scriptlet").as_slice() {
            let head = self.tree.node(*second).openings.first().map(|o| o.head);
            let help = "put all scripts into one: `scriptlet \"scriptlet\" { script \"a\" { … } script \"b\" { … } }`";
            self.error(head, "there is another scriptlet stanza with a different name", Some(help));
        }
        if let (Some(id), false) = (named("opendkim").first(), named("dkim_sign").is_empty()) {
            let head = self.tree.node(*id).openings.first().map(|o| o.head);
            self.error(head, "OpenDKIM and DKIM_Sign exclude each other", Some("take one of them out"));
        }
        self.scripts(&named("scriptlet"));
        self.custom_loggers(&named("custom_logger"));
    }

    fn scripts(&mut self, scriptlets: &[NodeId]) {
        for part in scriptlets.iter().flat_map(|id| &self.tree.node(*id).children) {
            let node = self.tree.node(*part);
            if node.setting(&options::SCRIPT_SOURCE.decl).is_none() {
                let head = node.openings.first().map(|o| o.head);
                self.error(
                    head,
                    format!("script `{}` needs `source`", node.name),
                    Some("such as `source = \"policy.main\"`"),
                );
            }
        }
    }

    /// A stage that is switched on needs a format, and a format needs a file.
    fn custom_loggers(&mut self, loggers: &[NodeId]) {
        use options::*;
        let stages: &[(&'static OptionDecl, &'static OptionDecl, &'static OptionDecl)] = &[
            (
                &CUSTOM_LOGGER_LOG_RECEPTIONS.decl,
                &CUSTOM_LOGGER_RECEPTION_FORMAT.decl,
                &CUSTOM_LOGGER_RECEPTION_LOGFILE.decl,
            ),
            (
                &CUSTOM_LOGGER_LOG_DELIVERIES.decl,
                &CUSTOM_LOGGER_DELIVERY_FORMAT.decl,
                &CUSTOM_LOGGER_DELIVERY_LOGFILE.decl,
            ),
            (
                &CUSTOM_LOGGER_LOG_TRANSIENT_FAILURES.decl,
                &CUSTOM_LOGGER_TRANSIENT_FAILURE_FORMAT.decl,
                &CUSTOM_LOGGER_TRANSIENT_FAILURE_LOGFILE.decl,
            ),
            (
                &CUSTOM_LOGGER_LOG_PERMANENT_FAILURES.decl,
                &CUSTOM_LOGGER_PERMANENT_FAILURE_FORMAT.decl,
                &CUSTOM_LOGGER_PERMANENT_FAILURE_LOGFILE.decl,
            ),
            (
                &CUSTOM_LOGGER_LOG_REJECTIONS.decl,
                &CUSTOM_LOGGER_REJECTION_FORMAT.decl,
                &CUSTOM_LOGGER_REJECTION_LOGFILE.decl,
            ),
        ];
        for id in loggers {
            let node = self.tree.node(*id);
            for (switch, format, file) in stages {
                let on = node.setting(switch).filter(|s| s.value == Value::Bool(true));
                let format_setting = node.setting(format);
                if let (Some(on), None) = (on, format_setting) {
                    self.error(span(on), format!("{} needs {}", switch.name, format.name), None);
                }
                let no_file = node.setting(file).is_none() && node.setting(&CUSTOM_LOGGER_MAINLOG.decl).is_none();
                if let (Some(setting), true) = (format_setting, no_file) {
                    self.error(span(setting), format!("{} needs {} or MainLog", format.name, file.name), None);
                }
            }
        }
    }

    fn debug_flags(&mut self) {
        for id in self.tree.children(ROOT, ScopeKind::DebugFlags) {
            for setting in &self.tree.node(id).settings {
                let Value::List(names) = &setting.value else { continue };
                for name in names.iter().filter(|n| !SUBSYSTEMS.iter().any(|s| s.eq_ignore_ascii_case(n))) {
                    let help = did_you_mean(name, SUBSYSTEMS.iter().copied())
                        .unwrap_or_else(|| format!("known are {}", SUBSYSTEMS.join(" ")));
                    self.warn(span(setting), format!("there is no subsystem `{name}`"), Some(&help));
                }
            }
        }
    }

    /// A binding goes before a global domain: where every binding sets an option, one for a domain says nothing.
    fn shadowed_domains(&mut self) {
        let bindings: Vec<NodeId> =
            (self.tree.walk().into_iter()).filter(|id| self.tree.node(*id).kind() == ScopeKind::Binding).collect();
        if bindings.is_empty() {
            return;
        }
        for domain in self.tree.children(ROOT, ScopeKind::Domain) {
            for setting in &self.tree.node(domain).settings {
                let decl = setting.decl;
                let sets = |id: NodeId| self.tree.node(id).setting(decl).is_some();
                let shadowed = decl.scopes.contains(ScopeKind::Binding)
                    && bindings.iter().all(|id| {
                        let group = self.tree.node(*id).parent;
                        sets(*id) || (group != ROOT && sets(group))
                    });
                if shadowed {
                    let message = format!(
                        "every binding sets {}, so that of domain `{}` never counts",
                        decl.name,
                        self.tree.node(domain).name
                    );
                    let help =
                        "a binding goes before a global domain; write the domain inside the binding or its group";
                    self.report(Severity::Info, span(setting), message, Some(help));
                }
            }
        }
    }
}

/// Where the valid definition stands.
fn span(setting: &Setting) -> Option<Span> {
    setting.places.last().filter(|_| !setting.edited).map(|place| place.whole)
}

/// Whether an extension of that kind is listed; words are compared in upper case.
fn extension(value: &Value, wanted: impl Fn(&str) -> bool) -> bool {
    match value {
        Value::List(list) => list.iter().any(|word| {
            let word = word.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
            wanted(&word)
        }),
        _ => false,
    }
}

/// Options of the global scope that need a restart and differ between two configurations.
pub(crate) fn restart_only_changes(old: &Tree, new: &Tree) -> Vec<&'static str> {
    let mut names = Vec::new();
    for decl in options::registry::all().filter(|decl| !decl.reloadable) {
        let values = |tree: &Tree| -> Vec<Value> {
            let in_root = decl.scopes.overlaps(G).then_some(ROOT);
            let nodes = in_root.into_iter().chain(tree.children(ROOT, ScopeKind::Security));
            nodes.filter_map(|id| tree.node(id).setting(decl).map(|s| s.value.clone())).collect()
        };
        if values(old) != values(new) {
            names.push(decl.name);
        }
    }
    names
}
