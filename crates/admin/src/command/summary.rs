//! `summary` and `binding summary`: what the server did and does, in the labels and order that scripts parse.

use super::{Command, CommandError, Context, Outcome, Words, command, none};
use crate::doc::{Data, Doc};
use crate::view::{QueueRow, Selection, Services};
use ph_eventlog::{RATE_WINDOW_S, Rates, Totals, metrics};
use ph_message::Time;
use std::borrow::Cow;

pub(super) static COMMANDS: &[Command] = &[
    command! { "summary", "[with-mobile]", Server, "Shows the statistics of the server", summary },
    command! { "summary reset", "", Server, "Sets the statistics to zero", reset },
    command! {
        "binding summary", "[NAME|SLOT|group:GROUP]", Server, "Shows the statistics of bindings", binding_summary
    },
];

/// The numbers of the whole server. Also what `/stats/summary` of the HTTP listener shows.
pub(crate) struct Summary {
    fields: Vec<Field>,
}

/// One number: its label in text, its XML name (if scripts know one), its JSON name, and its unit in text.
struct Field {
    label: &'static str,
    xml: &'static str,
    json: &'static str,
    value: Data,
    unit: &'static str,
}

impl Summary {
    pub(crate) fn of(services: &Services) -> Summary {
        let now = services.clock.now();
        let stats = services.log.stats();
        let (totals, rates) = (stats.totals(), stats.rates(now));
        let rows = services.queues.rows(&Selection::default());
        let sum = |of: fn(&QueueRow) -> u64| rows.iter().map(of).sum::<u64>();
        let (active, delayed, flying) = (sum(|row| row.active), sum(|row| row.delayed), sum(|row| row.in_flight));
        let mut domains: Vec<&str> = rows.iter().map(|row| row.domain.as_str()).collect();
        domains.sort_unstable();
        domains.dedup();
        let (inbound, outbound) = (services.server.inbound().len(), services.server.outbound().len());
        let dns = services.server.dns_stats();
        let queries = |of: &str| dns.types.iter().find(|one| one.record_type == of).map_or(0, |one| one.queries);
        let all_queries: u64 = dns.types.iter().map(|one| one.queries).sum();
        let uptime = now.since(stats.started()).as_secs();
        let field = |label, xml, json, value: Data, unit| Field { label, xml, json, value, unit };
        let messages_rate = "messages/second";
        let fields = vec![
            field("Outbound Concurrency", "OutboundConcurrency", "OutboundConcurrency", outbound.into(), ""),
            field("Inbound Concurrency", "InboundConcurrency", "InboundConcurrency", inbound.into(), ""),
            field("Active Domains", "ActiveDomains", "ActiveDomains", domains.len().into(), ""),
            field("Active Queue Size", "ActiveQueueSize", "ActiveQueueSize", active.into(), ""),
            field("Delayed Queue Size", "DelayedQueueSize", "DelayedQueueSize", delayed.into(), ""),
            field("Total Queue Size", "TotalQueueSize", "TotalQueueSize", (active + delayed + flying).into(), ""),
            field("DNS Resolver", "DNSResolver", "DNSResolver", "posthaste".into(), ""),
            field("DNS A Queries", "DNSAQueries", "DNSAQueries", queries("A").into(), ""),
            field("DNS AAAA Queries", "DNSAAAAQueries", "DNSAAAAQueries", queries("AAAA").into(), ""),
            field("DNS MX Queries", "DNSMXQueries", "DNSMXQueries", queries("MX").into(), ""),
            field("DNS TXT Queries", "DNSTXTQueries", "DNSTXTQueries", queries("TXT").into(), ""),
            field("Pending DNS Queries", "PendingDNSQueries", "PendingDNSQueries", dns.pending.into(), ""),
            field(
                "Query Rate",
                "DNSQueryRate",
                "DNSQueryRate",
                (all_queries as f64 / now.since(stats.reset_at()).as_secs_f64().max(1.0)).into(),
                "queries/second",
            ),
            field("Successfully Delivered Messages", "Deliveries", "DeliveredMessages", totals.delivered.into(), ""),
            field("Failed Messages", "Failures", "FailedMessages", totals.failed.into(), ""),
            field("Rejected Messages", "Rejections", "RejectedMessages", totals.rejected.into(), ""),
            field("Received Messages", "Receptions", "ReceivedMessages", totals.received.into(), ""),
            field("Delivery Rate", "DeliveryRate", "DeliveryRate", rates.delivery.into(), messages_rate),
            field("Reception Rate", "ReceptionRate", "ReceptionRate", rates.reception.into(), messages_rate),
            field(
                "Statistics Last Reset",
                "StatisticsLastReset",
                "StatisticsLastReset",
                now.since(stats.reset_at()).as_secs().into(),
                "seconds",
            ),
            field("Uptime", "Uptime", "Uptime", uptime.into(), "seconds"),
            // Not in the text, where scripts count lines: the rest of what XML and JSON readers know.
            field("", "Transients", "TransientFailures", totals.transient.into(), ""),
            field("", "ResidentMessages", "ResidentMessages", services.server.resident_messages().into(), ""),
            field("", "RejectionRate", "RejectionRate", rates.rejection.into(), ""),
        ];
        Summary { fields }
    }

