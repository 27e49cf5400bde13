//! All options by name: for the parser, the console, the JSON listing and the reference page.

use super::{
    Kind, OptionDecl, Standard, Status, auth, control, listeners, logging, modules, policy, process, queue, reception,
    routing, sending_modules, shaping, spool, tls,
};
use crate::schema::{self, ScopeClass};
use crate::scopes::ScopeKind;
use std::collections::HashMap;
use std::fmt::Write as _;
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

/// Every option with its name, group, type, default, scopes and documentation, for `posthaste options --json`.
pub fn to_json() -> serde_json::Value {
    let core = GROUPS.iter().flat_map(|(title, decls)| decls.iter().map(move |decl| decl_json(decl, title, &[])));
    let modules = module_classes().flat_map(|class| {
        let owner = [class.name];
        class.options.iter().map(move |decl| decl_json(decl, "Modules", &owner)).collect::<Vec<_>>()
    });
    core.chain(modules).collect()
}

fn decl_json(decl: &OptionDecl, group: &str, owner: &[&str]) -> serde_json::Value {
    let scopes: Vec<&str> = if owner.is_empty() { decl.scopes.names() } else { owner.to_vec() };
    let mut object = serde_json::Map::new();
    object.insert("name".into(), decl.name.into());
    object.insert("group".into(), group.into());
    object.insert("type".into(), type_name(decl.kind).into());
    if let Kind::Enum(words) | Kind::NumberOr(words) = decl.kind {
        object.insert("words".into(), words.to_vec().into());
    }
    if !decl.unit.is_empty() {
        object.insert("unit".into(), decl.unit.into());
    }
    object.insert("default".into(), default_text(decl).map_or(serde_json::Value::Null, Into::into));
    if let Some(default) = decl.host_default {
        object.insert("default_in_host".into(), default.into());
    }
    object.insert("scopes".into(), scopes.into());
    object.insert("reloadable".into(), decl.reloadable.into());
    object.insert("status".into(), status_word(decl.status).into());
    object.insert("only_posthaste".into(), decl.ours.into());
    object.insert("doc".into(), decl.text().into());
    serde_json::Value::Object(object)
}

/// The reference page `docs/configuration-options.md`.
pub fn to_markdown() -> String {
    let mut page = String::from(PAGE_HEAD);
    for (title, decls) in GROUPS {
        let _ = write!(page, "\n## {title}\n\n{TABLE_HEAD}");
        decls.iter().for_each(|decl| row(&mut page, decl, &decl.scopes.to_string()));
    }
    page.push_str(MODULES_HEAD);
    for status in [Status::Implemented, Status::Missing] {
        if status == Status::Missing {
            page.push_str(MISSING_HEAD);
        }
        for class in module_classes().filter(|c| c.status == status && !c.options.is_empty()) {
            let _ = write!(page, "\n### {}\n\n{}\n\n{TABLE_HEAD}", class.name, class.doc);
            class.options.iter().for_each(|decl| row(&mut page, decl, class.name));
        }
    }
    let bare: Vec<&str> =
        module_classes().filter(|c| c.kind == ScopeKind::Module && c.options.is_empty()).map(|c| c.name).collect();
    let _ = write!(page, "\n### Names only\n\nOf these modules only the name is known: {}.\n", bare.join(", "));
    page
}

const PAGE_HEAD: &str = "# Configuration options

<!-- Made from the declarations in crates/config/src/options; a test fails when it differs. -->

Every option with its type, default and the scopes in which it may stand. Names may be written in any case. How scopes
fall back to each other is told in `configuration.md`.

In the column *status*: nothing, the option does what it says; *no effect*, it is accepted for the sake of existing
files; *not yet*, loading warns that it is not implemented; *restart*, a change needs a restart; *ours*, Momentum has
no such option.
";

const MODULES_HEAD: &str = "
## Modules

A module is loaded by naming its stanza. Each one also has `Enabled` (`true`; with `false` it can be called from policy
and runs nothing by itself) and `Debug_Level`.
";

const MISSING_HEAD: &str = "
## Modules that are not there yet

Their stanzas load with a warning. Options that are not listed here are accepted in them as well.
";

const TABLE_HEAD: &str =
    "| option | type | default | scopes | status | meaning |\n| --- | --- | --- | --- | --- | --- |\n";

