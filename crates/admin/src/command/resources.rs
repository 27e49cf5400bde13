//! Threads, memory, modules, signing, and what this server does not do.

use super::{Command, CommandError, Context, Outcome, Words, command, none};
use crate::doc::{Data, Doc};

pub(super) static COMMANDS: &[Command] = &[
    command! { "threads", "", Server, "Shows the thread pools", threads },
    command! { "threads stats", "", Server, "Shows the thread pools", threads },
    command! { "threads io queue", "", Server, "Shows the jobs that wait in the IO pool", io_queue },
    command! { "threads cpu queue", "", Server, "Shows the jobs that wait in the CPU pool", cpu_queue },
    command! { "memory", "[TYPE]", Server, "Shows what memory is used for", memory },
    command! { "module list", "", Server, "Lists the modules of the configuration", modules },
    command! { "module hooks", "", Server, "Lists the hooks that policies can use", hooks },
    command! { "signing_stats", "", Server, "Shows the counters of message signing", signing },
    command! { "signing_stats reset", "", Server, "Sets the counters of message signing to zero", signing_reset },
    command! { "spool import", "DIRECTORY [COUNT] [suppress_trace_headers]", Messages, "Import of a spool", no_import },
    command! { "spool import_poll", "DIRECTORY", Messages, "Import of a spool", no_import },
    command! { "spool_in", "ID", Messages, "Reads a message of a foreign spool", no_import },
    command! { "unlink stats", "", Server, "Deletion of spool files", no_unlink },
];

async fn threads(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let pools = context.services.server.pools();
    let mut doc = Doc::new("ThreadPools");
    for (at, pool) in pools.iter().enumerate() {
        if at > 0 {
            doc.push_line("");
        }
        doc.push_line(&format!(
            "{} thread pool: concurrency {}",
            pool.name.replace(char::is_whitespace, "_"),
            pool.concurrency
        ));
        let fields = [
            ("Total invocations", pool.invocations.map(|count| count.to_string())),
            ("Observed average concurrency", pool.average_concurrency.map(|value| format!("{value:.2}"))),
            ("Thread pool saturation", pool.saturation.map(|value| format!("{value:5.2}%"))),
            ("Average wallclock time per op", pool.average_ms.map(|value| format!("{value:.2}ms"))),
            ("Current queue length", Some(pool.queued.to_string())),
            ("Current thread count", Some(pool.threads.to_string())),
        ];
        for (label, value) in fields.into_iter().filter_map(|(label, value)| Some((label, value?))) {
            doc.push_line(&format!("{label:>32}: {value}"));
        }
    }
    let items = pools.iter().map(|pool| {
        Data::map([
            ("@name", pool.name.as_str().into()),
            ("Concurrency", pool.concurrency.into()),
            ("Invocations", pool.invocations.map_or(Data::Empty, Data::from)),
            ("AverageConcurrency", pool.average_concurrency.map_or(Data::Empty, Data::from)),
            ("Saturation", pool.saturation.map_or(Data::Empty, Data::from)),
            ("AverageMilliseconds", pool.average_ms.map_or(Data::Empty, Data::from)),
            ("QueueLength", pool.queued.into()),
            ("Threads", pool.threads.into()),
        ])
    });
    Ok(doc.with(Data::list("ThreadPool", items.collect::<Vec<_>>())))
}

async fn io_queue(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    Ok(pool_queue(context, "IO"))
}

async fn cpu_queue(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    Ok(pool_queue(context, "CPU"))
}

fn pool_queue(context: &Context, name: &str) -> Doc {
    let pools = context.services.server.pools();
    let queued = pools.iter().find(|pool| pool.name.eq_ignore_ascii_case(name)).map_or(0, |pool| pool.queued);
    Doc::new("ThreadQueue")
        .line(format!("Jobs in the {name} pool"))
        .line(format!("{queued} jobs"))
        .with(Data::map([("Pool", name.into()), ("Jobs", queued.into())]))
}