    fn doc(&self) -> Doc {
        let mut doc = Doc::new("ServerSummary").line("Summary Statistics");
        for field in self.fields.iter().filter(|field| !field.label.is_empty()) {
            doc.push_line(&text_line(field.label, &field.value, field.unit));
        }
        doc.with(Data::Map(self.named(|field| field.xml))).with_json(self.json())
    }

    /// Names as of Momentum's HTTP statistics.
    pub(crate) fn json(&self) -> Data {
        Data::Map(self.named(|field| field.json))
    }

    fn named(&self, name: fn(&Field) -> &'static str) -> Vec<(Cow<'static, str>, Data)> {
        self.fields.iter().map(|field| (name(field).into(), field.value.clone())).collect()
    }
}

fn text_line(label: &str, value: &Data, unit: &str) -> String {
    let value = match value {
        Data::Number(value) => format!("{value:6}"),
        Data::Decimal(value) => format!("{value:6.2}"),
        Data::Text(value) => value.clone(),
        Data::Empty | Data::Bool(_) | Data::Map(_) | Data::List { .. } => String::new(),
    };
    let blank = if unit.is_empty() { "" } else { " " };
    format!("        {label}: {value}{blank}{unit}")
}

async fn summary(context: &mut Context, words: Words) -> Outcome {
    // The queues of the mobile protocols are queues as all others here: the numbers are in it already.
    if words != ["with-mobile"] {
        none(&words)?;
    }
    let mut doc = Summary::of(&context.services).doc();
    if context.debugging {
        let (lost, generation) = (metrics::LOG_LINES_LOST.value(), metrics::CONFIG_GENERATION.value());
        doc.push_line(&text_line("Log Lines Lost", &lost.into(), ""));
        doc.push_line(&text_line("Configuration Generation", &Data::Number(generation as i64), ""));
        doc.push_line(&text_line("Spool Messages", &Data::Number(metrics::SPOOL_MESSAGES.value() as i64), ""));
        doc.push_line(&text_line("Rates Look Back", &RATE_WINDOW_S.into(), "seconds"));
    }
    Ok(doc)
}

async fn reset(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    context.services.log.stats().reset(context.services.clock.now());
    context.services.server.reset_dns_stats();
    Ok(Doc::say("statistics cleared."))
}

/// The sum of a binding's queues and its totals.
struct BindingSummary {
    title: String,
    rows: QueueRow,
    totals: Totals,
}

