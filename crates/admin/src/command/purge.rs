//! Commands over many messages: fail, flush, delay, reroute, rebind, with filters and dry runs.
//!
//! A filter (`--meta KEY VALUE` or `--header NAME LINE`) and `--dry-run` may stand anywhere before the note. A dry run
//! lists at most `SHOWN_MAX` messages and changes nothing.

use super::queue::known_binding;
use super::{Command, CommandError, Context, Outcome, Words, command, none, number, one, usage};
use crate::doc::{Data, Doc};
use crate::view::{Done, Failure, MessageRow, Selection};
use std::time::Duration;

pub(super) static COMMANDS: &[Command] = &[
    command! {
        "fail domain", "[--dry-run] [--meta KEY VALUE|--header NAME LINE] DOMAIN [NOTE…]", Queues,
        "Fails the messages of a domain", fail_domain
    },
    command! {
        "fail domain quiet", "[--dry-run] [--meta KEY VALUE|--header NAME LINE] DOMAIN [NOTE…]", Queues,
        "Fails the messages of a domain without DSNs", fail_domain_quiet
    },
    command! {
        "binding fail domain", "[--dry-run] [--meta KEY VALUE|--header NAME LINE] BINDING DOMAIN|all [NOTE…]", Queues,
        "Fails messages of one binding", binding_fail
    },
    command! {
        "binding fail domain quiet", "[--dry-run] [--meta KEY VALUE|--header NAME LINE] BINDING DOMAIN|all [NOTE…]",
        Queues, "Fails messages of one binding without DSNs", binding_fail_quiet
    },
    command! {
        "fail all", "[--dry-run] --meta KEY VALUE|--header NAME LINE [NOTE…]", Queues,
        "Fails matching messages of all domains", fail_all
    },
    command! {
        "fail all quiet", "[--dry-run] --meta KEY VALUE|--header NAME LINE [NOTE…]", Queues,
        "Fails matching messages of all domains without DSNs", fail_all_quiet
    },
    command! { "flush domain", "DOMAIN|all", Queues, "Makes the delayed messages of a domain due", flush },
    command! {
        "binding flush domain", "BINDING DOMAIN|all", Queues, "Makes delayed messages of one binding due", binding_flush
    },
    command! {
        "delay", "SECONDS [--domain DOMAIN] [--binding BINDING] [--meta KEY VALUE|--header NAME LINE]", Queues,
        "Lets messages that are due wait for so long", delay
    },
    command! {
        "reroute queue", "[--dry-run] [--meta KEY VALUE|--header NAME LINE] DOMAIN|all TO_DOMAIN", Queues,
        "Moves messages to another routing domain", reroute
    },
    command! { "rebind", "BINDING|all [DOMAIN]", Queues, "Lets policies choose bindings anew", rebind },
    command! { "jobs", "", Queues, "Shows how far commands over many messages are that are under way", jobs },
    command! { "jobs stop", "NUMBER", Queues, "Ends such a command where it is", stop_job },
];

/// Messages that a dry run lists.
const SHOWN_MAX: usize = 25;

/// The text of an administrative failure without a note.
const PURGED: &str = "554 5.7.0 [internal] Message manually purged";

/// Options taken out of a command's words.
#[derive(Debug, Default)]
struct Options {
    dry_run: bool,
    selection: Selection,
}

impl Options {
    /// Takes the options before the first `plain` words that are none, and `--dry-run` anywhere.
    fn take(words: Words, plain: usize) -> Result<(Options, Words), CommandError> {
        let mut options = Options::default();
        let mut left = Vec::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| CommandError::Usage(String::new()));
            match word.as_str() {
                "--dry-run" => options.dry_run = true,
                "--meta" if left.len() <= plain => options.selection.meta = Some((value()?, value()?)),
                "--header" if left.len() <= plain => options.selection.header = Some((value()?, value()?)),
                "--domain" if left.len() <= plain => options.selection.domain = Some(value()?.to_lowercase()),
                "--binding" if left.len() <= plain => options.selection.binding = Some(value()?),
                _ => left.push(word),
            }
        }
        if options.selection.meta.is_some() && options.selection.header.is_some() {
            return Err(CommandError::failed("Give either --meta or --header, not both."));
        }
        Ok((options, left))
    }
}

