//! `docs/console.md`, made from the declarations of the commands, and the names for completion.

use crate::command::{Category, commands};
use std::fmt::Write;

/// The names of all commands, for completion in a console.
pub fn command_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = commands().map(|command| command.name).collect();
    names.sort_unstable();
    names
}

/// The page `docs/console.md`.
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "# The console\n\n<!-- Made from the declarations in crates/admin; do not edit. -->\n\n\
         `posthaste console [ADDRESS [COMMAND…]]` sends commands to a running server; ADDRESS is `/path` (default \
         `/tmp/2025`), `host:port` or `user@host:port`. With a command, or without a terminal, only the output is \
         printed.\n\nWords are separated by blanks; `\"…\"` holds blanks together. A command line belongs to the command \
         with the longest name that it begins with. `xml COMMAND` and `json COMMAND` give the same data in those forms. \
         The files of one logger are reopened with `MODULE:NAME reopen logs`.\n\nThe wire format is in \
         [formats/control.md](formats/control.md).\n",
    );
    for category in Category::ALL {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "\n## {}\n\n| command | what it does |\n| --- | --- |", category.title());
        let mut rows: Vec<(String, &str)> = commands()
            .filter(|command| command.category == category)
            .map(|command| (command.usage(), command.help))
            .collect();
        rows.sort();
        for (usage, help) in rows {
            let _ = writeln!(out, "| `{}` | {help} |", usage.replace('|', "\\|"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_that_of_the_declarations() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/console.md");
        if std::env::var_os("PH_WRITE_PAGES").is_some() {
            std::fs::write(&path, reference_markdown()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == reference_markdown(),
            "docs/console.md is out of date: PH_WRITE_PAGES=1 cargo test -p ph-admin"
        );
    }
}