async fn binding_summary(context: &mut Context, words: Words) -> Outcome {
    let services = &context.services;
    let bindings = services.configuration.bindings();
    let wanted = match &words[..] {
        [] => None,
        [word] => Some(word.as_str()),
        _ => return super::usage(),
    };
    let group = wanted.and_then(|word| word.strip_prefix("group:"));
    let chosen: Vec<&(String, String)> = match (wanted, group) {
        (_, Some(group)) => bindings.iter().filter(|(_, of)| of == group).collect(),
        (None, _) => bindings.iter().collect(),
        (Some(word), _) => match bindings.iter().find(|(name, _)| name == word) {
            Some(binding) => vec![binding],
            // A number is the binding's place in the configuration.
            None => word.parse::<usize>().ok().and_then(|slot| bindings.get(slot)).into_iter().collect(),
        },
    };
    if chosen.is_empty() {
        let what = if group.is_some() { "Binding group" } else { "Binding" };
        let name = group.or(wanted).unwrap_or_default();
        return Err(CommandError::Failed(format!("{what} '{name}' not found.")));
    }
    let mut summaries: Vec<BindingSummary> = chosen
        .iter()
        .map(|(name, of_group)| {
            let selection = Selection { binding: Some(name.clone()), ..Selection::default() };
            let within = group.map(|group| format!(" in Binding Group {group}")).unwrap_or_default();
            let _ = of_group;
            BindingSummary {
                title: format!("Summary Statistics For Binding {name}{within}"),
                rows: total(&services.queues.rows(&selection)),
                totals: services.log.stats().binding(name),
            }
        })
        .collect();
    let mut sum = None;
    if let Some(group) = group {
        let mut totals = Totals::default();
        let mut rows = QueueRow::default();
        for one in &summaries {
            rows = total(&[rows, one.rows.clone()]);
            totals = Totals {
                received: totals.received + one.totals.received,
                delivered: totals.delivered + one.totals.delivered,
                transient: totals.transient + one.totals.transient,
                failed: totals.failed + one.totals.failed,
                rejected: 0,
            };
        }
        sum = Some(BindingSummary { title: format!("Summary Statistics For Binding Group {group}"), rows, totals });
    }
    let now = services.clock.now();
    let (started, reset_at) = (services.log.stats().started(), services.log.stats().reset_at());
    let mut doc = Doc::new("BindingSummary");
    let mut items = Vec::new();
    for one in &summaries {
        items.push(one.show(&mut doc, now, started, reset_at));
    }
    if let Some(sum) = sum.take() {
        doc.push_line(&"*".repeat(60));
        sum.show(&mut doc, now, started, reset_at);
        summaries.push(sum);
    }
    for (item, (name, of_group)) in items.iter_mut().zip(&chosen) {
        if let Data::Map(pairs) = item {
            pairs.insert(0, ("BindingName".into(), name.as_str().into()));
            pairs.insert(1, ("BindingGroup".into(), of_group.as_str().into()));
        }
    }
    Ok(doc.with(Data::list("ServerSummary", items)))
}

impl BindingSummary {
    /// Appends the text; returns the data.
    fn show(&self, doc: &mut Doc, now: Time, started: Time, reset_at: Time) -> Data {
        let span = now.since(reset_at).as_secs_f64().max(1.0);
        let rates = Rates {
            delivery: (self.totals.delivered + self.totals.failed) as f64 / span,
            reception: self.totals.received as f64 / span,
            rejection: 0.0,
        };
        let (rows, totals) = (&self.rows, &self.totals);
        let all = rows.active + rows.delayed + rows.in_flight;
        let uptime = now.since(started).as_secs();
        let fields: [(&str, &'static str, Data, &str); 10] = [
            ("Open Connections", "OutboundConcurrency", rows.connections.into(), ""),
            ("Active Queue Size", "ActiveQueueSize", rows.active.into(), ""),
            ("Total Queue Size", "TotalQueueSize", all.into(), ""),
            ("Successfully Delivered Messages", "Deliveries", totals.delivered.into(), ""),
            ("Failed Messages", "Failures", totals.failed.into(), ""),
            ("Received Messages", "Receptions", totals.received.into(), ""),
            ("Resident Messages", "ResidentMessages", rows.in_flight.into(), ""),
            ("Delivery Rate", "DeliveryRate", rates.delivery.into(), "messages/second"),
            ("Reception Rate", "ReceptionRate", rates.reception.into(), "messages/second"),
            ("Uptime", "Uptime", uptime.into(), "seconds"),
        ];
        doc.push_line(&self.title);
        for (label, _, value, unit) in &fields {
            doc.push_line(&text_line(label, value, unit));
        }
        let mut pairs: Vec<(Cow<'static, str>, Data)> =
            fields.into_iter().map(|(_, name, value, _)| (name.into(), value)).collect();
        pairs.push(("DelayedQueueSize".into(), rows.delayed.into()));
        pairs.push(("Transients".into(), totals.transient.into()));
        Data::Map(pairs)
    }
}

/// The sum of rows; names are left empty.
pub(super) fn total(rows: &[QueueRow]) -> QueueRow {
    let sum = |of: fn(&QueueRow) -> u64| rows.iter().map(of).sum();
    QueueRow {
        connections: sum(|row| row.connections),
        active: sum(|row| row.active),
        delayed: sum(|row| row.delayed),
        in_flight: sum(|row| row.in_flight),
        deliveries: sum(|row| row.deliveries),
        failures: sum(|row| row.failures),
        transient_failures: sum(|row| row.transient_failures),
        receptions: sum(|row| row.receptions),
        ..QueueRow::default()
    }
}
