//! The pages of `docs/formats/` that describe logs and metrics, made from the declarations.
//!
//! A test compares them with the committed ones; `PH_WRITE_PAGES=1 cargo test -p ph-eventlog pages` writes them anew.

use crate::declare::Record;
use crate::level::{Level, Subsystem};
use crate::metrics::ALL;
use crate::stage::{Phase, Stage};
use crate::{acctlog, bouncelog, custom, json, mainlog, rejectlog};
use std::fmt::Write;

/// Every page: file name below `docs/formats/`, and text.
pub fn all() -> Vec<(&'static str, String)> {
    vec![
        ("mainlog.md", mainlog_page()),
        ("rejectlog.md", rejectlog_page()),
        ("acctlog.md", acctlog_page()),
        ("paniclog.md", paniclog_page()),
        ("bouncelog.md", bouncelog_page()),
        ("custom-logger.md", custom_page()),
        ("json-events.md", json_page()),
        ("metrics.md", metrics_page()),
    ]
}

const FILES: &str = "Files are opened at start, appended to and never truncated. One event is one line that ends in LF. \
    The time is in seconds since the epoch (ten digits), or in microseconds (sixteen digits) with \
    `log_hires_timestamp`. Lines are written within about a tenth of a second; a disk that is full or gone costs log \
    lines (counted in `posthaste_log_lines_lost_total` and told in the paniclog), never mail.\n\n\
    A file is closed and opened anew on `reopen logs`, on SIGHUP, and within a second after the path was renamed or \
    removed; no line is lost or split.\n";

const ESCAPES: &str = "Escaped means: `@`, `\\` and control characters are written as `\\` and the character, a line feed \
    as `\\n`, a carriage return as `\\r`.\n";

fn begin(title: &str, intro: &str) -> String {
    format!("# {title}\n\n<!-- Made from the declarations in crates/eventlog; do not edit. -->\n\n{intro}\n\n")
}

fn record(out: &mut String, record: &Record) {
    let heading = if record.letter.is_empty() { String::new() } else { format!("`{}`: ", record.letter) };
    let _ = writeln!(out, "## {heading}{}\n\n| field | name | meaning |\n| --- | --- | --- |", record.title);
    for (number, field) in record.fields.iter().enumerate() {
        let _ = writeln!(out, "| {number} | {} | {} |", field.name, field.help);
    }
    out.push('\n');
}

fn stages(out: &mut String) {
    out.push_str("## Stages\n\n\"During\" a command: it is being sent; \"after\" it: its reply is waited for.\n\n");
    out.push_str("| number | text |\n| --- | --- |\n");
    for stage in Stage::ALL {
        let _ = writeln!(out, "| {} | {} |", stage.number(), stage.text());
    }
}

fn mainlog_page() -> String {
    let intro = "What became of each message: module `ec_logger`, option `mainlog`. Fields are separated by `@` and \
                 counted from 0; field 4 is the type. Split a line at its first 13 `@`: the text of a failure may hold \
                 further ones.";
    let mut out = begin("mainlog", intro);
    out.push_str(FILES);
    out.push('\n');
    out.push_str(ESCAPES);
    out.push('\n');
    for one in mainlog::RECORDS {
        record(&mut out, one);
    }
    out.push_str("## `M1`: Heartbeat\n\n`T@@@@M1`, every `heartbeat` seconds (60; 0: none).\n\n");
    stages(&mut out);
    out
}

fn rejectlog_page() -> String {
    let intro = "What was refused on the way in: module `ec_logger`, option `rejectlog`. Fields are separated by one \
                 blank. A whole message refused after its data is one line, with the context of its first recipient; \
                 recipients refused one by one are a line each.";
    let mut out = begin("rejectlog", intro);
    out.push_str(FILES);
    out.push('\n');
    record(&mut out, &rejectlog::REJECTION);
    out.push_str("In context values `\"` and controls are preceded by `\\` within the quotes.\n\n");
    out.push_str("Heartbeat: `T: Marker 1`.\n\n## Phases\n\n| phase |\n| --- |\n");
    for phase in Phase::ALL {
        let _ = writeln!(out, "| {} |", phase.text());
    }
    out
}

fn acctlog_page() -> String {
    let intro = "Who authenticated, and which console commands were allowed: module `ec_logger`, option `acctlog`. \
                 Fields are separated by `@`, field 0 is the time, field 1 the type. The peer is `ip:port`, and empty on \
                 unix sockets; the listener is written as it is configured.";
    let mut out = begin("acctlog", intro);
    out.push_str(FILES);
    out.push('\n');
    out.push_str(ESCAPES);
    out.push_str("\n| type | fields behind the time | meaning |\n| --- | --- | --- |\n");
    for (letter, fields, meaning) in acctlog::RECORDS {
        let _ = writeln!(out, "| `{letter}` | {fields} | {meaning} |");
    }
    out
}

