//! `check`: what is wrong with a policy, found without running it.
//!
//! Syntax errors by file, line and column; calls of `msys.*` functions that do not exist and functions named like hooks that are
//! none, each with what was probably meant. A policy may add to `msys` itself: what its own source assigns is not reported.

use crate::api;
use crate::dialect::{self, Mention};
use crate::hooks::Hook;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub file: PathBuf,
    /// From 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// In octets, from 1.
    pub column: usize,
    pub severity: Severity,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It loads, but something will fail or never be called.
    Warning,
    /// It does not load.
    Error,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.severity == Severity::Error { "error" } else { "warning" };
        write!(f, "{}:{}:{}: {word}: {}", self.file.display(), self.line, self.column, self.text)
    }
}

/// Checks one script.
pub fn check_policy(path: &Path) -> Vec<Diagnostic> {
    match std::fs::read(path) {
        Ok(source) => check_source(path, &source),
        Err(error) => {
            let text = format!("cannot be read: {error}");
            vec![Diagnostic { file: path.to_owned(), line: 0, column: 0, severity: Severity::Error, text }]
        }
    }
}

/// Checks source that is called `path` in the findings.
pub fn check_source(path: &Path, source: &[u8]) -> Vec<Diagnostic> {
    let at = |line, column, severity, text| Diagnostic { file: path.to_owned(), line, column, severity, text };
    let translated = match dialect::translate(source) {
        Ok(translated) => translated,
        Err(error) => return vec![at(error.line, error.column, Severity::Error, error.text)],
    };
    let names = Names::new();
    let own: BTreeSet<&str> = translated
        .mentions
        .iter()
        .filter(|mention| !mention.called && mention.name != "msys")
        .map(|mention| mention.name.as_str())
        .collect();
    let mut found: Vec<Diagnostic> = Vec::new();
    for Mention { name, line, column, .. } in translated.mentions.iter().filter(|mention| mention.called) {
        let added =
            own.iter().any(|own| name == own || name.strip_prefix(own).is_some_and(|rest| rest.starts_with('.')));
        if !names.has(name) && !added {
            let text = format!("{name} is not there{}", hint(nearest(name, names.all())));
            found.push(at(*line, *column, Severity::Warning, text));
        }
    }
    for Mention { name, line, column, .. } in &translated.functions {
        match Hook::named(name) {
            Some(hook) if !hook.is_called() => {
                found.push(at(
                    *line,
                    *column,
                    Severity::Warning,
                    format!("the hook {name} is known, but not called yet"),
                ));
            }
            None if Hook::looks_like_one(name) => {
                let text = format!("no hook is named {name}{}", hint(nearest(name, Hook::all().map(Hook::name))));
                found.push(at(*line, *column, Severity::Warning, text));
            }
            _ => {}
        }
    }
    found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    found
}

fn hint(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// Every function under `msys`.
struct Names {
    all: BTreeSet<String>,
}

impl Names {
    fn new() -> Names {
        let functions = api::TABLES.iter().flat_map(|table| table.functions.iter());
        let mut all = BTreeSet::new();
        for function in functions {
            if let Some(short) = function.name.strip_prefix("msg:") {
                all.insert(format!("msys.core.ec_message_{short}"));
            }
            let names = [function.name].into_iter().chain(function.aliases.iter().copied());
            all.extend(names.filter(|name| name.starts_with("msys.")).map(str::to_owned));
        }
        Names { all }
    }

    fn has(&self, name: &str) -> bool {
        self.all.contains(name)
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(String::as_str)
    }
}

/// The name that is nearest to a mistyped one, if one is near.
pub(crate) fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 5).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(source: &str) -> Vec<String> {
        check_source(Path::new("p.lua"), source.as_bytes()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn syntax_errors_have_their_place() {
        assert_eq!(findings("x = 1\nlocal y = = 2\n"), ["p.lua:2:11: error: unexpected symbol near '='"]);
        assert_eq!(check_policy(Path::new("/nowhere.lua"))[0].severity, Severity::Error);
    }

    #[test]
    fn unknown_functions_are_named_with_what_was_meant() {
        for (source, want) in [
            (
                "msys.registerModul('x', {})",
                "p.lua:1:1: warning: msys.registerModul is not there; did you mean msys.registerModule?",
            ),
            (
                "\n  msys.pcre.mach('a', 'b')",
                "p.lua:2:3: warning: msys.pcre.mach is not there; did you mean msys.pcre.match?",
            ),
            ("msys.nothing.like_it()", "p.lua:1:1: warning: msys.nothing.like_it is not there"),
        ] {
            assert_eq!(findings(source), [want]);
        }
        for fine in [
            "msys.registerModule('x', {})",
            "msys.core.ec_message_header(msg, 'x')",
            "msys.log(1, 'x')",
            "local x = msys.core.VALIDATE_CONT",
            "msys.site = { f = print } msys.site.f()",
            "function msys.mine() end msys.mine()",
            "local msys = {} msys.anything()",
        ] {
            assert_eq!(findings(fine), Vec::<String>::new(), "{fine}");
        }
    }

    #[test]
    fn functions_named_like_hooks_are_hooks_or_reported() {
        assert_eq!(
            findings(
                "local mod = {}\nfunction mod:validate_elho() end\nfunction mod.core_log_error() end\nmod.validate_dat = function() end"
            ),
            [
                "p.lua:2:14: warning: no hook is named validate_elho; did you mean validate_ehlo?",
                "p.lua:3:14: warning: the hook core_log_error is known, but not called yet",
            ]
        );
        assert_eq!(findings("function mod:validate_ehlo() end function mod:helper() end"), Vec::<String>::new());
    }
}