async fn fail_domain(context: &mut Context, words: Words) -> Outcome {
    fail_in_domain(context, words, false).await
}

async fn fail_domain_quiet(context: &mut Context, words: Words) -> Outcome {
    fail_in_domain(context, words, true).await
}

async fn fail_in_domain(context: &mut Context, words: Words, quiet: bool) -> Outcome {
    let (mut options, words) = Options::take(words, 1)?;
    let [domain, note @ ..] = &words[..] else { return usage() };
    let domain = domain.to_lowercase();
    options.selection.domain = Some(domain.clone());
    purge(context, &options, &domain, &format!("{domain} purged."), note, quiet).await
}

async fn binding_fail(context: &mut Context, words: Words) -> Outcome {
    fail_in_binding(context, words, false).await
}

async fn binding_fail_quiet(context: &mut Context, words: Words) -> Outcome {
    fail_in_binding(context, words, true).await
}

async fn fail_in_binding(context: &mut Context, words: Words, quiet: bool) -> Outcome {
    let (mut options, words) = Options::take(words, 2)?;
    let [binding, domain, note @ ..] = &words[..] else { return usage() };
    options.selection.binding = Some(known_binding(&context.services, binding)?);
    let domain = domain.to_lowercase();
    let (name, done) = if domain == "all" {
        ("all domains".to_owned(), "All domains purged.".to_owned())
    } else {
        options.selection.domain = Some(domain.clone());
        (domain.clone(), format!("{domain} purged."))
    };
    purge(context, &options, &name, &done, note, quiet).await
}

async fn fail_all(context: &mut Context, words: Words) -> Outcome {
    fail_everywhere(context, words, false).await
}

async fn fail_all_quiet(context: &mut Context, words: Words) -> Outcome {
    fail_everywhere(context, words, true).await
}

async fn fail_everywhere(context: &mut Context, words: Words, quiet: bool) -> Outcome {
    let (options, note) = Options::take(words, 0)?;
    if options.selection.meta.is_none() && options.selection.header.is_none() {
        return Err(CommandError::failed("A filter is required: --meta KEY VALUE or --header NAME LINE."));
    }
    purge(context, &options, "all domains", "All domains purged.", &note, quiet).await
}

async fn purge(
    context: &mut Context,
    options: &Options,
    name: &str,
    done: &str,
    note: &[String],
    quiet: bool,
) -> Outcome {
    if options.dry_run {
        let (rows, all) = context.services.queues.matching(&options.selection, SHOWN_MAX).await;
        return Ok(dry_run(name, "failed", &rows, all));
    }
    let note = note.join(" ");
    let failure = Failure { quiet, text: if note.is_empty() { PURGED.to_owned() } else { note } };
    let failed = context.services.queues.fail(&options.selection, &failure).await;
    let done = if failed.stopped { format!("{name} partly purged.") } else { done.to_owned() };
    Ok(told(failed, format!("{done} {} messages failed.", failed.count), "MessagesFailed"))
}

/// The answer of a job. One that was stopped must not look like one that is complete.
fn told(done: Done, text: String, counted: &'static str) -> Doc {
    let doc = Doc::new("Response").line(text);
    match done.stopped {
        false => doc.with(Data::map([(counted, done.count.into())])),
        true => doc
            .line("Stopped before the end, by `jobs stop`.")
            .with(Data::map([(counted, done.count.into()), ("Stopped", true.into())])),
    }
}

fn dry_run(name: &str, what: &str, rows: &[MessageRow], all: u64) -> Doc {
    let mut doc = Doc::new("Response");
    for row in rows {
        doc.push_line(&format!("  {}  domain={} from=<{}> to=<{}>", row.id, row.domain, row.sender, row.recipient));
    }
    let mut last = format!("[dry-run] {name}: {all} messages would be {what}.");
    let more = all.saturating_sub(rows.len() as u64);
    if more > 0 {
        last.push_str(&format!(" (Showing first {SHOWN_MAX}; {more} more not listed.)"));
    }
    // The messages themselves are left out of the data: scripts read the two numbers.
    doc.line(last).with(Data::map([("DryRun", 1_u64.into()), ("MessagesMatched", all.into())]))
}

async fn flush(context: &mut Context, words: Words) -> Outcome {
    let [domain] = &words[..] else { return usage() };
    flush_selected(context, Selection::default(), domain).await
}

