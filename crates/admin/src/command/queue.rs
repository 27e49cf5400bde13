//! Queues by domain: `active`, `delayed`, `mailq`, `domain`, suspension.

use super::message::local_time;
use super::summary::total;
use super::{Command, CommandError, Context, Outcome, Words, command, none, number, one, usage};
use crate::doc::{Data, Doc};
use crate::view::{DomainRoute, OutboundSession, QueueRow, Selection, Services, Suspension};
use std::collections::BTreeMap;
use std::fmt::Write;

pub(super) static COMMANDS: &[Command] = &[
    command! { "active", "N", Queues, "Lists domains with more than N messages that are due", active },
    command! { "delayed", "N", Queues, "Lists domains with more than N messages that wait", delayed },
    command! { "binding active", "BINDING N", Queues, "As active, within one binding", binding_active },
    command! { "binding delayed", "BINDING N", Queues, "As delayed, within one binding", binding_delayed },
    command! {
        "mailq", "[-d DOMAIN]… [-b BINDING]… [-l LIMIT]", Queues, "Lists the longest queues (default 20)", mailq
    },
    command! { "domain", "DOMAIN", Queues, "Shows how a domain is reached and its queues", domain },
    command! { "domain all", "", Queues, "Lists all domains that have mail", domains },
    command! { "domains", "", Queues, "Lists all domains that have mail", domains },
    command! {
        "suspend", "domain DOMAIN|binding BINDING|all [SECONDS] [NOTE…]", Queues,
        "Stops deliveries, for SECONDS or until resume, over restarts too", suspend
    },
    command! { "resume", "domain DOMAIN|binding BINDING|all", Queues, "Ends a suspension", resume },
    command! { "suspensions", "", Queues, "Lists the suspensions in force: since when, by whom, why", suspensions },
    command! { "refresh domain", "DOMAIN|all", Queues, "Forgets how a domain is reached", refresh },
];

/// Rows of one domain in one.
fn by_domain(rows: Vec<QueueRow>) -> Vec<QueueRow> {
    let mut domains: BTreeMap<String, Vec<QueueRow>> = BTreeMap::new();
    for row in rows {
        domains.entry(row.domain.clone()).or_default().push(row);
    }
    domains.into_iter().map(|(domain, rows)| QueueRow { domain, ..total(&rows) }).collect()
}

fn domain_line(row: &QueueRow) -> String {
    format!(
        "Domain: {:>30}  C: {:>3}  A: {:>6}  D: {:>6}  S: {:>6}",
        row.domain, row.connections, row.active, row.delayed, row.deliveries
    )
}

fn domain_data(row: &QueueRow) -> Data {
    Data::map([
        ("Name", row.domain.as_str().into()),
        ("Connections", row.connections.into()),
        ("ActiveQueueSize", row.active.into()),
        ("DelayedQueueSize", row.delayed.into()),
        ("Deliveries", row.deliveries.into()),
        ("Failures", row.failures.into()),
    ])
}

/// The list of `active` and its kin: domains over the bound, the total over all domains.
fn list(rows: Vec<QueueRow>, over: impl Fn(&QueueRow) -> bool) -> Doc {
    let rows = by_domain(rows);
    let mut doc = Doc::new("Domains");
    rows.iter().filter(|row| over(row)).for_each(|row| doc.push_line(&domain_line(row)));
    let sum = total(&rows);
    doc.push_line(&format!(
        " {:>37}  C: {:>3}  A: {:>6}  D: {:>6}  S:{:>7}",
        "Total:", sum.connections, sum.active, sum.delayed, sum.deliveries
    ));
    let items: Vec<Data> = rows.iter().filter(|row| over(row)).map(domain_data).collect();
    doc.with(Data::list("DomainSummary", items))
}

async fn active(context: &mut Context, words: Words) -> Outcome {
    let bound: u64 = number(&one(words)?)?;
    Ok(list(context.services.queues.rows(&Selection::default()), |row| row.active > bound))
}

async fn delayed(context: &mut Context, words: Words) -> Outcome {
    let bound: u64 = number(&one(words)?)?;
    Ok(list(context.services.queues.rows(&Selection::default()), |row| row.delayed > bound))
}

async fn binding_active(context: &mut Context, words: Words) -> Outcome {
    let [binding, bound] = &words[..] else { return usage() };
    let bound: u64 = number(bound)?;
    Ok(list(rows_of_binding(&context.services, binding)?, |row| row.active > bound))
}