fn row(page: &mut String, decl: &OptionDecl, scopes: &str) {
    let mut status: Vec<&str> = Vec::new();
    match decl.status {
        Status::Implemented => {}
        Status::Accepted => status.push("no effect"),
        Status::Missing => status.push("not yet"),
    }
    if !decl.reloadable {
        status.push("restart");
    }
    if decl.ours {
        status.push("ours");
    }
    let mut default = default_text(decl).map_or_else(|| "–".to_string(), |text| format!("`{}`", escape(&text)));
    if let Some(text) = decl.host_default {
        let _ = write!(default, " (host: `{text}`)");
    }
    let kind = match decl.kind {
        Kind::Enum(words) => words.join("/"),
        Kind::NumberOr(words) => format!("number/{}", words.join("/")),
        kind => type_name(kind).to_string(),
    };
    let (status, text) = (status.join(", "), escape(&decl.text()));
    let _ = writeln!(page, "| {} | {kind} | {default} | {scopes} | {status} | {text} |", decl.name);
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

/// `None` where there is no default; the empty text is shown as `\"\"`.
fn default_text(decl: &OptionDecl) -> Option<String> {
    match decl.default {
        Standard::Nothing => None,
        Standard::Hostname => Some("name of the host".into()),
        Standard::Text("") => Some("\"\"".into()),
        Standard::Text(text) => Some(text.into()),
    }
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int { .. } => "int",
        Kind::Mode => "mode",
        Kind::Interval | Kind::FineInterval => "interval",
        Kind::Milliseconds => "milliseconds",
        Kind::Size => "size",
        Kind::Throttle => "throttle",
        Kind::Enum(_) => "enum",
        Kind::NumberOr(_) => "number or word",
        Kind::Text | Kind::OptionalText | Kind::TextOrNone => "string",
        Kind::List => "list",
        Kind::Dict { .. } => "dict",
        Kind::Cidrs => "networks",
        Kind::Domains => "domains",
        Kind::Pattern => "pattern",
        Kind::Patterns => "patterns",
        Kind::Any => "any",
    }
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::Implemented => "implemented",
        Status::Accepted => "accepted",
        Status::Missing => "missing",
    }
}

/// Modules and the stanzas inside them.
fn module_classes() -> impl Iterator<Item = &'static ScopeClass> {
    schema::classes().into_iter().filter(|class| class.is_module())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_a_default_of_its_type_and_a_documentation() {
        listeners::self_check();
        reception::self_check();
        auth::self_check();
        tls::self_check();
        routing::self_check();
        queue::self_check();
        shaping::self_check();
        spool::self_check();
        policy::self_check();
        process::self_check();
        control::self_check();
        logging::self_check();
        modules::self_check();
        modules::scriptlet::self_check();
        modules::script::self_check();
        modules::ec_logger::self_check();
        modules::bounce_logger::self_check();
        modules::custom_logger::self_check();
        modules::chunk_logger::self_check();
        modules::json_logger::self_check();
        modules::log_rotation::self_check();
        for decl in all().chain(module_classes().flat_map(|c| c.options.iter().copied())) {
            assert!(!decl.text().is_empty(), "{} has no documentation", decl.name);
            if let Standard::Text(text) = decl.default {
                assert!(
                    crate::value::standard_value(decl, text).is_some(),
                    "{}: the default {text:?} is refused",
                    decl.name
                );
            }
        }
    }

    #[test]
    fn no_two_options_of_one_name_share_a_scope() {
        for decl in all() {
            for other in named(decl.name) {
                let same = std::ptr::eq(decl, *other);
                assert!(same || !decl.scopes.overlaps(other.scopes), "{} is declared twice", decl.name);
            }
        }
        for class in module_classes() {
            let mut names: Vec<String> = class.options.iter().map(|d| d.name.to_ascii_lowercase()).collect();
            names.sort();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{} has an option twice", class.name);
        }
        let mut classes: Vec<String> = schema::ROOT.parts.iter().map(|c| c.name.to_ascii_lowercase()).collect();
        classes.sort();
        let count = classes.len();
        classes.dedup();
        assert_eq!(classes.len(), count, "a stanza is declared twice");
    }

    #[test]
    fn names_are_found_in_any_case() {
        let decl = named("MAX_outbound_CONNECTIONS")[0];
        assert_eq!(decl.name, "Max_Outbound_Connections");
        assert!(decl.scopes.contains(ScopeKind::Host));
        assert!(named("no_such_option").is_empty());
    }
}
