//! What is generated from the declarations: the list of functions as JSON, reference pages, editor stubs.

use super::{Call, Function};
use crate::api::TABLES;
use serde_json::{Value, json};
use std::fmt::Write;

/// One object per function, with the columns of the function list (`table name params package since phases deprecated`) and
/// what the declaration says besides.
pub fn lua_api_json() -> Value {
    let rows = TABLES.iter().flat_map(|table| table.functions.iter().map(move |function| (table, function)));
    let row = |(table, function): (&&super::Table, &&Function)| {
        json!({
            "table": table.name,
            "name": function.name,
            "params": function.listed_signature(),
            "package": if function.package.is_empty() { table.package } else { function.package },
            "since": function.since,
            "phases": function.phases.label,
            "deprecated": if function.deprecated { "yes" } else { "no" },
            "listed": !function.since.is_empty(),
            "aliases": function.aliases,
            "arguments": function.params.iter().map(|param| json!({
                "name": param.name,
                "type": param.kind.expected(),
                "optional": param.optional,
                "doc": param.doc,
            })).collect::<Vec<_>>(),
            "returns": function.returns.iter().map(|value| json!({ "type": value.kind, "doc": value.doc })).collect::<Vec<_>>(),
            "raises": function.errors(),
            "example": function.example(),
            "doc": function.doc,
            "page": function.page,
        })
    };
    Value::Array(rows.map(row).collect())
}

/// The reference page of one table, in Markdown; `None` when there is no such table.
pub fn reference_markdown(table: &str) -> Option<String> {
    let table = TABLES.iter().find(|candidate| candidate.name == table)?;
    let mut out = format!("# Table: {}\n", table.name);
    for function in table.functions {
        page(&mut out, function).expect("writing to a String does not fail");
    }
    Some(out)
}

fn page(out: &mut String, function: &Function) -> std::fmt::Result {
    let returned: Vec<&str> = function.returns.iter().map(|value| value.kind).collect();
    let arrow = if returned.is_empty() { String::new() } else { format!(" -> {}", returned.join(", ")) };
    if function.is_field() {
        writeln!(out, "\n## {}{arrow}\n\n{}", function.name, function.doc)?;
    } else {
        writeln!(out, "\n## {}({}){arrow}\n\n{}", function.name, function.signature(), function.doc)?;
    }
    if !function.params.is_empty() {
        writeln!(out, "\n| parameter | type | meaning |\n| --- | --- | --- |")?;
        for param in function.params {
            let optional = if param.optional { " (optional)" } else { "" };
            let kind = param.kind.annotation().replace('|', "\\|");
            writeln!(out, "| `{}`{optional} | {kind} | {} |", param.name, param.doc)?;
        }
    }
    for (index, value) in function.returns.iter().enumerate() {
        writeln!(out, "{}Returns `{}`: {}.", if index == 0 { "\n" } else { "" }, value.kind, value.doc)?;
    }
    let errors = function.errors();
    if errors.is_empty() {
        writeln!(out, "\nRaises nothing.")?;
    } else {
        writeln!(out, "\nRaises:\n")?;
    }
    for error in errors {
        writeln!(out, "* {error}.")?;
    }
    write!(out, "\n```lua\n{}```\n", function.example())?;
    let phases = if function.phases.label.is_empty() { "any" } else { function.phases.label };
    write!(out, "\nPhases: {phases}.")?;
    if function.since.is_empty() {
        write!(out, " Not in Momentum's list of functions.")?;
    } else {
        write!(out, " Since {}.", function.since)?;
    }
    if function.deprecated {
        write!(out, " Deprecated.")?;
    }
    if !function.page.is_empty() {
        write!(out, " Momentum's page: `{}`.", function.page)?;
    }
    writeln!(out)
}

/// Annotations for the Lua language server: classes, methods, fields, functions.
pub fn stubs() -> String {
    let mut out = String::from("---@meta\n");
    write_stubs(&mut out).expect("writing to a String does not fail");
    out
}

