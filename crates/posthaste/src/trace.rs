//! `posthaste trace`: shows what a running server's policy does, while it does it.
//!
//! The server is asked piece by piece over its control socket (`trace next`). People get one block for each run of a hook, with
//! its calls below it; when runs of several sessions mix, the head of the block comes again. Programs get JSON, an event a line.

use crate::cli::TraceArgs;
use crate::console::connect;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::io::Write;
use std::process::ExitCode;

pub fn run(args: &TraceArgs) -> Result<ExitCode> {
    let address = args.socket.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = connect(&address).await?;
        let reply = client.request(&format!("json {}", command(args)?)).await?;
        let reply: Value = serde_json::from_str(&reply).with_context(|| format!("the server answered {reply:?}"))?;
        if reply.get("Message").is_none() {
            bail!("{}", reply.get("Error").and_then(Value::as_str).unwrap_or("the server does not trace"));
        }
        eprintln!("Tracing; interrupt to end.");
        let mut page = Page::default();
        loop {
            let reply = client.request("json trace next").await?;
            let events: Value =
                serde_json::from_str(&reply).with_context(|| format!("the server answered {reply:?}"))?;
            let Some(events) = events.as_array() else { bail!("the trace has ended: {}", reply.trim()) };
            let mut out = std::io::stdout().lock();
            for event in events {
                if args.json { writeln!(out, "{event}")? } else { out.write_all(page.show(event).as_bytes())? }
            }
            out.flush()?;
        }
    })
}

/// The console's command for these filters.
fn command(args: &TraceArgs) -> Result<String> {
    let ip = args.ip.map(|ip| ip.to_string());
    let filters = [("hook", &args.hook), ("module", &args.module), ("from", &args.from), ("to", &args.to), ("ip", &ip)];
    let mut command = "trace".to_owned();
    for (name, value) in filters {
        let Some(value) = value else { continue };
        if value.chars().any(char::is_control) {
            bail!("--{name} has control characters");
        }
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        command.push_str(&format!(" {name} \"{escaped}\""));
    }
    Ok(command)
}

/// Writes events for people.
#[derive(Default)]
struct Page {
    /// The run whose block is open: connection, module, hook.
    open: Option<[String; 3]>,
}

impl Page {
    fn show(&mut self, event: &Value) -> String {
        let field = |name: &str| clean(event[name].as_str().unwrap_or("-"));
        let took = || duration(event["Microseconds"].as_u64().unwrap_or(0));
        let kind = event["Kind"].as_str().unwrap_or_default();
        if kind == "lost" {
            self.open = None;
            let count = event["Count"].as_u64().unwrap_or(0);
            return format!("... {count} events lost: they came faster than they were read\n");
        }
        let run = [field("Connection"), field("Module"), field("Hook")];
        let mut text = String::new();
        if kind == "begin" || self.open.as_ref() != Some(&run) {
            let time = clock(event["AtMicroseconds"].as_i64().unwrap_or(0));
            let [connection, module, hook] = &run;
            text = format!("{time} {hook} of {module}, client {}, connection {connection}\n", field("Peer"));
            self.open = Some(run);
        }
        match kind {
            "begin" => text.push_str(&format!("    {:<20} begins\n", field("Place"))),
            "call" => text.push_str(&format!(
                "    {:<20} {} -> {}  [{}]\n",
                field("Place"),
                field("Call"),
                field("Result"),
                took()
            )),
            _ => {
                text.push_str(&format!("    {:<20} {}  [{}]\n", "ends", field("Verdict"), took()));
                self.open = None;
            }
        }
        text
    }
}

/// A terminal obeys escape sequences, and texts of a trace come from strangers.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn duration(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{}.{:03} ms", micros / 1_000, micros % 1_000),
        _ => format!("{}.{:03} s", micros / 1_000_000, micros / 1_000 % 1_000),
    }
}

/// The local time of day.
fn clock(micros: i64) -> String {
    let stamp = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    stamp.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%H:%M:%S.%3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_is_one_block_and_mixed_runs_say_whose_line_it_is() {
        let event = |connection: &str, more: Value| {
            let mut event = json!({ "AtMicroseconds": 0, "Connection": connection, "Peer": "192.0.2.7", "Hook": "h",
                                    "Module": "m", "Place": "m.lua:1" });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let begin = json!({ "Kind": "begin" });
        let call = json!({ "Kind": "call", "Call": "f(\u{1b})", "Result": "nil", "Microseconds": 1500 });
        let end = json!({ "Kind": "end", "Verdict": "VALIDATE_CONT, 250", "Microseconds": 2_345_678 });
        let mut page = Page::default();
        let mut text = String::new();
        for (connection, more) in [("A", &begin), ("A", &call), ("B", &begin), ("A", &end), ("B", &end)] {
            text.push_str(&page.show(&event(connection, more.clone())));
        }
        text.push_str(&page.show(&json!({ "Kind": "lost", "Count": 3 })));
        let shape: Vec<String> =
            text.lines().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect();
        let head = |connection: &str| format!("h of m, client 192.0.2.7, connection {connection}");
        let wanted = [
            &head("A"),
            "begins",
            "f(\u{fffd}) -> nil [1.500 ms]",
            &head("B"),
            "begins",
            &head("A"),
            "VALIDATE_CONT, 250 [2.345 s]",
            &head("B"),
            "VALIDATE_CONT, 250 [2.345 s]",
            "3 events lost: they came faster than they were read",
        ];
        assert_eq!(shape, wanted);
    }
}
