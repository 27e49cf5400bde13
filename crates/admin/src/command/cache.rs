//! `cache list`, `cache stat`, `cache stats`, `cache flush`.

use super::dns::percent;
use super::{Command, CommandError, Context, Outcome, Words, command, one};
use crate::doc::{Data, Doc};
use crate::view::Cache;

pub(super) static COMMANDS: &[Command] = &[
    command! { "cache list", "[summary|ATTRIBUTE…]", Server, "Lists the caches, with attributes", list },
    command! { "cache stat", "NAME", Server, "Shows everything about a cache", stat },
    command! { "cache stats", "[NAME…]", Server, "Shows look-ups and deletions of caches", stats },
];

/// An attribute of `cache list`: its name and how it is shown.
type Attribute = (&'static str, fn(&Cache, f64) -> String);

/// The second argument of the functions is the uptime in seconds.
const ATTRIBUTES: [Attribute; 13] = [
    ("capacity", |cache, _| format!("{:10}", cache.capacity)),
    ("entries", |cache, _| format!("{:10}", cache.entries)),
    ("utilization", |cache, _| format!("{:6.2}%", percent(cache.entries, cache.capacity))),
    ("loads", |cache, _| format!("{:10}", cache.hits + cache.misses)),
    ("stores", |cache, _| format!("{:10}", cache.stores)),
    ("hits", |cache, _| format!("{:10}", cache.hits)),
    ("misses", |cache, _| format!("{:10}", cache.misses)),
    ("forced", |cache, _| format!("{:10}", cache.forced)),
    ("expired", |cache, _| format!("{:10}", cache.expired)),
    ("lru", |cache, _| format!("{:10}", cache.evicted)),
    ("hit-rate", |cache, _| format!("{:6.2}%", hit_rate(cache))),
    ("workload", |cache, _| format!("{:6.2}%", workload(cache))),
    ("query-rate", |cache, uptime_s| format!("{:10.0}", (cache.hits + cache.misses) as f64 / uptime_s)),
];

fn hit_rate(cache: &Cache) -> f64 {
    percent(cache.hits, cache.hits + cache.misses)
}

/// Share of reads in reads and writes.
fn workload(cache: &Cache) -> f64 {
    let reads = cache.hits + cache.misses;
    percent(reads, reads + cache.stores)
}

fn uptime_s(context: &Context) -> f64 {
    let services = &context.services;
    services.clock.now().since(services.log.stats().started()).as_secs_f64().max(1.0)
}

async fn list(context: &mut Context, words: Words) -> Outcome {
    let caches = context.services.server.caches();
    let mut doc = Doc::new("Caches");
    if words == ["summary"] {
        doc.push_line("CAPACITY    ENTRIES     USED    HT/TL   RD/WR CACHE");
        for cache in &caches {
            let (used, hit_rate, workload) = (percent(cache.entries, cache.capacity), hit_rate(cache), workload(cache));
            doc.push_line(&format!(
                "{:<12}{:<8}{used:>7.2}% {hit_rate:>7.2}% {workload:>6.2}% {}",
                cache.capacity, cache.entries, cache.name
            ));
        }
        return Ok(doc.with(data(&caches)));
    }
    let mut shown = Vec::new();
    for word in &words {
        match ATTRIBUTES.iter().find(|(name, _)| name == word) {
            Some(attribute) => shown.push(attribute),
            None => {
                let names: Vec<&str> = ATTRIBUTES.iter().map(|(name, _)| *name).collect();
                return Err(CommandError::Failed(format!("Valid attributes are [{}]", names.join(","))));
            }
        }
    }
    let uptime_s = uptime_s(context);
    for cache in &caches {
        let mut line = String::new();
        for (_, show) in &shown {
            line.push_str(&show(cache, uptime_s));
            line.push(' ');
        }
        let indent = if shown.is_empty() { " " } else { "" };
        doc.push_line(&format!("{indent}{line}{}", cache.name));
    }
    Ok(doc.line("").line(format!(" {} caches listed.", caches.len())).with(data(&caches)))
}

async fn stat(context: &mut Context, words: Words) -> Outcome {
    let name = one(words)?;
    let caches = context.services.server.caches();
    let Some(cache) = caches.iter().find(|cache| cache.name == name) else {
        return Err(CommandError::Failed(format!("Cache '{name}' not found.")));
    };
    let loads = cache.hits + cache.misses;
    let invalidations = cache.forced + cache.expired + cache.evicted;
    let rate = loads as f64 / uptime_s(context);
    let lines = [
        ("Name          ", cache.name.clone()),
        ("Capacity      ", cache.capacity.to_string()),
        ("Entries       ", cache.entries.to_string()),
        ("Utilization   ", format!("{:6.2}%", percent(cache.entries, cache.capacity))),
        ("Query Rate    ", format!("{rate:.0} q/s")),
        ("Loads         ", loads.to_string()),
        ("  Hits        ", cache.hits.to_string()),
        ("  Misses      ", cache.misses.to_string()),
        ("  Pending     ", "0".to_owned()),
        ("Stores        ", cache.stores.to_string()),
        ("Invalidations ", invalidations.to_string()),
        ("  Forced      ", cache.forced.to_string()),
        ("  Expired     ", cache.expired.to_string()),
        ("  Capacity    ", cache.evicted.to_string()),
        ("Hit Rate      ", format!("{:6.2}%", hit_rate(cache))),
        ("Workload (R/W)", format!("{:6.2}%", workload(cache))),
        ("  Reads       ", loads.to_string()),
        ("  Writes      ", cache.stores.to_string()),
    ];
    let mut doc = Doc::new("Caches");
    for (label, value) in lines {
        doc.push_line(&format!("{label}: {value}"));
    }
    Ok(doc.with(data(std::slice::from_ref(cache))))
}

async fn stats(context: &mut Context, words: Words) -> Outcome {
    let mut caches = context.services.server.caches();
    caches.retain(|cache| words.is_empty() || words.contains(&cache.name));
    let width = caches.iter().map(|cache| cache.name.len()).max().unwrap_or(0).max(22);
    let mut doc = Doc::new("Caches")
        .line(format!("{:width$}                  lookups %                  deletions %", "cache name"))
        .line(format!("{:width$}  elts  hit miss pend  total  inserts man ttl lru  total", ""))
        .line(format!("{} ----- -------------------- -------- ------------------", "-".repeat(width)))
        .line("");
    for cache in &caches {
        let (loads, deletes) = (cache.hits + cache.misses, cache.forced + cache.expired + cache.evicted);
        doc.push_line(&format!(
            "{:width$} {:>5} {:>3.0} {:>4.0} {:>4} {loads:>6} {:>8} {:>3.0} {:>3.0} {:>3.0} {deletes:>6}",
            cache.name,
            cache.entries,
            percent(cache.hits, loads),
            percent(cache.misses, loads),
            0,
            cache.stores,
            percent(cache.forced, deletes),
            percent(cache.expired, deletes),
            percent(cache.evicted, deletes),
        ));
    }
    Ok(doc.with(data(&caches)))
}

fn data(caches: &[Cache]) -> Data {
    let delete = |kind: &'static str, count: u64| Data::map([("@type", kind.into()), ("#", count.into())]);
    let items = caches.iter().map(|cache| {
        Data::map([
            ("@name", cache.name.as_str().into()),
            ("capacity", cache.capacity.into()),
            ("entries", cache.entries.into()),
            ("hits", cache.hits.into()),
            ("misses", cache.misses.into()),
            ("hit_rate", hit_rate(cache).into()),
            ("inserts", cache.stores.into()),
            (
                "deletes",
                Data::list(
                    "deletes",
                    [delete("manual", cache.forced), delete("ttl", cache.expired), delete("lru", cache.evicted)],
                ),
            ),
        ])
    });
    Data::list("Cache", items.collect::<Vec<_>>())
}