fn write_stubs(out: &mut String) -> std::fmt::Result {
    let functions: Vec<&Function> = TABLES.iter().flat_map(|table| table.functions.iter().copied()).collect();
    for class in ["msg", "msgpart", "ac", "vctx", "mc", "ec_string"] {
        writeln!(out, "\n---@class {class}")?;
        for field in functions.iter().filter(|f| f.is_field() && f.owner() == class) {
            let kind = field.returns.first().map_or("any", |value| value.kind);
            writeln!(out, "---@field {} {kind} {}", field.short_name(), field.doc)?;
        }
        writeln!(out, "local {class} = {{}}")?;
    }
    writeln!(out, "\n---@alias id any\n---@alias sockaddr any")?;
    let mut packages: Vec<&str> = Vec::new();
    for function in functions.iter().filter(|function| !function.is_field()) {
        let owner = function.owner();
        for (end, _) in owner.match_indices('.').chain([(owner.len(), "")]) {
            let package = &owner[..end];
            if !function.is_method() && !package.is_empty() && !packages.contains(&package) {
                packages.push(package);
                writeln!(out, "\n{package} = {package} or {{}}")?;
            }
        }
        if matches!(function.call, Call::Form) {
            continue; // stands with the first form
        }
        writeln!(out, "\n---{}", function.doc)?;
        for form in functions.iter().filter(|f| f.name == function.name && matches!(f.call, Call::Form)) {
            let of_object = format!("self: {}", form.owner());
            let params = form.params.iter().map(|param| {
                format!("{}{}: {}", param.name, if param.optional { "?" } else { "" }, param.kind.annotation())
            });
            let params: Vec<String> = form.is_method().then_some(of_object).into_iter().chain(params).collect();
            let returned = form.returns.first().map_or(String::new(), |value| format!(": {}", value.kind));
            writeln!(out, "---@overload fun({}){returned}", params.join(", "))?;
        }
        if function.deprecated {
            writeln!(out, "---@deprecated")?;
        }
        for param in function.params {
            let optional = if param.optional { "?" } else { "" };
            writeln!(out, "---@param {}{optional} {} {}", param.name, param.kind.annotation(), param.doc)?;
        }
        for value in function.returns {
            writeln!(out, "---@return {} # {}", value.kind, value.doc)?;
        }
        let names: Vec<&str> = function.params.iter().map(|param| param.name).collect();
        writeln!(out, "function {}({}) end", function.name, names.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Phase;

    #[test]
    fn every_function_is_documented_and_declared_once() {
        let mut names = std::collections::HashSet::new();
        for function in TABLES.iter().flat_map(|table| table.functions) {
            assert!(!function.doc.is_empty() && function.doc.ends_with('.'), "{}", function.name);
            // `vctx.disconnect` is a method to read and a field to assign.
            let new = names.insert(function.name);
            assert_eq!(new, !matches!(function.call, Call::Form), "{} is declared twice", function.name);
            assert!(function.since.is_empty() || !function.page.is_empty(), "{} has no page", function.name);
            assert!(function.example.contains(function.short_name()), "{} has no example", function.name);
            for param in function.params {
                assert!(!param.doc.is_empty(), "{}: {}", function.name, param.name);
            }
            let required_after_optional = function.params.windows(2).any(|two| two[0].optional && !two[1].optional);
            assert!(!required_after_optional, "{}", function.name);
            let phases = function.phases;
            assert!(phases.label != "any" || phases.documents(Phase::Queue), "{}", function.name);
        }
    }

    #[test]
    fn the_list_has_the_columns_of_the_function_list() {
        let list = lua_api_json();
        let rows = list.as_array().unwrap();
        let header = rows.iter().find(|row| row["name"] == "msg:header").unwrap();
        for (column, value) in [
            ("table", "message"),
            ("params", "hdr, [value], [mode]"),
            ("package", "msys.extended.message"),
            ("since", "3.1"),
            ("phases", "data, data_spool, data_spool_each_rcpt, set_binding"),
            ("deprecated", "no"),
        ] {
            assert_eq!(header[column], value, "{column}");
        }
        assert_eq!(rows.len(), TABLES.iter().map(|table| table.functions.len()).sum::<usize>());
    }

    #[test]
    fn pages_and_stubs_name_every_function() {
        let stubs = stubs();
        for table in TABLES {
            let page = reference_markdown(table.name).unwrap();
            for function in table.functions {
                assert!(page.contains(&format!("\n## {}", function.name)), "{}", function.name);
                assert!(page.contains(&format!("\n```lua\n{}```\n", function.example())), "{}", function.name);
                let stub = if function.is_field() {
                    format!("---@field {} ", function.short_name())
                } else {
                    format!("\nfunction {}(", function.name)
                };
                assert!(stubs.contains(&stub), "{}", function.name);
            }
        }
        crate::dialect::translate(stubs.as_bytes()).unwrap();
        assert_eq!(reference_markdown("nosuch"), None);
    }

    #[test]
    fn a_page_tells_when_a_function_raises() {
        for (name, raises) in [
            ("ac.remote_addr", "`cannot assign field 'remote_addr'`"),
            ("ac.remote_addr", "`session is closed` once the session has ended"),
            ("vctx:set_code", "for an argument that is missing or has another type"),
            ("vctx:set_code", "when `codenum` is no code of a verdict"),
            ("ac:inbound_session_count", "for an argument that has another type"),
            ("msg:discard", "`not available in phase ...` where it cannot work"),
        ] {
            let function = TABLES.iter().flat_map(|table| table.functions).find(|f| f.name == name).unwrap();
            assert!(function.errors().iter().any(|error| error.contains(raises)), "{name}: {:?}", function.errors());
        }
        let json = reference_markdown("json").unwrap();
        let free = json.split("\n## ").find(|section| section.starts_with("json.free(")).unwrap();
        assert!(free.contains("\nRaises nothing.\n"), "{free}");
    }

    #[test]
    fn an_example_loses_the_indentation_of_its_declaration() {
        let function =
            Function { example: "\n        if a then\n          b()\n        end\n    ", ..crate::registry::FUNCTION };
        assert_eq!(function.example(), "if a then\n  b()\nend\n");
        assert_eq!(Function { example: "one()", ..function }.example(), "one()\n");
    }
}