async fn binding_delayed(context: &mut Context, words: Words) -> Outcome {
    let [binding, bound] = &words[..] else { return usage() };
    let bound: u64 = number(bound)?;
    Ok(list(rows_of_binding(&context.services, binding)?, |row| row.delayed > bound))
}

fn rows_of_binding(services: &Services, binding: &str) -> Result<Vec<QueueRow>, CommandError> {
    let binding = known_binding(services, binding)?;
    Ok(services.queues.rows(&Selection { binding: Some(binding), ..Selection::default() }))
}

/// The binding's name if the configuration, or a queue that outlived it, has one.
pub(super) fn known_binding(services: &Services, name: &str) -> Result<String, CommandError> {
    let selection = Selection { binding: Some(name.to_owned()), ..Selection::default() };
    let configured = services.configuration.bindings().iter().any(|(binding, _)| binding == name);
    if configured || !services.queues.rows(&selection).is_empty() {
        Ok(name.to_owned())
    } else {
        Err(CommandError::Failed(format!("Binding '{name}' not found.")))
    }
}

/// What `mailq` was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MailqQuery {
    pub(crate) domains: Vec<String>,
    pub(crate) bindings: Vec<String>,
    /// 0: 20.
    pub(crate) limit: usize,
}

impl MailqQuery {
    /// The longest queues first.
    pub(crate) fn rows(&self, services: &Services) -> Vec<QueueRow> {
        let mut rows = services.queues.rows(&Selection::default());
        rows.retain(|row| {
            (self.domains.is_empty() || self.domains.contains(&row.domain))
                && (self.bindings.is_empty() || self.bindings.contains(&row.binding))
        });
        rows.sort_by_key(|row| std::cmp::Reverse((row.active + row.delayed + row.in_flight, row.active)));
        rows.truncate(if self.limit == 0 { 20 } else { self.limit });
        rows
    }
}

/// The JSON form of mailq, names as of Momentum's HTTP statistics.
pub(crate) fn mailq_json(rows: &[QueueRow]) -> Data {
    let items = rows.iter().map(|row| {
        Data::map([
            ("group", row.group.as_str().into()),
            ("binding", row.binding.as_str().into()),
            ("domain", row.domain.as_str().into()),
            ("aq", row.active.into()),
            ("dq", row.delayed.into()),
            ("receptions", row.receptions.into()),
            ("permfails", row.failures.into()),
            ("transfails", row.transient_failures.into()),
            ("deliveries", row.deliveries.into()),
        ])
    });
    Data::map([("QueueSummary", Data::list("Queue", items.collect::<Vec<_>>()))])
}

async fn mailq(context: &mut Context, words: Words) -> Outcome {
    let mut query = MailqQuery::default();
    let mut words = words.into_iter();
    while let Some(option) = words.next() {
        let Some(value) = words.next() else { return usage() };
        match option.as_str() {
            "-d" | "--domain" => query.domains.push(value.to_lowercase()),
            "-b" | "--binding" => query.bindings.push(value),
            "-l" | "--limit" => query.limit = number(&value)?,
            _ => return usage(),
        }
    }
    let rows = query.rows(&context.services);
    let heading = format!("{:<28}{:>30}{:>8}{:>8}", "Group/Binding", "Domain", "AQ", "DQ");
    let mut doc = Doc::new("MailQueue").line(&heading).line("-".repeat(heading.len()));
    for row in &rows {
        let place = format!("{}/{}", row.group, row.binding);
        doc.push_line(&format!("{place:<28}{:>30}{:>8}{:>8}", row.domain, row.active, row.delayed));
    }
    Ok(doc.with(mailq_json(&rows)))
}

