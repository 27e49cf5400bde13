//! What a policy can name: everything that a fresh state holds, and the declarations behind it.
//!
//! Nothing is listed here. The globals, tables and constants are read out of a state that was made for it, the functions and
//! methods come from the registry: what is added there is known to `check` and to the prompt from that moment on.

use crate::api;
use crate::host::Policy;
use crate::registry::Function;
use crate::services::{NoEngine, Services};
use crate::settings::Settings;
use futures_util::FutureExt;
use mlua::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

/// A function of the registry under one of its names.
#[derive(Clone, Copy)]
pub(super) struct Declared {
    pub function: &'static Function,
    /// Called as a plain function that takes the object first: `msys.core.ec_message_header(msg, ...)`.
    pub object_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Table,
    Function,
    Value,
}

pub(super) struct Names {
    /// Dotted names from the globals on.
    values: BTreeMap<String, Sort>,
    functions: BTreeMap<String, Vec<Declared>>,
    /// By owner (`msg`, `vctx`) and short name.
    classes: BTreeMap<&'static str, BTreeMap<&'static str, Vec<&'static Function>>>,
}

/// How deep tables are looked into: `msys.extended.message_part.x`.
const DEPTH_MAX: usize = 5;

pub(super) fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    NAMES.get_or_init(Names::read)
}

impl Names {
    fn read() -> Names {
        let mut values = BTreeMap::new();
        // Without scripts nothing in it waits.
        let services = Services::without_engine(Arc::new(NoEngine));
        if let Some(Ok(policy)) = Policy::build(services, Settings::default(), false).now_or_never() {
            collect(&policy.lua.globals(), "", 0, &mut values);
        }
        let mut functions: BTreeMap<String, Vec<Declared>> = BTreeMap::new();
        let mut classes: BTreeMap<_, BTreeMap<_, Vec<_>>> = BTreeMap::new();
        for function in api::TABLES.iter().flat_map(|table| table.functions.iter().copied()) {
            let object_first = function.is_method();
            let mut add = |name: String| functions.entry(name).or_default().push(Declared { function, object_first });
            if let Some(short) = function.name.strip_prefix("msg:") {
                add(format!("msys.core.ec_message_{short}"));
            }
            function.aliases.iter().for_each(|alias| add((*alias).to_owned()));
            if function.is_method() || function.is_field() {
                classes.entry(function.owner()).or_default().entry(function.short_name()).or_default().push(function);
            } else {
                add(function.name.to_owned());
            }
        }
        for name in functions.keys() {
            values.entry(name.clone()).or_insert(Sort::Function);
        }
        Names { values, functions, classes }
    }

    /// Whether the names could be read out of a state: without them everything would seem unknown.
    pub fn are_complete(&self) -> bool {
        self.sort("string.format") == Some(Sort::Function)
    }

    pub fn sort(&self, name: &str) -> Option<Sort> {
        self.values.get(name).copied()
    }

    pub fn functions(&self, name: &str) -> &[Declared] {
        self.functions.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether what is not in this table is not there at all. Tables that hold only tables are filled by policies.
    pub fn is_closed(&self, table: &str) -> bool {
        self.sort(table) == Some(Sort::Table) && self.members(table).any(|(_, sort)| sort != Sort::Table)
    }

    /// The full names in a table.
    pub fn members<'a>(&'a self, table: &str) -> impl Iterator<Item = (&'a str, Sort)> {
        let prefix = format!("{table}.");
        let length = prefix.len();
        self.values
            .range(prefix.clone()..)
            .take_while(move |(name, _)| name.starts_with(&prefix))
            .filter(move |(name, _)| !name[length..].contains('.'))
            .map(|(name, sort)| (name.as_str(), *sort))
    }

    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    pub fn globals(&self) -> impl Iterator<Item = &str> {
        self.all().filter(|name| !name.contains('.'))
    }

    /// The class that is declared under this name, as the registry's own text.
    pub fn class(&self, owner: &str) -> Option<&'static str> {
        self.classes.get_key_value(owner).map(|(owner, _)| *owner)
    }

    /// What a class calls `name`: fields, methods.
    pub fn member(&self, class: &str, name: &str) -> &[&'static Function] {
        self.classes.get(class).and_then(|members| members.get(name)).map_or(&[], Vec::as_slice)
    }

    pub fn class_members(&self, class: &str) -> impl Iterator<Item = &'static Function> {
        self.classes.get(class).into_iter().flat_map(|members| members.values().flatten().copied())
    }

    /// ec_strings and texts have the methods of strings besides their own.
    pub fn falls_through(&self, class: &str, name: &str) -> bool {
        class == "ec_string" && self.sort(&format!("string.{name}")).is_some()
    }
}

fn collect(table: &mlua::Table, prefix: &str, depth: usize, values: &mut BTreeMap<String, Sort>) {
    let pairs = table.pairs::<Value, Value>().filter_map(Result::ok);
    for (key, value) in pairs {
        let Value::String(key) = key else { continue };
        let key = key.to_string_lossy();
        let sort = match value {
            Value::Table(_) => Sort::Table,
            Value::Function(_) => Sort::Function,
            _ => Sort::Value,
        };
        let name = format!("{prefix}{key}");
        if let Value::Table(inner) = &value
            && depth < DEPTH_MAX
            && !["_G", "package.loaded", "package.preload"].contains(&name.as_str())
        {
            collect(inner, &format!("{name}."), depth + 1, values);
        }
        values.insert(name, sort);
    }
}

/// The names that continue what was typed: `msys.core.VALID`, `msg:he`. For the prompt.
pub fn completions(typed: &str) -> Vec<String> {
    let names = names();
    let mut found = BTreeSet::new();
    if let Some((class, short)) = typed.split_once([':', '.'])
        && names.class(class).is_some()
    {
        let members = names.class_members(class).filter(|function| function.short_name().starts_with(short));
        found.extend(members.map(|function| function.name.to_owned()).filter(|name| name.starts_with(typed)));
    }
    let rest = |name: &str| name.strip_prefix(typed).is_some_and(|rest| !rest.contains('.'));
    found.extend(names.all().filter(|name| rest(name)).map(str::to_owned));
    found.into_iter().collect()
}

/// What is known of a function of that name, for the prompt: its signature and its first sentences.
pub fn describe(name: &str) -> Option<String> {
    let names = names();
    let member = name.split_once([':', '.']).map_or(&[][..], |(class, short)| names.member(class, short));
    let declared = names.functions(name).iter().map(|declared| declared.function);
    let functions: Vec<&Function> = member.iter().copied().chain(declared).collect();
    let line = |function: &&Function| {
        let returned: Vec<&str> = function.returns.iter().map(|value| value.kind).collect();
        let arrow = if returned.is_empty() { String::new() } else { format!(" -> {}", returned.join(", ")) };
        let brackets = if function.is_field() { String::new() } else { format!("({})", function.signature()) };
        let mut text = format!("{}{brackets}{arrow}\n  {}\n", function.name, function.doc);
        for param in function.params {
            text.push_str(&format!("  {}: {}\n", param.name, param.doc));
        }
        text
    };
    (!functions.is_empty()).then(|| functions.iter().map(line).collect())
}
