//! `posthaste check`: is it right? Configuration and policies together; nothing is opened, nothing started.

use crate::cli::CheckArgs;
use anyhow::Result;
use ph_config::Config;
use ph_policy::{Diagnostic, Severity};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub fn run(args: &CheckArgs) -> Result<ExitCode> {
    if let Some(file) = &args.file
        && file.extension().is_some_and(|extension| extension == "lua")
    {
        let found = ph_policy::check_policy(file);
        return Ok(finish(told(&found, args.verbose), file));
    }
    let Some(file) = args.file.clone().or_else(crate::server::find_config) else {
        println!("no configuration file: the built-in one is always valid");
        return Ok(ExitCode::SUCCESS);
    };
    let loaded = match Config::load(&file) {
        Ok(loaded) => loaded,
        Err(report) => {
            eprintln!("{report}");
            return Ok(ExitCode::FAILURE);
        }
    };
    if !loaded.warnings.is_empty() {
        eprintln!("{}", loaded.warnings);
    }
    for warning in loaded.config.relay_warnings() {
        eprintln!("{warning}");
    }
    for warning in ph_reception::check_tls(&loaded.config) {
        eprintln!("warning: {warning}");
    }
    if args.verbose {
        for note in loaded.config.without_effect() {
            eprintln!("{note}");
        }
    }
    let (mut problems, found) = scripts(&loaded.config);
    problems.extend(told(&found, args.verbose));
    Ok(finish(problems, &file))
}

fn finish(problems: Vec<String>, file: &Path) -> ExitCode {
    if problems.is_empty() {
        println!("Configuration valid: {}", file.display());
        return ExitCode::SUCCESS;
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    eprintln!("Reconfigure failed.");
    ExitCode::FAILURE
}

/// Everything that keeps the policies of a configuration from loading, each with file, line and column, and what is wrong
/// with its loggers. What may go wrong later is told on stderr.
pub fn policies(config: &Config) -> Vec<String> {
    let (mut problems, found) = scripts(config);
    let (fatal, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.prevents_loading);
    for found in rest.iter().filter(|found| found.severity > Severity::Note) {
        eprintln!("{found}");
    }
    problems.extend(fatal.iter().map(ToString::to_string));
    problems
}

/// What is wrong with the loggers and with finding the scripts, and what was found in the scripts.
fn scripts(config: &Config) -> (Vec<String>, Vec<Diagnostic>) {
    let settings = crate::server::policy_settings(config);
    let folders = settings.search_folders();
    let mut problems = loggers(config);
    let mut paths = Vec::new();
    for script in &settings.scripts {
        match find_script(&script.source, &folders) {
            Some(path) => paths.push(path),
            None => problems.push(missing(script, &folders)),
        }
    }
    let found = paths.iter().flat_map(|path| ph_policy::check_policy_among(path, &paths, &folders)).collect();
    (problems, found)
}

/// Log targets and formats that cannot be written: found here, or a server would run for a day and log nothing.
fn loggers(config: &Config) -> Vec<String> {
    let settings = crate::server::logs::settings(config, &ph_eventlog::Clock::system(), false);
    let problems = settings.check().err().unwrap_or_default();
    problems.iter().map(|problem| format!("error: {problem}")).collect()
}

/// The errors, to be told last; warnings, and the notes of a verbose check, are told at once.
fn told(found: &[Diagnostic], verbose: bool) -> Vec<String> {
    let least = if verbose { Severity::Note } else { Severity::Warning };
    for mild in found.iter().filter(|found| found.severity >= least && found.severity < Severity::Error) {
        eprintln!("{}", mild.shown());
    }
    found.iter().filter(|found| found.severity == Severity::Error).map(Diagnostic::shown).collect()
}

/// `dir.file` and `dir/file` are `dir/file.lua` in one of the folders.
fn find_script(source: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let relative = format!("{}.lua", source.replace('.', "/"));
    folders.iter().map(|folder| folder.join(&relative)).find(|path| path.is_file())
}

fn missing(script: &ph_policy::Script, folders: &[PathBuf]) -> String {
    let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let hint = match script.source.strip_suffix(".lua") {
        Some(stem) => format!("\n  help: a source is written without its extension: source = \"{stem}\""),
        None => String::new(),
    };
    format!(
        "{}: error: script \"{}\": there is no {}.lua in {}{hint}",
        script.place,
        script.name,
        script.source.replace('.', "/"),
        looked.join(", ")
    )
}

/// `posthaste dump-config`.
pub fn dump(args: &CheckArgs) -> Result<ExitCode> {
    let config = match args.file.clone().or_else(crate::server::find_config) {
        None => Config::builtin(),
        Some(file) => match Config::load(&file) {
            Ok(loaded) => loaded.config,
            Err(report) => {
                eprintln!("{report}");
                return Ok(ExitCode::FAILURE);
            }
        },
    };
    print!("{}", config.text());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_written_is_an_error_of_the_check() {
        for (text, wanted) in [
            ("ec_logger main { mainlog = \"jlog:///var/log/x\" }", "'jlog://' is not supported"),
            ("ec_logger main { mainlog = \"|/bin/cat\" }", "writing to a command is not supported"),
            ("custom_logger c { mainlog = /tmp/x delivery_format = \"%q\" }", "unknown specifier '%q'"),
        ] {
            let config = Config::parse("log.conf", text).unwrap_or_else(|report| panic!("{report}")).config;
            let problems = policies(&config);
            assert!(problems.iter().any(|problem| problem.contains(wanted)), "{text}: {problems:?}");
        }
        let config = Config::parse("log.conf", "ec_logger main { mainlog = /tmp/x.ec }").expect("valid").config;
        assert_eq!(policies(&config), Vec::<String>::new());
    }

    #[test]
    fn a_certificate_that_cannot_be_read_is_told() {
        let text = "Esmtp_Listener { Listen \":2525\" { TLS_Certificate = /no/such.pem } Listen \":2526\" { } }";
        let config = Config::parse("tls.conf", text).expect("valid").config;
        let warnings = ph_reception::check_tls(&config);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(":2525") && warnings[0].contains("/no/such.pem"), "{warnings:?}");
    }
}
