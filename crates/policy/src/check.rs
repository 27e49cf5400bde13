//! `check`: what is wrong with a policy, found without running it.
//!
//! Syntax errors by file, line and column; names that are not there, with what was probably meant; calls with too few, too many
//! or wrong arguments; uses in a hook whose phase cannot have them; globals that nothing assigns; results thrown away that say
//! whether mail was lost. A policy may add to `msys` and to its own tables: what its files assign is not reported. In doubt
//! nothing is said: a policy that works must come through without a word.

use crate::dialect;
use std::path::{Path, PathBuf};

mod arguments;
mod calls;
mod diagnostic;
mod facts;
mod hook_functions;
mod names;
mod syntax_help;
mod walk;

pub use diagnostic::{Diagnostic, Severity};
pub use names::{completions, describe};

/// Checks one script. Files that it requires are looked for beside it and in the folders above it.
pub fn check_policy(path: &Path) -> Vec<Diagnostic> {
    let folders: Vec<PathBuf> = path.ancestors().skip(1).take(FOLDERS_UP).map(Path::to_owned).collect();
    check_policy_among(path, &[], &folders)
}

/// Checks one script of several that share a state: what the others make is known to it. What they require is looked for in
/// `folders`.
pub fn check_policy_among(path: &Path, others: &[PathBuf], folders: &[PathBuf]) -> Vec<Diagnostic> {
    match std::fs::read(path) {
        Ok(source) => check(path, &source, others, folders),
        Err(error) => vec![Diagnostic::unreadable(path, &error)],
    }
}

/// Checks source that is called `path` in the findings; files that it requires are not looked for.
pub fn check_source(path: &Path, source: &[u8]) -> Vec<Diagnostic> {
    check(path, source, &[], &[])
}

/// `inbound/limits.lua` is required as `inbound.limits`: its folder's parent is searched as well.
const FOLDERS_UP: usize = 3;

fn check(path: &Path, source: &[u8], others: &[PathBuf], folders: &[PathBuf]) -> Vec<Diagnostic> {
    let file = diagnostic::File { path, source };
    let translated = match dialect::translate(source) {
        Ok(translated) => translated,
        Err(error) => {
            let help = syntax_help::help(source, &error);
            return vec![file.syntax_error(&error, help)];
        }
    };
    if !names::names().are_complete() {
        return Vec::new();
    }
    let facts = facts::Facts::gather(&translated.chunk, others, folders);
    let mut found = walk::walk(&translated.chunk, &facts, names::names());
    found.sort_by_key(|finding| finding.place.start);
    found.into_iter().map(|finding| file.finding(finding)).collect()
}

/// The name that is nearest to a mistyped one, if one is near.
pub(crate) fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance > 0 && *distance <= (name.len() / 5).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn hint(meant: Option<&str>) -> Option<String> {
    meant.map(|name| format!("did you mean {name}?"))
}

#[cfg(test)]
mod tests;
