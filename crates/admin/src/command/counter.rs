//! The counters of policies: `counter list` and changes.

use super::message::local_time;
use super::{Command, CommandError, Context, Outcome, Words, command, none, number, one, usage};
use crate::doc::{Data, Doc};
use crate::view::CounterChange;

pub(super) static COMMANDS: &[Command] = &[
    command! { "counter list", "[PREFIX]", Server, "Lists the counters of policies", list },
    command! { "counter add", "PATH [DELTA]", Server, "Adds DELTA to a counter, or makes one", add },
    command! { "counter increment", "PATH [DELTA]", Server, "Adds 1 (or DELTA) to a counter", increment },
    command! { "counter reset", "PATH", Server, "Sets a counter to zero", reset },
    command! { "counter unlink", "PATH", Server, "Removes a counter", unlink },
    command! { "counter help", "", Server, "Shows what can be done with counters", help },
];

async fn list(context: &mut Context, words: Words) -> Outcome {
    let prefix = match &words[..] {
        [] => "",
        [prefix] => prefix.as_str(),
        _ => return usage(),
    };
    let mut counters = context.services.server.counters();
    counters.retain(|counter| counter.path.starts_with(prefix));
    counters.sort_by(|a, b| a.path.cmp(&b.path));
    let mut doc = Doc::new("Counters").line("VALUE       RESET_TIME       SEMANTICS COUNTER").line("");
    let mut items = Vec::new();
    for counter in &counters {
        let reset_at = counter.reset_at.map_or_else(|| "never".to_owned(), |at| local_time(at).replace(' ', "@"));
        doc.push_line(&format!("{:<7}{reset_at:<22}{:<10}{}", counter.value, counter.semantics, counter.path));
        items.push(Data::map([
            ("Path", counter.path.as_str().into()),
            ("Value", counter.value.into()),
            ("ResetTime", reset_at.into()),
            ("Semantics", counter.semantics.as_str().into()),
        ]));
    }
    doc.push_line("");
    doc.push_line(&format!("{} counters listed.", counters.len()));
    Ok(doc.with(Data::list("Counter", items)))
}

fn change(context: &Context, path: &str, change: CounterChange) -> Outcome {
    let value = context.services.server.change_counter(path, change).map_err(CommandError::Failed)?;
    let text = match change {
        CounterChange::Create => format!("Counter {path} added."),
        CounterChange::Add(_) => format!("{path} = {value}"),
        CounterChange::Reset => format!("Counter {path} reset."),
        CounterChange::Remove => format!("Counter {path} removed."),
    };
    Ok(Doc::new("Counter").line(text).with(Data::map([("Path", path.into()), ("Value", value.into())])))
}

async fn help(_: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let width = COMMANDS.iter().map(|command| command.usage().len()).max().unwrap_or(0);
    let lines = COMMANDS.iter().map(|command| format!("{:width$}  {}", command.usage(), command.help));
    let items =
        COMMANDS.iter().map(|command| Data::map([("Usage", command.usage().into()), ("Help", command.help.into())]));
    Ok(lines.fold(Doc::new("Commands"), Doc::line).with(Data::list("Command", items)))
}

async fn add(context: &mut Context, words: Words) -> Outcome {
    match &words[..] {
        [path] => change(context, path, CounterChange::Create),
        [path, delta] => change(context, path, CounterChange::Add(number(delta)?)),
        _ => usage(),
    }
}

async fn increment(context: &mut Context, words: Words) -> Outcome {
    match &words[..] {
        [path] => change(context, path, CounterChange::Add(1)),
        [path, delta] => change(context, path, CounterChange::Add(number(delta)?)),
        _ => usage(),
    }
}

async fn reset(context: &mut Context, words: Words) -> Outcome {
    change(context, &one(words)?, CounterChange::Reset)
}

async fn unlink(context: &mut Context, words: Words) -> Outcome {
    change(context, &one(words)?, CounterChange::Remove)
}
