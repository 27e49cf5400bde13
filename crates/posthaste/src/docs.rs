//! The generated pages: every fact is declared once in its crate, and these files are made from there.

use crate::cli::{Cli, DocsArgs};
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub fn options(json: bool) -> String {
    if json { ph_config::registry::to_json() } else { ph_config::registry::to_markdown() }
}

pub fn lua_api(json: bool) -> String {
    if json { ph_policy::lua_api_json() } else { ph_policy::reference_markdown() }
}

/// Every generated file with its text.
pub fn pages() -> Result<Vec<(PathBuf, String)>> {
    let mut pages = vec![
        (PathBuf::from("configuration-options.md"), options(false)),
        (PathBuf::from("api/README.md"), lua_api(false)),
        (PathBuf::from("api/posthaste.lua"), ph_policy::stubs()),
        (PathBuf::from("console.md"), ph_admin::reference_markdown()),
    ];
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