async fn memory(context: &mut Context, words: Words) -> Outcome {
    let wanted = words.join(" ");
    let mut rows = context.services.server.memory();
    rows.retain(|(name, _)| wanted.is_empty() || name.to_lowercase().contains(&wanted.to_lowercase()));
    let mut doc = Doc::new("Memory").line(format!("{:<40}{:>16}", "Type", "Bytes"));
    for (name, bytes) in &rows {
        doc.push_line(&format!("{name:<40}{bytes:>16}"));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut items: Vec<Data> =
        rows.iter().map(|(name, bytes)| Data::map([("@name", name.as_str().into()), ("#", (*bytes).into())])).collect();
    for line in status.lines().filter(|line| line.starts_with("VmRSS:") || line.starts_with("VmHWM:")) {
        doc.push_line(line);
        let mut words = line.split_whitespace();
        if let (Some(name), Some(kib)) = (words.next(), words.next().and_then(|kib| kib.parse::<u64>().ok())) {
            let name = name.trim_end_matches(':').to_owned();
            items.push(Data::map([("@name", name.into()), ("#", kib.saturating_mul(1024).into())]));
        }
    }
    Ok(doc.with(Data::list("Type", items)))
}

async fn modules(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let modules = context.services.server.modules();
    let mut doc = Doc::new("Modules");
    for module in &modules {
        doc.push_line(&match &module.instance {
            Some(instance) => format!("Module: {}:{instance}", module.scope),
            None => format!("Module: {}", module.scope),
        });
        doc.push_line(&format!("  Scope_Name: {}", module.scope));
        if let Some(instance) = &module.instance {
            doc.push_line(&format!("  Instance_Name: {instance}"));
        }
        doc.push_line(&format!("  Enabled: {}", if module.enabled { "enabled" } else { "disabled" }));
        doc.push_line(&format!("  API: {}", module.api));
        doc.push_line(&format!("  Name: {}", module.name));
        doc.push_line(&format!("  Description: {}", module.description));
    }
    let items = modules.iter().map(|module| {
        Data::map([
            ("Scope_Name", module.scope.as_str().into()),
            ("Instance_Name", module.instance.clone().unwrap_or_default().into()),
            ("Enabled", module.enabled.into()),
            ("API", module.api.as_str().into()),
            ("Name", module.name.as_str().into()),
            ("Description", module.description.as_str().into()),
        ])
    });
    Ok(doc.with(Data::list("Module", items.collect::<Vec<_>>())))
}

async fn hooks(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let hooks = context.services.server.hooks();
    let mut doc = Doc::new("Hooks");
    for (name, signature) in &hooks {
        doc.push_line(name);
        doc.push_line(&format!("\t{signature}"));
    }
    let items = hooks
        .iter()
        .map(|(name, signature)| Data::map([("@name", name.as_str().into()), ("#", signature.as_str().into())]));
    Ok(doc.with(Data::list("Hook", items.collect::<Vec<_>>())))
}

async fn signing(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let Some(counters) = context.services.server.signing_stats() else {
        return Err(CommandError::failed("This server does not sign messages."));
    };
    let mut doc = Doc::new("SigningStats").line("Signing Statistics");
    for (name, value) in &counters {
        doc.push_line(&format!("    {name}: {value}"));
    }
    let items =
        counters.iter().map(|(name, value)| Data::map([("@name", name.as_str().into()), ("#", (*value).into())]));
    Ok(doc.with(Data::list("Counter", items.collect::<Vec<_>>())))
}

async fn signing_reset(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    context.services.server.reset_signing_stats();
    Ok(Doc::say("Signing Statistics are reset"))
}

async fn no_import(_: &mut Context, _: Words) -> Outcome {
    Err(CommandError::failed("Importing a foreign spool is not available in this release."))
}

async fn no_unlink(_: &mut Context, _: Words) -> Outcome {
    Err(CommandError::failed("This server keeps no file for each message, hence deletes none."))
}