fn paniclog_page() -> String {
    let intro = "Diagnostics for the operator: module `ec_logger`, option `paniclog`. `T:text`, without a blank behind \
                 the colon. Further lines of a text are indented by a tab, and control characters are written as `\\xNN`, \
                 so that no text can look like an event. Output of policies (`print`, `msys.log`) goes here too.";
    let mut out = begin("paniclog", intro);
    out.push_str(FILES);
    out.push_str(
        "\n`Debug_Flags` chooses what is written: a subsystem named at a level is written at that level and above. By \
         default that is everything from `ERROR` on. The last ten of each level can be seen with the console command \
         `paniclog`.\n\n| number | level |\n| --- | --- |\n",
    );
    for level in Level::ALL {
        let _ = writeln!(out, "| {} | {level} |", level as u8);
    }
    out.push_str("\nSubsystems: ");
    let names: Vec<String> = Subsystem::ALL.iter().map(|subsystem| format!("`{subsystem}`")).collect();
    let _ = writeln!(out, "{}; `ALL` names every one.", names.join(", "));
    out
}

fn bouncelog_page() -> String {
    let intro = "Bounces with their classification: module `bounce_logger`. Fields are separated by `@` and counted from \
                 0. Split a line at its first 15 `@`. Mail classified as a subscribe request (80) is not logged. \
                 `custom_bounce_logger` writes the same line, `@` and its `user_string`, in which \
                 `%{vctx_conn:key}` and `%{vctx_mess:key}` are replaced by context values (escaped).";
    let mut out = begin("bouncelog", intro);
    out.push_str(FILES);
    out.push('\n');
    out.push_str(ESCAPES);
    out.push('\n');
    record(&mut out, &bouncelog::BOUNCE);
    out.push_str("Heartbeat: `T@@@@M1`.\n");
    out
}

fn custom_page() -> String {
    let intro = "Lines in a format of your own: module `custom_logger`. The longest specifier that fits is taken (`%BI` \
                 before `%B`), hence a letter right behind a specifier is no good delimiter. What has no value is empty. \
                 Line ends within a value become a blank, unless `sanitize` says otherwise.";
    let mut out = begin("custom_logger formats", intro);
    out.push_str("| specifier | value |\n| --- | --- |\n");
    for (field, _) in &custom::SPECIFIERS {
        let _ = writeln!(out, "| `%{}` | {} |", field.name, field.help);
    }
    for (name, help) in custom::WITH_ARGUMENT {
        let _ = writeln!(out, "| `%{name}` | {help} |");
    }
    out.push_str(
        "\n`sanitize` is a comma-separated list, applied to what a peer or policy chose: `special_characters` (controls \
         as `\\n`, `\\r`, `\\t`, others behind a `\\`), `non_printable` (their decimal codes), `tr/from/to/` (character for \
         character).\n",
    );
    out
}

fn json_page() -> String {
    let intro = "The events of mainlog, rejectlog, bouncelog, acctlog and paniclog as JSON, one object a line: module \
                 `json_logger`. A field without a value is left out. Fields are added over time; ignore what you do not \
                 know. Bytes that are no UTF-8 become U+FFFD.";
    let mut out = begin("JSON events", intro);
    let table = |out: &mut String| out.push_str("| field | type | meaning |\n| --- | --- | --- |\n");
    out.push_str("## In every event\n\n");
    table(&mut out);
    for (name, kind, help) in json::COMMON {
        let _ = writeln!(out, "| `{name}` | {kind} | {help} |");
    }
    for event in json::EVENTS {
        let _ = writeln!(out, "\n## `{}`\n\n{}\n", event.name, event.help);
        table(&mut out);
        for field in event.fields.iter().copied().flatten() {
            let _ = writeln!(out, "| `{}` | {} | {} |", field.name, field.json_type, field.help);
        }
    }
    for (name, help, fields) in json::OTHERS {
        let _ = writeln!(out, "\n## `{name}`\n\n{help}");
        if !fields.is_empty() {
            out.push('\n');
            table(&mut out);
            for (name, kind, help) in fields {
                let _ = writeln!(out, "| `{name}` | {kind} | {help} |");
            }
        }
    }
    out
}

fn metrics_page() -> String {
    let intro = "`GET /metrics` of the administration HTTP listener, in the OpenMetrics text format 1.0.0, which \
                 Prometheus reads. Names, types and labels stay as they are; metrics are only added. Counters begin at \
                 zero with the process.";
    let mut out = begin("Metrics", intro);
    out.push_str("| metric | type | label | meaning |\n| --- | --- | --- | --- |\n");
    for metric in ALL {
        let (name, help) = metric.name_and_help();
        let label = metric.label().map(|label| format!("`{label}`")).unwrap_or_default();
        let _ = writeln!(out, "| `{name}` | {} | {label} | {help} |", metric.type_name());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_committed_pages_are_those_of_the_declarations() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats");
        for (name, text) in all() {
            let path = folder.join(name);
            if std::env::var_os("PH_WRITE_PAGES").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == text,
                "docs/formats/{name} is out of date: PH_WRITE_PAGES=1 cargo test -p ph-eventlog"
            );
        }
    }
}