async fn binding_flush(context: &mut Context, words: Words) -> Outcome {
    let [binding, domain] = &words[..] else { return usage() };
    let binding = known_binding(&context.services, binding)?;
    flush_selected(context, Selection { binding: Some(binding), ..Selection::default() }, domain).await
}

async fn flush_selected(context: &mut Context, mut selection: Selection, domain: &str) -> Outcome {
    let domain = domain.to_lowercase();
    let name = if domain == "all" { "All domains".to_owned() } else { domain.clone() };
    selection.domain = (domain != "all").then_some(domain);
    let flushed = context.services.queues.flush(&selection).await;
    Ok(told(flushed, format!("{name} flushed. {} messages requeued.", flushed.count), "MessagesRequeued"))
}

async fn delay(context: &mut Context, words: Words) -> Outcome {
    let (options, words) = Options::take(words, 1)?;
    let [seconds] = &words[..] else { return usage() };
    let seconds: u64 = number(seconds)?;
    if seconds == 0 {
        return Err(CommandError::failed("The delay must be greater than zero."));
    }
    if options.selection == Selection::default() {
        return Err(CommandError::failed("Select messages: --domain, --binding, --meta or --header."));
    }
    if let Some(binding) = &options.selection.binding {
        known_binding(&context.services, binding)?;
    }
    let queues = &context.services.queues;
    let delayed = queues.delay(&options.selection, Duration::from_secs(seconds)).await;
    let text = match (&options.selection.domain, delayed.count) {
        (Some(domain), 0) => format!("No messages for {domain} found."),
        (_, count) => format!("Delayed {count} messages."),
    };
    Ok(told(delayed, text, "MessagesDelayed"))
}

async fn reroute(context: &mut Context, words: Words) -> Outcome {
    let (mut options, words) = Options::take(words, 2)?;
    let [from, to] = &words[..] else { return usage() };
    let (from, to) = (from.to_lowercase(), to.to_lowercase());
    options.selection.domain = (from != "all").then(|| from.clone());
    let queues = &context.services.queues;
    if options.dry_run {
        let (rows, all) = queues.matching(&options.selection, SHOWN_MAX).await;
        return Ok(dry_run(&format!("{from} -> {to}"), "moved", &rows, all));
    }
    let moved = queues.reroute(&options.selection, &to).await;
    Ok(told(moved, format!("Moved {} messages from '{from}' to '{to}'", moved.count), "MessagesRerouted"))
}

async fn rebind(context: &mut Context, words: Words) -> Outcome {
    let mut selection = Selection::default();
    let binding = match &words[..] {
        [binding] => binding,
        [binding, domain] => {
            selection.domain = Some(domain.to_lowercase());
            binding
        }
        _ => return usage(),
    };
    if binding != "all" {
        selection.binding = Some(known_binding(&context.services, binding)?);
    }
    let rebound = context.services.queues.rebind(&selection).await;
    Ok(told(rebound, format!("Rebound {} messages.", rebound.count), "MessagesRebound"))
}

async fn jobs(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let now = context.services.clock.now();
    let jobs = context.services.queues.jobs();
    let mut doc = Doc::new("Jobs");
    for job in &jobs {
        let state = if job.stopping { "stopping" } else { job.phase };
        let seconds = now.since(job.since).as_secs();
        doc.push_line(&format!(
            "[{:>2}] {}: {state}, {} of {} messages, for {seconds}s",
            job.number, job.what, job.done, job.total
        ));
    }
    doc.push_line(&format!("{} jobs", jobs.len()));
    let items = jobs.into_iter().map(|job| {
        Data::map([
            ("@number", job.number.into()),
            ("Command", job.what.into()),
            ("Phase", job.phase.into()),
            ("Done", job.done.into()),
            ("Total", job.total.into()),
            ("Since", job.since.secs().into()),
            ("Stopping", job.stopping.into()),
        ])
    });
    Ok(doc.with(Data::list("Job", items)))
}

async fn stop_job(context: &mut Context, words: Words) -> Outcome {
    let number: u64 = number(&one(words)?)?;
    match context.services.queues.stop_job(number) {
        true => Ok(Doc::say(format!("Job {number} stops at its next message. What it has done stays done."))),
        false => Err(CommandError::Failed(format!("There is no job {number}."))),
    }
}