async fn domain(context: &mut Context, words: Words) -> Outcome {
    let name = one(words)?.to_lowercase();
    let services = &context.services;
    let rows = services.queues.rows(&Selection { domain: Some(name.clone()), ..Selection::default() });
    let route = services.server.route(&name).await;
    let outbound: Vec<OutboundSession> =
        services.server.outbound().into_iter().filter(|session| session.domain == name).collect();
    let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
    let stanza = services.configuration.ask(&mut context.edit, &format!("showrecurse domain \"{quoted}\""));
    let mut doc = Doc::new("Domain");
    if let Some(stanza) = stanza.filter(|text| !text.trim().is_empty()) {
        doc.push_line(&format!("Domain \"{name}\" {{"));
        stanza.lines().for_each(|line| doc.push_line(&format!("  {line}")));
        doc.push_line("}");
    }
    match &route {
        Some(route) => show_route(&mut doc, &name, route),
        None => doc.push_line(&format!("Domain '{name}' has no routing data.")),
    }
    let failures = route.as_ref().map_or(0, |route| route.failures);
    doc.push_line(&format!("Domain has had {failures} consecutive connection failures"));
    let suspended = suspensions_of(services, &name);
    suspended.iter().for_each(|one| doc.push_line(&format!("Suspended: {}", suspension_line(one))));
    for row in &rows {
        doc.push_line(&format!("Binding: {}", row.binding));
        doc.push_line(&format!("        Active Queue: {}", row.active));
        doc.push_line(&format!("        Delayed Queue: {}", row.delayed));
    }
    let sum = total(&rows);
    if !rows.is_empty() {
        // The last such lines are the totals: that is what scripts take.
        doc.push_line(&format!("Active Queue: {}", sum.active));
        doc.push_line(&format!("Delayed Queue: {}", sum.delayed));
    }
    doc.push_line(&format!("Deliveries: {}", sum.deliveries));
    doc.push_line(&format!("Failures: {}", sum.failures));
    doc.push_line(&format!("Active Connections: {}", outbound.len()));
    for (at, session) in outbound.iter().enumerate() {
        doc.push_line(&format!(
            "[{:>2}] FD: {:>6}  IP: {:>15}  State: {} ({:.2}ms)",
            at + 1,
            session.fd,
            session.remote,
            session.state,
            session.since.as_secs_f64() * 1000.0
        ));
    }
    let mx = route.iter().flat_map(|route| &route.hosts).map(|host| {
        Data::map([
            ("@preference", host.preference.into()),
            ("@ttl", host.ttl_s.into()),
            ("Name", host.name.as_str().into()),
            ("Address", Data::list("Address", host.addresses.iter().map(|one| one.address.to_string().into()))),
        ])
    });
    let bindings = rows.iter().map(|row| {
        Data::map([
            ("Name", row.binding.as_str().into()),
            ("ActiveQueueSize", row.active.into()),
            ("DelayedQueueSize", row.delayed.into()),
        ])
    });
    let data = Data::map([
        ("Name", name.as_str().into()),
        ("MX", Data::list("MX", mx.collect::<Vec<_>>())),
        ("ConsecutiveFailures", failures.into()),
        ("Binding", Data::list("Binding", bindings.collect::<Vec<_>>())),
        ("ActiveQueueSize", sum.active.into()),
        ("DelayedQueueSize", sum.delayed.into()),
        ("Deliveries", sum.deliveries.into()),
        ("Failures", sum.failures.into()),
        ("ActiveConnections", outbound.len().into()),
    ]);
    Ok(doc.with(data))
}

fn show_route(doc: &mut Doc, name: &str, route: &DomainRoute) {
    doc.push_line(&format!("Domain '{name}' has {} MXs and a TTL of {} seconds", route.hosts.len(), route.ttl_s));
    for host in &route.hosts {
        doc.push_line(&format!("  [{} {} TTL:{}]", host.preference, host.name, host.ttl_s));
        for address in &host.addresses {
            let mark = match (address.current, address.down) {
                (true, _) => " =>",
                (false, true) => " * ",
                (false, false) => "   ",
            };
            let family = if address.address.is_ipv4() { "IPv4" } else { "IPv6" };
            let mut line = format!(
                "{mark}     [{}] {family} ({:.2}ms con {:.2}ms dlv)",
                address.address, address.connect_ms, address.delivery_ms
            );
            if let Some(since) = address.since_failure {
                // Writing into a String cannot fail.
                let _ = write!(line, " {:.2}s since failure", since.as_secs_f64());
            }
            doc.push_line(&line);
        }
        for (domain, preference) in &host.also {
            doc.push_line(&format!("                (also used by {domain} pref {preference})"));
        }
    }
}

async fn domains(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let rows = by_domain(context.services.queues.rows(&Selection::default()));
    let mut doc = Doc::new("Domains").line("Domain summary:");
    rows.iter().for_each(|row| doc.push_line(&domain_line(row)));
    let sum = total(&rows);
    doc.push_line(&format!(
        "Totals: C: {:>3}  A: {:>6}  D: {:>6}  S: {:>6}",
        sum.connections, sum.active, sum.delayed, sum.deliveries
    ));
    Ok(doc.with(Data::list("DomainSummary", rows.iter().map(domain_data).collect::<Vec<_>>())))
}

