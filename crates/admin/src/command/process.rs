//! Commands about the process: help, versions, logs, shutdown.

use super::{Command, CommandError, Context, Outcome, Words, command, commands, none};
use crate::doc::{Data, Doc};
use std::io::{Read, Seek, SeekFrom};

pub(super) static COMMANDS: &[Command] = &[
    command! { "help", "[COMMAND]", Server, "Lists the commands, or those that begin with COMMAND", help },
    command! { "version", "", Server, "Shows the version", version },
    command! { "sysinfo", "", Server, "Shows version, build and operating system", sysinfo },
    command! { "pid", "", Server, "Shows the process id", pid },
    command! { "reopen logs", "", Server, "Closes and reopens all log files", reopen },
    command! { "ec_logger reopen logs", "", Server, "Reopens the files of an ec_logger (ec_logger:NAME)", reopen_ec },
    command! { "bounce_logger reopen logs", "", Server, "Reopens the file of a bounce_logger", reopen_bounce },
    command! {
        "custom_bounce_logger reopen logs", "", Server, "Reopens the file of a custom_bounce_logger",
        reopen_custom_bounce
    },
    command! { "custom_logger reopen logs", "", Server, "Reopens the files of a custom_logger", reopen_custom },
    command! { "chunk_logger reopen logs", "", Server, "Reopens the file of a chunk_logger", reopen_chunk },
    command! { "json_logger reopen logs", "", Server, "Reopens the file of a json_logger", reopen_json },
    command! { "paniclog", "", Server, "Shows the last ten diagnostics of every level", paniclog },
    command! { "tail mainlog", "[LINES]", Server, "Shows the last lines of the mainlog (default 10)", tail_mainlog },
    command! { "debugging mode", "", Server, "Adds debugging fields to summary in this session", debugging_mode },
    command! { "shutdown", "", Server, "Shuts the server down in order", shutdown },
    command! { "quit", "", Server, "Closes the session", quit },
];

async fn help(context: &mut Context, words: Words) -> Outcome {
    let wanted = words.join(" ");
    let extensions = context.services.server.extensions();
    let mut lines: Vec<(String, String)> = commands()
        .map(|command| (command.usage(), command.help.to_owned()))
        .chain(extensions.into_iter().map(|extension| (extension.name, extension.help)))
        .filter(|(name, _)| name.starts_with(&wanted))
        .collect();
    lines.sort();
    if lines.is_empty() {
        return Err(CommandError::Failed(format!("No help for '{wanted}'.")));
    }
    let width = lines.iter().map(|(usage, _)| usage.len()).max().unwrap_or(0).min(48);
    let mut doc = Doc::new("Commands");
    for (usage, text) in &lines {
        doc.push_line(&format!("{usage:width$}  {text}"));
    }
    let items =
        lines.iter().map(|(usage, text)| Data::map([("Usage", usage.as_str().into()), ("Help", text.as_str().into())]));
    Ok(doc.with(Data::list("Command", items.collect::<Vec<_>>())))
}

async fn version(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let version = context.services.server.version();
    // Both names: scripts look for either.
    let lines = [format!("posthaste version: {version}"), "ecelerity version: 3.6 (compatible)".to_owned()];
    let border = "#".repeat(lines.iter().map(String::len).max().unwrap_or(0) + 4);
    let mut doc = Doc::new("Version").line(&border);
    for line in &lines {
        doc.push_line(&format!("# {line}"));
    }
    doc.push_line("# Copyright the Posthaste authors, Apache License 2.0");
    Ok(doc.line(border).with(Data::map([("Posthaste", version.into()), ("Compatible", "ecelerity 3.6".into())])))
}

async fn sysinfo(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let server = &context.services.server;
    let system = nix::sys::utsname::uname().map_err(|error| CommandError::failed(error.to_string()))?;
    let part = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let uname = [system.sysname(), system.nodename(), system.release(), system.version(), system.machine()];
    let uname = uname.map(part).join(" ");
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let release = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown");
    let release = release.trim_matches('"').to_owned();
    let version = server.version();
    Ok(Doc::new("SystemInformation")
        .line(format!("Momentum Version: {version} (64-bit)"))
        .line(format!("build date: {}", server.build_date()))
        .line("product name: Posthaste")
        .line(format!("OS release: {release}"))
        .line(&uname)
        .with(Data::map([
            ("Version", version.into()),
            ("BuildDate", server.build_date().into()),
            ("Product", "Posthaste".into()),
            ("Release", release.into()),
            ("Uname", uname.into()),
        ])))
}

