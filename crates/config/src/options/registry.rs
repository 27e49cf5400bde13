//! All options by name: for the parser, the console, the JSON listing and the reference page.

use super::{
    OptionDecl, auth, control, listeners, logging, modules, policy, process, queue, reception, routing, sending_modules, shaping, spool, tls,
};
use crate::schema::ScopeClass;
use crate::scopes::ScopeKind;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The groups with their titles, in the order of the reference page.
pub(crate) static GROUPS: &[(&str, &[&OptionDecl])] = &[
    ("Listeners", listeners::DECLS),
    ("Reception and relaying", reception::DECLS),
    ("Authentication", auth::DECLS),
    ("TLS", tls::DECLS),
    ("Routing and DNS", routing::DECLS),
    ("Queue, retry and reports", queue::DECLS),
    ("Outbound shaping", shaping::DECLS),
    ("Spool and memory", spool::DECLS),
    ("Policy", policy::DECLS),
    ("Process", process::DECLS),
    ("Control channel and SNMP", control::DECLS),
    ("Levels and time stamps", logging::DECLS),
    ("Options of modules in the sending scopes", sending_modules::DECLS),
];

/// Core options by lower-case name. One name may stand for several options in different scopes.
static BY_NAME: LazyLock<HashMap<String, Vec<&'static OptionDecl>>> = LazyLock::new(|| {
    let mut map: HashMap<String, Vec<&'static OptionDecl>> = HashMap::new();
    for decl in GROUPS.iter().flat_map(|(_, decls)| decls.iter()) {
        map.entry(decl.name.to_ascii_lowercase()).or_default().push(decl);
    }
    map
});

/// Core options of that name, in any case.
pub fn named(name: &str) -> &'static [&'static OptionDecl] {
    BY_NAME.get(&name.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
}

/// All core options, in the order of the reference page.
pub fn all() -> impl Iterator<Item = &'static OptionDecl> {
    GROUPS.iter().flat_map(|(_, decls)| decls.iter().copied())
}

/// The option of that name in a stanza of that class.
pub(crate) fn find(class: &ScopeClass, name: &str) -> Option<&'static OptionDecl> {
    if let Some(own) = class.options.iter().find(|decl| decl.name.eq_ignore_ascii_case(name)) {
        return Some(own);
    }
    if class.is_module() {
        return modules::COMMON.iter().find(|decl| decl.name.eq_ignore_ascii_case(name)).copied();
    }
    named(name).iter().find(|decl| decl.scopes.contains(class.kind)).copied()
}

/// The names that `find` knows in a stanza of that class.
pub(crate) fn names_in(class: &ScopeClass) -> Vec<&'static str> {
    let core = all().filter(|d| !class.is_module() && d.scopes.contains(class.kind));
    let common = modules::COMMON.iter().filter(|_| class.is_module()).copied();
    class.options.iter().copied().chain(common).chain(core).map(|d| d.name).collect()
}

/// Whether a kind of stanza takes options from the registry.
pub(crate) fn is_core(kind: ScopeKind) -> bool {
    !matches!(kind, ScopeKind::Module | ScopeKind::ModulePart | ScopeKind::Foreign)
}
