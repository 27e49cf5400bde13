//! The resolver: `dig` and `dns_cache`.

use super::{Command, CommandError, Context, Outcome, Words, command, none, one, usage};
use crate::doc::{Data, Doc};

pub(super) static COMMANDS: &[Command] = &[
    command! { "dig", "DOMAIN", Network, "Looks up how a domain is reached, into the cache", dig },
    command! { "dns_cache lookup", "NAME TYPE", Network, "Shows what the DNS cache holds for a name", lookup },
    command! { "dns_cache submit", "NAME TYPE", Network, "Looks a name up, into the cache", submit },
    command! { "dns_cache stats", "", Network, "Shows the numbers of the resolver and its cache", stats },
    command! { "dns_cache refcnts", "", Network, "Shows the entries of the DNS cache", refcnts },
];

async fn dig(context: &mut Context, words: Words) -> Outcome {
    let domain = one(words)?;
    context.services.server.dns_submit(&domain, "MX").map_err(CommandError::Failed)?;
    Ok(Doc::say("submitted"))
}

async fn lookup(context: &mut Context, words: Words) -> Outcome {
    let [name, record_type] = &words[..] else { return usage() };
    let record_type = record_type.to_uppercase();
    match context.services.server.dns_cached(name, &record_type).map_err(CommandError::Failed)? {
        None => Ok(Doc::say("Cached result not found, try a submit.")),
        Some(records) => {
            let mut doc = Doc::new("Records")
                .line(";; QUESTION SECTION:")
                .line(format!(";{name}.\t\tIN\t{record_type}"))
                .line("")
                .line(";; ANSWER SECTION:");
            records.iter().for_each(|record| doc.push_line(record));
            Ok(doc.with(Data::list("Record", records.into_iter().map(Data::from))))
        }
    }
}

async fn submit(context: &mut Context, words: Words) -> Outcome {
    let [name, record_type] = &words[..] else { return usage() };
    context.services.server.dns_submit(name, &record_type.to_uppercase()).map_err(CommandError::Failed)?;
    Ok(Doc::say("Submitted"))
}

async fn stats(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let stats = context.services.server.dns_stats();
    let looked_up = stats.cache_hits + stats.cache_misses;
    let rate = percent(stats.cache_hits, looked_up);
    let mut doc = Doc::new("DNSStats").line("DNS Queries:");
    let mut push = |label: &str, value: String| doc.push_line(&format!("{label:>11}: {value}"));
    for one in &stats.types {
        push(one.record_type, one.queries.to_string());
    }
    push("Pending", stats.pending.to_string());
    doc.push_line("");
    doc.push_line("DNS timeouts:");
    let mut push = |label: &str, value: String| doc.push_line(&format!("{label:>11}: {value}"));
    for one in &stats.types {
        push(one.record_type, one.timeouts.to_string());
    }
    doc.push_line("");
    doc.push_line("DNS cache:");
    let mut push = |label: &str, value: String| doc.push_line(&format!("{label:>11}: {value}"));
    push("Entries", stats.cache_entries.to_string());
    push("Lookups", looked_up.to_string());
    push("Hit Rate", format!("{rate:.4}%"));
    let types = stats.types.iter().map(|one| {
        Data::map([
            ("@name", one.record_type.into()),
            ("Queries", one.queries.into()),
            ("Timeouts", one.timeouts.into()),
        ])
    });
    Ok(doc.with(Data::map([
        ("Type", Data::list("Type", types.collect::<Vec<_>>())),
        ("Pending", stats.pending.into()),
        ("Entries", stats.cache_entries.into()),
        ("Hits", stats.cache_hits.into()),
        ("Misses", stats.cache_misses.into()),
        ("HitRate", rate.into()),
    ])))
}

async fn refcnts(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let stats = context.services.server.dns_stats();
    Ok(Doc::new("DNSCache")
        .line(format!("Entries: {}", stats.cache_entries))
        .line(format!("Pending: {}", stats.pending))
        .with(Data::map([("Entries", stats.cache_entries.into()), ("Pending", stats.pending.into())])))
}

/// `part` of `whole` in percent; 0 of nothing.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}