/// The queues that `domain D`, `binding B` or `all` names, and what follows.
fn selected(
    services: &Services,
    words: &[String],
    check: fn(&Services, &str) -> Result<String, CommandError>,
) -> Result<(Selection, String, Vec<String>), CommandError> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let owned = |rest: &[&str]| rest.iter().map(|word| (*word).to_owned()).collect();
    match &words[..] {
        ["all", rest @ ..] => Ok((Selection::default(), "all".to_owned(), owned(rest))),
        ["domain", domain, rest @ ..] => {
            let domain = domain.to_lowercase();
            Ok((Selection { domain: Some(domain.clone()), ..Selection::default() }, domain, owned(rest)))
        }
        ["binding", binding, rest @ ..] => {
            let binding = check(services, binding)?;
            Ok((Selection { binding: Some(binding.clone()), ..Selection::default() }, binding, owned(rest)))
        }
        _ => usage(),
    }
}

async fn suspend(context: &mut Context, words: Words) -> Outcome {
    let services = &context.services;
    let (selection, name, mut rest) = selected(services, &words, known_binding)?;
    let span_s: Option<u64> = rest.first().and_then(|word| word.parse().ok());
    if span_s.is_some() {
        rest.remove(0);
    }
    let since = services.clock.now();
    let until = span_s.map(|span_s| since.plus_secs(span_s));
    let suspension = Suspension { selection, since, until, by: context.user.clone(), note: rest.join(" ") };
    services.queues.suspend(&suspension).await.map_err(CommandError::Failed)?;
    Ok(Doc::say(match span_s {
        Some(span_s) => format!("{name} suspended for {span_s} seconds."),
        None => format!("{name} suspended."),
    }))
}

async fn resume(context: &mut Context, words: Words) -> Outcome {
    // The binding may be gone from the configuration, and its suspension still be there.
    let (selection, name, rest) = selected(&context.services, &words, |_, name| Ok(name.to_owned()))?;
    none(&rest)?;
    match context.services.queues.resume(&selection).await.map_err(CommandError::Failed)? {
        true => Ok(Doc::say(format!("{name} resumed."))),
        false => Err(CommandError::Failed(format!("{name} was not suspended."))),
    }
}

async fn suspensions(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let all = context.services.queues.suspensions();
    let mut doc = Doc::new("Suspensions");
    all.iter().for_each(|one| doc.push_line(&suspension_line(one)));
    doc.push_line(&format!("{} suspensions", all.len()));
    Ok(doc.with(Data::list("Suspension", all.iter().map(suspension_data))))
}

/// `domain D since T by U until T: note`.
fn suspension_line(one: &Suspension) -> String {
    let Selection { group, binding, domain, .. } = &one.selection;
    let mut line = String::new();
    for (kind, name) in [("group", group), ("binding", binding), ("domain", domain)] {
        if let Some(name) = name {
            line += &format!("{kind} {name} ");
        }
    }
    if line.is_empty() {
        line.push_str("all ");
    }
    line += &format!("since {}", local_time(one.since));
    if !one.by.is_empty() {
        line += &format!(" by {}", one.by);
    }
    match one.until {
        Some(until) => line += &format!(" until {}", local_time(until)),
        None => line.push_str(" until resumed"),
    }
    if !one.note.is_empty() {
        line += &format!(": {}", one.note);
    }
    line
}

fn suspension_data(one: &Suspension) -> Data {
    let text = |text: &Option<String>| text.as_deref().map_or(Data::Empty, Data::from);
    Data::map([
        ("Group", text(&one.selection.group)),
        ("Binding", text(&one.selection.binding)),
        ("Domain", text(&one.selection.domain)),
        ("Since", one.since.secs().into()),
        ("Until", one.until.map_or(Data::Empty, |until| until.secs().into())),
        ("By", one.by.as_str().into()),
        ("Note", one.note.as_str().into()),
    ])
}

/// The suspensions that concern a domain, in whatever binding.
fn suspensions_of(services: &Services, domain: &str) -> Vec<Suspension> {
    let mut all = services.queues.suspensions();
    all.retain(|one| one.selection.domain.as_ref().is_none_or(|suspended| suspended == domain));
    all
}

async fn refresh(context: &mut Context, words: Words) -> Outcome {
    let name = one(words)?.to_lowercase();
    context.services.server.refresh((name != "all").then_some(name.as_str()));
    Ok(Doc::say(if name == "all" { "All domains refreshed.".to_owned() } else { format!("{name} refreshed.") }))
}
