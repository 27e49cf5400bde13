//! The generated pages: every fact is declared once in its crate, and these files are made from there.

use crate::cli::{Cli, DocsArgs, LuaApiArgs};
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub fn options(json: bool) -> String {
    if json { pretty(&ph_config::registry::to_json()) } else { ph_config::registry::to_markdown() }
}

pub fn lua_api(args: &LuaApiArgs) -> String {
    match args {
        LuaApiArgs { json: true, .. } => pretty(&ph_policy::lua_api_json()),
        LuaApiArgs { stubs: true, .. } => ph_policy::stubs(),
        LuaApiArgs { plugin: true, .. } => ph_policy::LANGUAGE_SERVER_PLUGIN.to_owned(),
        _ => api_index(),
    }
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// The tables of the API with their pages and functions.
fn api_index() -> String {
    let mut text = String::from(
        "# The Lua API\n\nOne page for each table of functions. Editors that speak LuaLS take `posthaste.lua` beside this page, and\n\
         `posthaste-plugin.lua` for the dialect (\"In an editor\" of the policy guide).\n\n\
         | table | functions |\n| --- | --- |\n",
    );
    for table in api_tables() {
        text.push_str(&format!("| [{0}]({0}.md) | {1} |\n", table.0, table.1.join(", ")));
    }
    text
}

/// Every table with the names of its functions.
fn api_tables() -> Vec<(String, Vec<String>)> {
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    let listing = ph_policy::lua_api_json();
    for row in listing.as_array().into_iter().flatten() {
        let field = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let name = format!("`{}`", field("name"));
        match tables.iter_mut().find(|(table, _)| *table == field("table")) {
            Some((_, names)) if !names.contains(&name) => names.push(name),
            Some(_) => {}
            None => tables.push((field("table"), vec![name])),
        }
    }
    tables
}

/// Every generated file with its text.
pub fn pages() -> Result<Vec<(PathBuf, String)>> {
    let mut pages = vec![
        (PathBuf::from("configuration-options.md"), options(false)),
        (PathBuf::from("api/README.md"), api_index()),
        (PathBuf::from("api/posthaste.lua"), ph_policy::stubs()),
        (PathBuf::from("api/posthaste-plugin.lua"), ph_policy::LANGUAGE_SERVER_PLUGIN.to_owned()),
        (PathBuf::from("console.md"), ph_admin::reference_markdown()),
    ];
    for (table, _) in api_tables() {
        let page = ph_policy::reference_markdown(&table).unwrap_or_default();
        pages.push((PathBuf::from(format!("api/{table}.md")), page));
    }
    pages.extend(ph_eventlog::pages::all().into_iter().map(|(name, text)| (Path::new("formats").join(name), text)));
    let command = Cli::command();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).section("8").render(&mut page)?;
    pages.push((PathBuf::from("man/posthaste.8"), String::from_utf8(page)?));
    for (shell, name) in [
        (clap_complete::Shell::Bash, "posthaste.bash"),
        (clap_complete::Shell::Zsh, "_posthaste"),
        (clap_complete::Shell::Fish, "posthaste.fish"),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "posthaste", &mut text);
        pages.push((Path::new("completions").join(name), String::from_utf8(text)?));
    }
    Ok(pages)
}

pub fn write(args: &DocsArgs) -> Result<ExitCode> {
    let mut stale = false;
    for (name, text) in pages()? {
        let path = args.write.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if args.check {
            eprintln!("{} is out of date: run `make docs`", path.display());
            stale = true;
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(if stale { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_pages_are_those_that_the_declarations_make() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        for (name, text) in super::pages().unwrap() {
            let committed = std::fs::read_to_string(docs.join(&name)).unwrap_or_default();
            assert!(committed == text, "docs/{} is out of date: run `make docs`", name.display());
        }
    }
}