async fn pid(_: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let pid = std::process::id();
    Ok(Doc::new("Process").line(pid.to_string()).with(Data::map([("Pid", pid.into())])))
}

async fn reopen(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let log = context.services.log.clone();
    blocking(move || log.reopen()).await?;
    context.services.server.logs_reopened().await;
    let faults = context.services.log.faults();
    if faults.is_empty() { Ok(Doc::say("Logs reopened.")) } else { Err(CommandError::Failed(faults.join("\n"))) }
}

async fn reopen_module(context: &mut Context, module: &'static str) -> Outcome {
    let (log, instance) = (context.services.log.clone(), context.instance.clone());
    let there = {
        let instance = instance.clone();
        blocking(move || log.reopen_logger(module, instance.as_deref())).await?
    };
    match there {
        true => Ok(Doc::say("Logs reopened.")),
        false => Err(CommandError::Failed(match instance {
            Some(instance) => format!("There is no {module} '{instance}'."),
            None => format!("There is no {module}."),
        })),
    }
}

async fn reopen_ec(context: &mut Context, _: Words) -> Outcome {
    reopen_module(context, "ec_logger").await
}

async fn reopen_bounce(context: &mut Context, _: Words) -> Outcome {
    reopen_module(context, "bounce_logger").await
}

async fn reopen_custom_bounce(context: &mut Context, _: Words) -> Outcome {
    reopen_module(context, "custom_bounce_logger").await
}

async fn reopen_custom(context: &mut Context, _: Words) -> Outcome {
    reopen_module(context, "custom_logger").await
}

async fn reopen_chunk(context: &mut Context, _: Words) -> Outcome {
    reopen_module(context, "chunk_logger").await
}

async fn reopen_json(context: &mut Context, _: Words) -> Outcome {
    reopen_module(context, "json_logger").await
}

async fn paniclog(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let lines = context.services.log.recent_lines();
    let mut doc = Doc::new("PanicLog");
    for line in lines.iter().flat_map(|line| line.lines()) {
        doc.push_line(line);
    }
    Ok(doc.with(Data::list("Entry", lines.into_iter().map(Data::from))))
}

/// Most lines that `tail mainlog` shows.
const TAIL_MAX: usize = 1000;
/// Octets at the end of the file that are looked at.
const TAIL_BYTES: u64 = 1 << 20;

async fn tail_mainlog(context: &mut Context, words: Words) -> Outcome {
    let count = match &words[..] {
        [] => 10,
        [count] => super::number::<usize>(count)?.min(TAIL_MAX),
        _ => return super::usage(),
    };
    let Some(path) = context.services.log.mainlog_path() else {
        return Err(CommandError::failed("There is no mainlog."));
    };
    let log = context.services.log.clone();
    let read = move || -> std::io::Result<Vec<u8>> {
        log.flush();
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = blocking(read).await?.map_err(|error| CommandError::failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let mut doc = Doc::new("MainLog");
    let last = &lines[lines.len().saturating_sub(count)..];
    last.iter().for_each(|line| doc.push_line(line));
    Ok(doc.with(Data::list("Entry", last.iter().map(|line| (*line).into()).collect::<Vec<Data>>())))
}

async fn debugging_mode(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    context.debugging = true;
    Ok(Doc::say("I am Ten Ninjas"))
}

async fn shutdown(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    context.services.server.shutdown();
    context.close = true;
    Ok(Doc::say("Shutting down."))
}

async fn quit(context: &mut Context, _: Words) -> Outcome {
    context.close = true;
    Ok(Doc::say("Goodbye."))
}

/// Runs what waits for a disk away from the tasks.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CommandError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| CommandError::failed(error.to_string()))
}
